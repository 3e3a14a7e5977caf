"""DPDispatcher's classes over ours. What differs: docs/old-scripts.md."""
