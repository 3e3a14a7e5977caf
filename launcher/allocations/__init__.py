"""Allocations that the queue of a pilot asks for: what may be asked for, when it is, and what has become of it."""
