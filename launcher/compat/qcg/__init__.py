"""What only QCG-PilotJob's programs ask for; its `Manager`, `LocalManager`, `Jobs` and errors are ours, in `pilotfish.api`.

Under their old names they are served by `launcher/compat/dropin`. What differs: docs/compatibility.md.
"""
