"""How iteration schedulers spread the pilot: the recorded cases of the old system, and its rule in general."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import NotEnoughResourcesError
from pilotfish.pilot.model.iterplan import cores_plan
from pilotfish.pilot.model.job_spec import IterationScheduler

MAXIMUM = IterationScheduler("maximum-iters")


def shares(scheduler: IterationScheduler, minimum: int, count: int, available: int) -> list[int]:
    plan = cores_plan(scheduler, minimum, count, available)
    return [share for share, how_many in plan for _ in range(how_many)]


@pytest.mark.parametrize(
    ("minimum", "count", "expected"),
    [
        (1, 1, [8]),
        (1, 3, [2, 3, 3]),
        (1, 5, [1, 1, 2, 2, 2]),
        (1, 8, [1] * 8),
        (2, 9, [2, 3, 3] * 3),
        (1, 9, [1, 1, 2, 2, 2, 2, 2, 2, 2]),
        (8, 2, [8, 8]),
    ],
)
def test_maximum_iters_on_8_cores(minimum: int, count: int, expected: list[int]) -> None:
    assert shares(MAXIMUM, minimum, count, 8) == expected


def by_the_rule(minimum: int, count: int, available: int) -> list[int]:
    """Spec 10.4, iteration by iteration."""
    found: list[int] = []
    rounds = -(-count // (available // minimum))
    while rounds:
        in_round = -(-(count - len(found)) // rounds)
        rest = available
        for left in range(in_round, 0, -1):
            found.append(rest // left)
            rest -= rest // left
        rounds -= 1
    return found


@given(st.integers(1, 10), st.integers(1, 60), st.integers(10, 40))
def test_maximum_iters_follows_the_rule(minimum: int, count: int, available: int) -> None:
    assert shares(MAXIMUM, minimum, count, available) == by_the_rule(minimum, count, available)


@pytest.mark.parametrize(("parts", "count", "expected"), [(2, 4, [4] * 4), (None, 4, [2] * 4), (3, 5, [2] * 5)])
def test_split_into_on_8_cores(parts: int | None, count: int, expected: list[int]) -> None:
    assert shares(IterationScheduler("split-into", parts=parts), 1, count, 8) == expected


def test_a_million_equal_iterations_are_one_pair() -> None:
    assert list(cores_plan(MAXIMUM, 1, 10**6, 8)) == [(1, 10**6)]


def test_the_plan_of_a_billion_iterations_is_made_as_it_is_read() -> None:
    assert list(islice(cores_plan(MAXIMUM, 2, 10**9, 9), 4)) == [(2, 3), (3, 1), (2, 3), (3, 1)]


def test_a_minimum_that_never_fits_is_refused() -> None:
    with pytest.raises(NotEnoughResourcesError, match="maximum-iters leaves 8 for an iteration that needs 9"):
        cores_plan(MAXIMUM, 9, 3, 8)


def test_a_share_below_the_minimum_is_refused() -> None:
    with pytest.raises(NotEnoughResourcesError, match="split-into 4 parts leaves 2 for an iteration that needs 3"):
        cores_plan(IterationScheduler("split-into", parts=4), 3, 2, 8)


def test_a_share_of_nothing_is_refused_in_the_old_words() -> None:
    with pytest.raises(NotEnoughResourcesError) as caught:
        cores_plan(IterationScheduler("split-into", parts=9), 1, 2, 8)
    assert caught.value.what == "split-into leaves nothing for a part"
