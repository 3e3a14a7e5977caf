"""What waits for resources: one queue per *shape* (equal needs), ordered by priority, then by submission."""

# Choosing the next task looks at the heads of the shapes, never through the queue: O(shapes), whatever is queued. So there
# must not be many: jobs with a wall time limit each would make a shape each, were limits not rounded to classes (`_class`);
# and a shape without work must go, or the cost of a turn would follow from all that ever ran.
#
# When a shape goes: jobs count themselves in (`Pending`) and out (`release`), pools are dropped by Dispatch when the agent
# holds nothing of them; whoever takes the last thing away asks for a `review`, and at the end of the turn Dispatch looks at
# those alone. Rejected: to look at all shapes now and then. It is a turn that takes long for no reason that a user could
# see.

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from .job_spec import Need
from .jobs import Entry, Job, Key, Pending, Shape, ShapeKey


class Queue:
    """The shapes, one object for each distinct need and class of times."""

    def __init__(self) -> None:
        self._shapes: dict[ShapeKey, Shape] = {}
        self._to_review: list[Shape] = []

    def __len__(self) -> int:
        """How many shapes there are."""
        return len(self._shapes)

    def __iter__(self) -> Iterator[Shape]:
        return iter(self._shapes.values())

    def shape(self, need: Need, wt_s: float = 0.0, min_time_s: float | None = None) -> Shape:
        least_s = wt_s if min_time_s is None else min_time_s
        key = (need, _class(wt_s), _class(least_s))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(key, need)
        shape.wt_s = max(shape.wt_s, wt_s)
        shape.least_s = max(shape.least_s, least_s)
        return shape

    def heads(self) -> list[tuple[Key, int, Entry]]:
        """The heads of all shapes that have work, with their keys, to be used as a heap.

        Of the alternatives of a job those that are liked more come first, by the number in the middle (`order`).
        """
        heads = []
        for number, shape in enumerate(self._shapes.values()):
            head = shape.head()
            if head is not None:
                heads.append((head.key, order(head, number), head))
        return heads

    def release(self, pendings: Iterable[Pending]) -> None:
        """A job has ended: it adds nothing to its shapes any more."""
        for pending in pendings:
            for entry in pending.entries:
                entry.shape.users -= 1
                self.review(entry.shape)

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


def pending_of(job: Job, pos: int) -> Pending:
    """The Pending that position `pos` belongs to."""
    if job.grown is not None and pos in job.grown.of:
        return job.grown.of[pos]
    pendings = job.pendings
    if isinstance(pendings, Pending):
        return pendings
    return pendings[bisect_right(pendings, pos, key=lambda entry: entry[0]) - 1][1]


def all_pendings(job: Job) -> list[Pending]:
    """Each once, however many stretches of positions it has."""
    pendings = job.pendings
    grown = [] if job.grown is None else list(job.grown.pendings.values())
    if isinstance(pendings, Pending):
        return [pendings, *grown]
    return [*{id(pending): pending for _, pending in pendings}.values(), *grown]


def order(head: Entry, number: int) -> int:
    """The place of the head of shape `number` among heads of one job; `number` may be one of these, too."""
    return head.rank << 32 | number & 0xFFFFFFFF


def _class(wt_s: float) -> tuple[int, int]:
    """Limits that differ by less than a sixteenth wait together: jobs with a limit each must not mean shapes without end."""
    fraction, exponent = math.frexp(wt_s)
    return math.ceil(fraction * 32), exponent
