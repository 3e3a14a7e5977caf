"""Iteration schedulers: how the cores (or nodes) of the whole pilot are spread over the iterations of a job (spec 10.4)."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import NotEnoughResourcesError
from .job import IterationScheduler


def cores_plan(scheduler: IterationScheduler, minimum: int, count: int, available: int) -> Iterator[tuple[int, int]]:
    """(how much each gets, how many iterations) in order of iteration.

    Args:
        minimum: no iteration gets less.
        count: number of iterations.
        available: what the pilot has in all.

    Raises NotEnoughResourcesError when a share would be less than `minimum`.
    """
    minimum = max(1, minimum)
    if scheduler.name == "split-into":
        share = available // (scheduler.parts or count)
        _check(share, minimum, f"split-into {scheduler.parts or count} parts")
        return iter([(share, count)])
    _check(available, minimum, "maximum-iters")
    return _maximum_iters(minimum, count, available)


def _check(share: int, minimum: int, what: str) -> None:
    if share < minimum:
        raise NotEnoughResourcesError(f"{what} leaves {share} for an iteration that needs {minimum}")


def _maximum_iters(minimum: int, count: int, available: int) -> Iterator[tuple[int, int]]:
    """As few rounds as possible, with as many iterations as possible side by side in each."""
    rounds = -(-count // (available // minimum))
    left = count
    for number in range(rounds):
        in_round = -(-left // (rounds - number))
        left -= in_round
        # floor(rest / iterations left) for each: first the smaller share, then, for the remainder, one more.
        small, larger = divmod(available, in_round)
        if in_round > larger:
            yield small, in_round - larger
        if larger:
            yield small + 1, larger
