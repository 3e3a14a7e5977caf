"""How many tasks an agent is lent ahead."""

from __future__ import annotations

import pytest

from pilotfish.pilot.model.leases import LEAST_LOT, LENT_WORK_S, Pace


def paced(tasks: int, seconds: float, mean_s: float = 0.001) -> Pace:
    """The pace of a pool that has ended so many tasks in the time since it got its last lot."""
    pace = Pace()
    pace.next_lot(1000.0)
    for _ in range(tasks):
        pace.ran(mean_s)
    pace.next_lot(1000.0 + seconds)
    return pace


def test_nothing_is_lent_before_a_task_was_seen_to_be_short() -> None:
    assert Pace().lot(16) == 0


def test_a_lot_that_was_used_up_too_soon_is_followed_by_a_larger_one() -> None:
    assert paced(512, 0.0625).lot(16) == 2048


def test_a_lot_is_never_more_than_its_cores_can_do_in_the_time() -> None:
    assert paced(512, 0.0001, mean_s=0.0625).lot(16) == 16 * LENT_WORK_S / 0.0625


@pytest.mark.parametrize("seconds", [3600.0, 0.0, -3600.0])
def test_a_pause_or_a_clock_that_was_set_leaves_the_lot_that_any_node_may_have(seconds: float) -> None:
    assert paced(512, seconds).lot(16) == LEAST_LOT


def test_a_node_of_many_cores_comes_to_a_quarter_of_a_second_of_its_rate() -> None:
    """128 cores that end 65,536 no-ops a second, reported every sixteenth."""
    pace, now = Pace(), 1000.0
    pace.ran(0.001)
    pace.next_lot(now)
    lots = [pace.lot(128)]
    while lots[-1] < 16_384:
        for _ in range(lots[-1]):
            pace.ran(0.001)
        now += max(0.0625, lots[-1] / 65_536)
        pace.next_lot(now)
        lots.append(pace.lot(128))
    assert lots == [512, 2048, 8192, 16_384]
