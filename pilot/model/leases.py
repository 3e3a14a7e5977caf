"""What each agent holds of one shape: its grants, and the tasks sent there that have not started.

An agent may hold more tasks than grants: the *lent* ones. It starts them itself as its grants become free, which hides the
round trip to the manager. How many are lent follows from how long tasks of the pool take: about a quarter of a second of
work, so for short tasks the round trip never shows, and a long task is never stuck behind another while a core is free
elsewhere for long. What was lent and has not started after a second is taken back (see Scheduler).
"""

from __future__ import annotations

LENT_WORK_S = 0.25
MOST_LENT = 512
STALE_S = 1.0
SHORTEST_S = 0.0005
_WEIGHT = 0.2


def moving_mean(mean_s: float | None, seconds: float) -> float:
    """How long tasks take, after one more; `mean_s` None: it is the first."""
    return seconds if mean_s is None else mean_s + _WEIGHT * (seconds - mean_s)
