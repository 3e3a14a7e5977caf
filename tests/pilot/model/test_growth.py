"""What the core keeps does not grow with what has been: shapes, pools and lost attempts live only as long as they matter."""

from __future__ import annotations

import os

import pytest
from world import World, job, node

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.ids import NodeNo, TaskKey
from pilotfish.pilot.model.results import Result
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State


def test_jobs_with_needs_of_their_own_leave_nothing_behind() -> None:
    world = World(node("n", 4, mem=10_000))
    for number in range(300):
        world.submit(job(f"j{number}", mem=1_000 + number))
        world.finish(f"j{number}")
    assert world.shapes == 0
    assert world.pools == 0


def test_a_shape_lives_while_a_job_may_yet_need_it() -> None:
    """Its queue is empty and nothing of it runs, but the failed task is tried again."""
    world = World(node("n", 1))
    world.submit(job("a", retries=1))
    world.finish("a", exit_code=1)
    assert world.running == ["a"]
    assert (world.shapes, world.pools) == (1, 1)
    world.finish("a")
    assert (world.shapes, world.pools) == (0, 0)


def test_a_job_that_is_cancelled_before_it_starts_leaves_no_shape() -> None:
    world = World(node("n", 1))
    world.submit(job("running"), job("waiting", mem=0, wt_s=60.0), job("dependent", wt_s=3600.0, after=["waiting"]))
    assert world.shapes == 3
    world.cancel("waiting")
    assert world.shapes == 1
    world.run_to_end()
    assert (world.shapes, world.pools) == (0, 0)


def test_what_short_tasks_have_taught_is_kept_between_jobs_that_overlap() -> None:
    """A pool is forgotten with the last job of its shape, not each time it runs dry."""
    world = World(node("n", 1))
    world.submit(job("first", count=2), job("next"))
    world.finish("first:0", took_s=0.01)
    pool = next(iter(world.scheduler.dispatch.pools))
    world.finish("first:1", took_s=0.01)
    assert list(world.scheduler.dispatch.pools) == [pool]


def test_a_node_that_is_lost_takes_the_pools_of_its_last_jobs_with_it() -> None:
    """Both tasks have ended, but the agent has not yet given its cores back when it is lost."""
    world = World(node("n", 2))
    world.submit(job("a", count=2))
    (key, (_, grant)), *_ = world.agents[NodeNo(0)].running.items()
    world.scheduler.on_finished(key, grant, End(1, 1.0, 2.0, 0, Cause.EXITED), False, world.now)
    world.cancel("a")
    world.lose(0)
    assert (world.shapes, world.pools) == (0, 0)


@pytest.mark.timeout(300)
def test_a_turn_costs_the_same_after_very_many_jobs_with_needs_of_their_own() -> None:
    """PILOTFISH_TEST_GROWTH=100000 tries as many; what is kept is counted, not timed."""
    scheduler = Scheduler([node("n", 2, mem=1 << 40)])
    scheduler.on_node_up(NodeNo(0))
    for number in range(int(os.environ.get("PILOTFISH_TEST_GROWTH", "3000"))):
        (made,) = scheduler.submit([job(f"j{number}", mem=number + 1, wt_s=1.0 + number)], 1000.0)
        scheduler.plan(1000.0)
        (grant,) = scheduler.take_decisions().orders[NodeNo(0)].grants
        end = End(1, 1000.0, 1001.0, 0, Cause.EXITED)
        scheduler.on_finished(TaskKey(made.no, 0, 1), grant.grant_id, end, True, 1001.0)
        scheduler.remove(made)
        scheduler.plan(1001.0)
        scheduler.take_decisions()
        assert (len(scheduler.queue), len(scheduler.dispatch.pools)) == (0, 0)
    invariants.check(scheduler)
    assert (len(scheduler.dispatch.grants), len(scheduler.dispatch.attempts), len(scheduler.jobs)) == (0, 0, 0)


def _lost(world: World) -> int:
    return len(world.scheduler.lost)


def test_what_was_lost_is_forgotten_when_its_task_is_over() -> None:
    """Again and again a node is cut off for good, and its work done elsewhere."""
    world = World(node("n", 2), node("m", 2), crash_limit=1000)
    for number in range(50):
        world.submit(job(f"j{number}", count=2))
        here = 0 if world.running_on(0) else 1
        world.cut(here)
        assert _lost(world) > 0
        world.run_to_end()
        assert _lost(world) == 0
        world.revive(here)


def test_nothing_is_kept_of_an_agent_that_is_known_to_have_ended() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=2))
    world.lose(0)
    assert _lost(world) == 0


def test_what_was_lost_is_forgotten_when_another_agent_serves_the_node() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a", count=2))
    world.cut(0)
    assert _lost(world) == 1
    world.revive(0)
    assert _lost(world) == 0


def test_what_was_lost_is_forgotten_when_the_agent_has_told_all_it_has() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a", count=2))
    world.cut(0)
    world.cut(1)
    assert _lost(world) == 2
    world.come_back(0)
    assert _lost(world) == 1


def test_what_was_lost_is_forgotten_when_the_node_is_given_up() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a", count=2))
    world.cut(0)
    world.scheduler.on_node_given_up(NodeNo(0), world.now)
    assert _lost(world) == 0


def test_what_was_lost_is_forgotten_when_the_node_leaves() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a", count=2))
    world.cut(0)
    world.leave(0)
    assert _lost(world) == 0


@pytest.mark.parametrize("pos", [None, 0])
def test_what_was_lost_is_forgotten_when_its_task_is_cancelled(pos: int | None) -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=2))
    world.cut(0)
    assert _lost(world) == 1
    world.cancel("a", pos)
    assert _lost(world) == 0


def test_a_journal_of_many_losses_leaves_nothing_lost_of_tasks_that_are_over() -> None:
    """Sent and lost ten times, then done: what a resume keeps is no more than what the manager kept that wrote it."""
    again = Scheduler([node("n", 1)], crash_limit=100)
    (made,) = again.replay_submitted([job("a")], 1000.0)
    for run in range(1, 11):
        key = TaskKey(made.no, 0, run)
        again.recovery.replay_sent(NodeNo(0), key, 1000.0)
        state, cause = (State.SUCCEED, Cause.EXITED) if run == 10 else (State.QUEUED, Cause.LOST)
        result = Result(*key, state, cause, 0, 1, 1000.0, 1000.0, 1001.0, 0.0, 0, "", ())
        again.recovery.replay_result(result)
    assert len(again.lost) == 0
    invariants.check(again)
