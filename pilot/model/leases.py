"""How many tasks an agent is lent beyond its grants.

An agent may hold more tasks than grants: the *lent* ones. It starts them itself as its grants become free, which hides the
round trip to the manager. How many are lent follows from what the node gets through: about LENT_WORK_S of work, so for short
tasks the round trip never shows, and a long task is never stuck behind another while a core is free elsewhere for long.
What was lent and has not started after STALE_S is taken back (see Scheduler).

Tasks that take longer are not lent, with one exception: a pilot so large that MANY_ENDS of them end a second. There each core
would wait for the manager, which reads thousands of ends and answers each (1,000 nodes of 64 cores with tasks of 4 s were busy
for 75 % of the time). So each core may have its next task, as long as no other can go idle for it: nothing else waits, and more
of them wait than there are grants, so that whatever gets free elsewhere has its next task in the queue. What is lent is taken
back when something else waits, or a core is free after all.

Two measures bound a lot, and the smaller counts:

* how long tasks of the pool take: `grants * LENT_WORK_S / mean`. It adapts within a few tasks, but knows nothing of what
  starting them costs, nor of a manager that is busy with a thousand other nodes;
* how many tasks the pool has ended a second since its last lot. It starts from LEAST_LOT, which any node may have, because
  a node that got little cannot show what it could do. A node that uses a lot up too soon gets a larger one: 16 cores that
  end 15,000 no-ops a second come from 512 to 3,750 in two or three lots. All lots together stay below LEAST_LOT for each
  node plus LENT_WORK_S of what the manager gets through, which bounds its memory.

Rejected: a constant for each node (512 held a node of 16 cores at 10,000 a second, with its workers idle for 80 % of the
time); a constant for each core (1,000 nodes of 64 cores would hold millions of tasks that no manager could have ended in
the time).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .ids import TaskKey

LENT_WORK_S = 0.25
LEAST_LOT = 512
STALE_S = 1.0
SHORTEST_S = 0.0005
MANY_ENDS = 2_000
_WEIGHT = 0.2


def moving_mean(mean_s: float | None, seconds: float) -> float:
    """Mean duration including one more task of `seconds`; `mean_s` None: it is the first."""
    return seconds if mean_s is None else mean_s + _WEIGHT * (seconds - mean_s)


class Pace:
    """How fast one agent gets through the tasks of one shape."""

    __slots__ = ("_ended", "_mean_s", "_most", "_since_s")

    def __init__(self) -> None:
        self._mean_s: float | None = None
        self._most = LEAST_LOT
        self._ended = 0
        """Tasks that have ended since `_since_s`, when the last lot was given (0.0: none was)."""
        self._since_s = 0.0

    @property
    def mean_s(self) -> float | None:
        """How long they have taken of late; None while none has ended."""
        return self._mean_s

    def ran(self, seconds: float) -> None:
        """Count a task that has run for `seconds`."""
        mean_s = self._mean_s
        self._mean_s = seconds if mean_s is None else mean_s + _WEIGHT * (seconds - mean_s)
        self._ended += 1

    def all_ran(self, durations: Sequence[float]) -> None:
        """`ran` for each of them."""
        mean_s = self._mean_s
        for seconds in durations:
            mean_s = seconds if mean_s is None else mean_s + _WEIGHT * (seconds - mean_s)
        self._mean_s = mean_s
        self._ended += len(durations)

    def distrust(self) -> None:
        """The estimate was wrong (lent tasks went stale): they are long, until short ones have been seen again."""
        self._mean_s = max(self._mean_s or 0.0, STALE_S)

    @property
    def are_long(self) -> bool:
        """Whether tasks are known to take so long that they are lent only in the exceptional case."""
        return self._mean_s is not None and self._mean_s > LENT_WORK_S

    def lot(self, grants: int) -> int:
        """How many tasks an agent with `grants` grants may have waiting; 0 while their duration is not known."""
        if self._mean_s is None:
            return 0
        if self.are_long:
            return grants
        return min(self._most, int(grants * LENT_WORK_S / max(self._mean_s, SHORTEST_S)))

    def are_many(self, cores: int) -> bool:
        """Whether `cores` cores would end MANY_ENDS of these tasks a second."""
        return self._mean_s is not None and cores >= MANY_ENDS * self._mean_s

    def next_lot(self, now: float) -> None:
        """The last lot is half used up: adapt to how long that took."""
        if 0.0 < self._since_s < now:
            self._most = max(LEAST_LOT, int(self._ended / (now - self._since_s) * LENT_WORK_S))
        self._ended, self._since_s = 0, now


class Leases:
    """What one agent has of one kind of work: grants, and tasks that have not started, those lent ahead among them."""

    # A task is in `unstarted` from when it is sent until its agent has reported it. They are in the order sent: the first
    # has waited longest, and `stale` looks at no other.

    __slots__ = ("grants", "latest_s", "pace", "revoking", "unstarted")

    def __init__(self) -> None:
        self.grants = 0
        self.latest_s = 0.0
        """When a task was last sent."""
        self.unstarted: dict[TaskKey, float] = {}
        """Tasks sent and not known to have started, in the order sent, with the time of sending (`Dispatch.uptime`)."""
        self.revoking: set[TaskKey] = set()
        """Asked back and not yet known to have started, ended or come back: nothing more is lent meanwhile."""
        self.pace = Pace()

    @property
    def is_empty(self) -> bool:
        """The agent holds nothing of it."""
        return not self.grants and not self.unstarted

    def gone(self, key: TaskKey) -> None:
        """The attempt has started, ended or come back."""
        self.unstarted.pop(key, None)
        self.revoking.discard(key)

    def all_gone(self, keys: Iterable[TaskKey]) -> None:
        """`gone` for each of them."""
        for key in keys:
            self.unstarted.pop(key, None)
        if self.revoking:
            self.revoking.difference_update(keys)

    def room(self, now: float) -> int:
        """How many more tasks to lend now; 0 until it is worth a frame."""
        lot, have = self.pace.lot(self.grants), len(self.unstarted)
        if not lot or self.revoking or have > lot // 2:
            return 0
        self.pace.next_lot(now)
        return max(0, self.pace.lot(self.grants) - have)

    def stale(self, now: float) -> bool:
        """Whether the task that waits longest here has waited too long for one that was lent."""
        return bool(self.unstarted) and now - next(iter(self.unstarted.values())) > STALE_S
