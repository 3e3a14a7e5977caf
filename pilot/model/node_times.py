"""When nodes that came with an allocation of their own are to have ended their tasks, and which are over by a given time."""

from __future__ import annotations

from bisect import bisect_left

from .ids import NodeNo


class NodeTimes:
    """Asked for each task that starts, so the answer is looked up in a list of times with the nodes that are over by each."""

    def __init__(self) -> None:
        self._of: dict[NodeNo, float] = {}
        self._times: list[float] = []
        """Each once, in order."""
        self._over_by: list[int] = []
        """The set of nodes that are over by each of `_times`."""
        self._is_stale = False

    def __bool__(self) -> bool:
        """Whether any node ends by itself."""
        return bool(self._of)

    def __getitem__(self, node: NodeNo) -> float | None:
        """None: it ends with the pilot."""
        return self._of.get(node)

    def set(self, node: NodeNo, until_s: float) -> None:
        """All tasks on this node are to be over by then."""
        self._of[node] = until_s
        self._is_stale = True

    def forget(self, node: NodeNo) -> None:
        if self._of.pop(node, None) is not None:
            self._is_stale = True

    def over_before(self, time_s: float) -> int:
        """The set of nodes whose tasks must be over before that."""
        if self._is_stale:
            self._order()
        place = bisect_left(self._times, time_s)
        return self._over_by[place - 1] if place else 0

    def _order(self) -> None:
        of_time: dict[float, int] = {}
        for node, until_s in self._of.items():
            of_time[until_s] = of_time.get(until_s, 0) | 1 << node
        self._times, self._over_by, over = sorted(of_time), [], 0
        for until_s in self._times:
            over |= of_time[until_s]
            self._over_by.append(over)
        self._is_stale = False
