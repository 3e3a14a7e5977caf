"""Outside the allocation: describe tasks, place them on a machine, come back to the results."""
