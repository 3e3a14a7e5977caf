"""What waits for resources: one queue per *shape* (equal needs), ordered by priority, then by submission.

Choosing the next task looks at the heads of the shapes, never through the queue: O(shapes), whatever is queued.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from .ids import NodeNo
from .job import Need
from .leases import Pool
from .states import State

if TYPE_CHECKING:
    from .registry import Job

Key = tuple[int, int]
"""Order of waiting work: (-priority, job number); smaller is earlier."""


class Pending:
    """The positions of one job, all with the same need, that may be taken: a range with a cursor, and those that came back.

    Nothing can be taken before `open_range` or `put_back`. A position that is no longer QUEUED (cancelled) is skipped when
    the cursor gets there; whoever changes its state calls `withdrawn`.
    """

    __slots__ = ("_back", "_ranges", "blocked_since", "job", "listed", "live", "shape")

    def __init__(self, job: Job, shape: Shape, ranges: tuple[tuple[int, int], ...]) -> None:
        self.job = job
        self.shape = shape
        shape.users += 1
        self.live = 0
        """How many positions can be taken now."""
        self.listed = False
        self.blocked_since: float | None = None
        self._ranges = ranges
        self._back: list[int] | None = None

    @property
    def key(self) -> Key:
        return (-self.job.spec.priority, self.job.no)

    def open_range(self) -> None:
        """Make all queued positions of the range available."""
        self.live = sum(self.job.tasks.queued(start, stop) for start, stop in self._ranges)

    def clear_range(self) -> None:
        """Nothing of the range is available by itself: positions come one by one through `put_back`."""
        self._ranges = ()
        self.live = 0

    def put_back(self, pos: int) -> None:
        if self._back is None:
            self._back = []
        heappush(self._back, pos)
        self.live += 1

    def withdrawn(self) -> None:
        """One of the available positions has left the state QUEUED otherwise than by `take`."""
        self.live -= 1

    def take(self) -> int:
        """The lowest available position; only when `live` is not 0. The caller changes its state at once."""
        self.live -= 1
        state = self.job.tasks.state
        while self._back:
            pos = heappop(self._back)
            if state(pos) is State.QUEUED:
                return pos
        while True:
            (start, stop), *rest = self._ranges
            pos = start
            while pos < stop and state(pos) is not State.QUEUED:
                pos += 1
            if pos < stop:
                self._ranges = ((pos + 1, stop), *rest)
                return pos
            self._ranges = tuple(rest)


Pendings = Pending | tuple[tuple[int, Pending], ...]
"""What a job has waiting: one Pending for all positions, or (first position, Pending) in order."""


def pending_of(pendings: Pendings, pos: int) -> Pending:
    """The Pending that position `pos` belongs to."""
    if isinstance(pendings, Pending):
        return pendings
    return pendings[bisect_right(pendings, pos, key=lambda entry: entry[0]) - 1][1]


def all_pendings(pendings: Pendings) -> list[Pending]:
    """Each once, however many stretches of positions it has."""
    if isinstance(pendings, Pending):
        return [pendings]
    return list({id(pending): pending for _, pending in pendings}.values())


ShapeKey = tuple[Need, tuple[int, int]]
"""What tasks must have in common to wait together: their need, and the class of their wall time limit."""


class Shape:
    """All waiting work with one need and much the same wall time limit, and the pools that run it.

    It lives as long as a job may have something to add, or an agent holds something of it: `Queue.release` and
    `Queue.forget`. A shape without work that stayed would cost each later turn its share.
    """

    __slots__ = ("_heap", "key", "need", "pools", "users", "wt_s")

    def __init__(self, key: ShapeKey, need: Need, wt_s: float) -> None:
        self.key = key
        self.need = need
        self.wt_s = wt_s
        """How long its tasks may take at most; 0 when they do not say."""
        self.users = 0
        """How many `Pending`s of jobs that have not ended belong here."""
        self.pools: dict[NodeNo, Pool] = {}
        self._heap: list[tuple[Key, Pending]] = []

    def add(self, pending: Pending) -> None:
        """Note that `pending` has something to take; harmless when it is noted already or has nothing."""
        if pending.live and not pending.listed:
            pending.listed = True
            heappush(self._heap, (pending.key, pending))

    def head(self) -> Pending | None:
        """The earliest entry with something to take."""
        while self._heap:
            pending = self._heap[0][1]
            if pending.live:
                return pending
            heappop(self._heap)
            pending.listed = False
        return None


class Queue:
    """The shapes, one object for each distinct need and class of wall time limits."""

    def __init__(self) -> None:
        self._shapes: dict[ShapeKey, Shape] = {}
        self._to_review: list[Shape] = []

    def __len__(self) -> int:
        """How many shapes there are."""
        return len(self._shapes)

    def __iter__(self) -> Iterator[Shape]:
        return iter(self._shapes.values())

    def shape(self, need: Need, wt_s: float = 0.0) -> Shape:
        key = (need, _class(wt_s))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(key, need, wt_s)
        shape.wt_s = max(shape.wt_s, wt_s)
        return shape

    def heads(self) -> list[tuple[Key, int, Pending]]:
        """The heads of all shapes that have work, with their keys, to be used as a heap."""
        found = []
        for number, shape in enumerate(self._shapes.values()):
            head = shape.head()
            if head is not None:
                found.append((head.key, number, head))
        return found

    def release(self, pendings: Pendings) -> None:
        """A job has ended: it adds nothing to its shapes any more."""
        for pending in all_pendings(pendings):
            pending.shape.users -= 1
            self.review(pending.shape)

    def review(self, shape: Shape) -> None:
        """Look at the end of this turn whether anything needs the shape any more."""
        if not shape.users:
            self._to_review.append(shape)

    def take_to_review(self) -> list[Shape]:
        to_review, self._to_review = self._to_review, []
        return to_review

    def forget(self, shape: Shape) -> None:
        """Nothing waits, runs or is held in this shape any more."""
        del self._shapes[shape.key]


def _class(wt_s: float) -> tuple[int, int]:
    """Limits that differ by less than a sixteenth wait together: jobs with a limit each must not mean shapes without end."""
    fraction, exponent = math.frexp(wt_s)
    return math.ceil(fraction * 32), exponent
