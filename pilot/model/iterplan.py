"""Iteration schedulers: how the cores (or nodes) of the whole pilot are spread over the iterations of a job."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from .errors import NotEnoughResourcesError, SplitToZeroError
from .job_spec import IterationScheduler


def cores_plan(scheduler: IterationScheduler, minimum: int, count: int, available: int) -> Iterator[tuple[int, int]]:
    """(how much each gets, how many iterations) in order of iteration; neighbours differ in what they get.

    Args:
        minimum: no iteration gets less.
        count: number of iterations.
        available: what the pilot has in all.

    Raises NotEnoughResourcesError, before the first pair, when a share would be less than `minimum`.
    """
    minimum = max(1, minimum)
    if scheduler.name == "split-into":
        parts = scheduler.parts or count
        share = available // parts
        if share == 0:
            raise SplitToZeroError(
                "split-into leaves nothing for a part", remedy=f"there are {available} for {parts} parts"
            )
        _check(share, minimum, f"split-into {parts} parts")
        return iter([(share, count)])
    _check(available, minimum, "maximum-iters")
    return _joined(_rounds(minimum, count, available))


def _check(share: int, minimum: int, what: str) -> None:
    if share < minimum:
        raise NotEnoughResourcesError(f"{what} leaves {share} for an iteration that needs {minimum}")


def _rounds(minimum: int, count: int, available: int) -> Iterator[tuple[int, int]]:
    """As few rounds as possible, with as many iterations as possible side by side in each."""
    rounds = -(-count // (available // minimum))
    left = count
    for number in range(rounds):
        in_round = -(-left // (rounds - number))
        left -= in_round
        # floor(rest / iterations left) for each: first the smaller share, then, for the remainder, one more.
        small, larger = divmod(available, in_round)
        yield small, in_round - larger
        if larger:
            yield small + 1, larger


def _joined(pairs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for share, same in groupby(pairs, key=itemgetter(0)):
        yield share, sum(how_many for _, how_many in same)
