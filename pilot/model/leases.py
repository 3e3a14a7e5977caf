"""What each agent holds of one shape: its grants, and the tasks sent there that have not started.

An agent may hold more tasks than grants: the *lent* ones. It starts them itself as its grants become free, which hides the
round trip to the manager. How many are lent follows from how long tasks of the pool take: about a quarter of a second of
work, so for short tasks the round trip never shows, and a long task is never stuck behind another while a core is free
elsewhere for long. What was lent and has not started after a second is taken back (see Scheduler).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ids import NodeNo, PoolId, TaskKey

if TYPE_CHECKING:
    from .queue import Shape

LENT_WORK_S = 0.25
MOST_LENT = 512
STALE_S = 1.0
_SHORTEST_S = 0.0005
_WEIGHT = 0.2


def moving_mean(mean_s: float | None, seconds: float) -> float:
    """How long tasks take, after one more; `mean_s` None: it is the first."""
    return seconds if mean_s is None else mean_s + _WEIGHT * (seconds - mean_s)


class Pool:
    """The grants and unstarted tasks of one shape on one node."""

    __slots__ = ("_mean_s", "grants", "node", "pool_id", "revoking", "shape", "unstarted")

    def __init__(self, pool_id: PoolId, node: NodeNo, shape: Shape) -> None:
        self.pool_id = pool_id
        self.node = node
        self.shape = shape
        self.grants = 0
        self.unstarted: dict[TaskKey, float] = {}
        """Tasks sent and not known to have started, in the order sent, with the time of sending."""
        self.revoking: set[TaskKey] = set()
        """Asked back and not yet known to have started, ended or come back: nothing more is lent meanwhile."""
        self._mean_s: float | None = None

    @property
    def is_empty(self) -> bool:
        """The agent holds nothing of it."""
        return not self.grants and not self.unstarted

    def ran(self, seconds: float) -> None:
        """Learn from a task that took this long."""
        self._mean_s = moving_mean(self._mean_s, seconds)

    def gone(self, key: TaskKey) -> None:
        """The attempt has started, ended or come back."""
        self.unstarted.pop(key, None)
        self.revoking.discard(key)

    def distrust(self) -> None:
        """The estimate was wrong (lent tasks went stale): lend nothing until short tasks have been seen again."""
        self._mean_s = max(self._mean_s or 0.0, STALE_S)

    def room(self) -> int:
        """How many more tasks to lend now; 0 until it is worth a frame."""
        if self._mean_s is None or self._mean_s > LENT_WORK_S or self.revoking:
            return 0
        target = min(MOST_LENT, int(self.grants * LENT_WORK_S / max(self._mean_s, _SHORTEST_S)))
        have = len(self.unstarted)
        return target - have if have <= target // 2 else 0

    def stale(self, now: float) -> bool:
        """Whether the task that waits longest here has waited too long for one that was lent."""
        return bool(self.unstarted) and now - next(iter(self.unstarted.values())) > STALE_S
