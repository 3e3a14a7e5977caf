"""What DPDispatcher's commands do, as functions."""
