"""clusterjob's job scripts and results over ours. What differs: docs/old-scripts.md."""
