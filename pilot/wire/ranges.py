"""How large the numbers may be that agents report: what the columns, the journal, the report and replies can hold."""

from __future__ import annotations

MOST = 2**53
"""Whole numbers beyond it are not exact everywhere."""
LATEST_S = 1e11
"""Seconds since the epoch: the year 5138. Python's dates end in the year 9999, a little earlier in some time zones."""
MOST_PID = 2**31 - 1
EXIT_CODES = (-128, 255)
"""From signals to the largest exit status."""
MOST_RUNS = 2**16 - 1
"""Attempts at one task."""
