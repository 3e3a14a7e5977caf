"""Pilotfish in the place of what workflow managers know: they use a pilot without knowing it."""
