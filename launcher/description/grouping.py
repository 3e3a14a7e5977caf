"""Which tasks make one job: DPDispatcher's shuffle, on a generator of our own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from .schema import InconsistentError

_SEED = 42
_Member = TypeVar("_Member")


def groups(count: int, size: int) -> list[tuple[int, ...]]:
    """Positions of `count` tasks, shuffled and cut into jobs of `size` (0: one job).

    The same order as DPDispatcher gives with `random.seed(42)`, so hashes of jobs agree; the caller's generator is not
    touched. Raises InconsistentError without tasks or for a negative size.
    """
    if count < 1:
        raise InconsistentError("submission must have at least 1 task", where="task_list")
    if size < 0:
        raise InconsistentError(
            "group_size must be a positive number", where="resources.group_size", remedy="or 0 for one job"
        )
    order = list(range(count))
    random.Random(_SEED).shuffle(order)
    step = size or count
    return [tuple(order[start : start + step]) for start in range(0, count, step)]


def ungrouped(members: Sequence[_Member], size: int) -> list[_Member]:
    """The members of all groups, in the order that they had before `groups` put them into these."""
    order = [position for group in groups(len(members), size) for position in group]
    return [member for _, member in sorted(zip(order, members, strict=True), key=lambda pair: pair[0])]
