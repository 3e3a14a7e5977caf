"""How many tasks an agent is lent ahead."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Decisions
from pilotfish.pilot.model.ids import GrantId
from pilotfish.pilot.model.job_spec import JobSpec
from pilotfish.pilot.model.leases import LEAST_LOT, LENT_WORK_S, Pace
from pilotfish.pilot.model.states import Cause


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


class LargePilot:
    """64 nodes of 64 cores with tasks that take 2 s: as many as MANY_ENDS a second. Each core has had its first."""

    def __init__(self, *more: JobSpec) -> None:
        self.world = World(*(node(f"n{number}", 64) for number in range(64)))
        self.scheduler = self.world.scheduler
        self.scheduler.submit([job("a", count=20_000), *more], self.world.now)
        self.turn()
        for attempt in list(self.scheduler.dispatch.attempts.values()):
            self.scheduler.on_started(attempt.key, GrantId(0), 4711, self.world.now)

    def turn(self) -> Decisions:
        self.scheduler.plan(self.world.now)
        return self.scheduler.take_decisions()

    def end_one_on_each_node(self, took_s: float = 2.0) -> None:
        """The grants come back with the ends."""
        now = self.world.now = self.world.now + took_s
        grants = {grant.shares[0].node: grant for grant in self.scheduler.dispatch.grants.values()}
        attempts = {attempt.node: attempt for attempt in self.scheduler.dispatch.attempts.values()}
        for number, grant in grants.items():
            end = End(4711, now - took_s, now, 0, Cause.EXITED)
            self.scheduler.on_finished(attempts[number].key, grant.grant_id, end, True, now)

    @property
    def beyond_grants(self) -> int:
        return len(self.scheduler.dispatch.attempts) - len(self.scheduler.dispatch.grants)


def test_each_core_of_a_large_pilot_has_its_next_long_task() -> None:
    pilot = LargePilot()
    pilot.end_one_on_each_node()
    pilot.turn()
    assert 64 * 32 <= pilot.beyond_grants <= 64 * 64


def test_long_tasks_are_not_lent_where_other_work_waits() -> None:
    pilot = LargePilot(job("b", 64, 64))
    pilot.end_one_on_each_node()
    pilot.turn()
    assert pilot.beyond_grants == 0


def test_lent_long_tasks_stay_until_other_work_comes() -> None:
    pilot = LargePilot()
    pilot.end_one_on_each_node()
    pilot.turn()
    pilot.world.now += 3.0
    pilot.scheduler.on_time(pilot.world.now)
    assert not any(orders.revokes for orders in pilot.turn().orders.values())
    pilot.scheduler.submit([job("b", 64, 64)], pilot.world.now)
    pilot.scheduler.on_time(pilot.world.now)
    assert sum(len(orders.revokes) for orders in pilot.turn().orders.values()) >= 64 * 32
