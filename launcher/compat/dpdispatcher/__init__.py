"""What only DPDispatcher's scripts ask for: a class for each batch system and context, other names, old helpers.

`Machine`, `Resources`, `Task`, `Job` and `Submission` themselves are ours (`pilotfish.Machine` and so on). What is here has no
state and no behaviour of its own. What differs: docs/old-scripts.md.
"""
