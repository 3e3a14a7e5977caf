"""pilot/model/lifecycle.py: what a cancel, an end or a loss makes of a task, and of those that wait for it."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model.decisions import each_change
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.states import AttemptState, Cause


def test_one_running_iteration_is_stopped_when_it_is_cancelled_and_the_others_go_on() -> None:
    world = World(node("n", 3))
    world.submit(job("a", count=3))
    world.cancel("a", 1)
    assert world.states("a") == ["EXECUTING", "CANCELED", "EXECUTING"]
    assert world.running == ["a:0", "a:2"]
    world.run_to_end()
    assert (world.states("a"), world.state("a")) == (["SUCCEED", "CANCELED", "SUCCEED"], "FAILED")


def test_a_task_that_is_cancelled_twice_is_told_to_stop_once() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    scheduler, a = world.scheduler, world.scheduler.jobs.get("a")
    scheduler.cancel_task(a, 0, world.now)
    scheduler.cancel_task(a, 0, world.now)
    (key,) = scheduler.dispatch.attempts
    assert scheduler.take_decisions().orders[NodeNo(0)].kills == [key]


def test_a_cancelled_task_is_cancelled_although_it_succeeds_before_it_is_stopped() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    world.scheduler.cancel_task(world.scheduler.jobs.get("a"), 0, world.now)
    world.finish("a", exit_code=0)
    assert world.state("a") == "CANCELED"


def test_a_cancelled_task_is_cancelled_although_its_node_is_lost_meanwhile() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a"))
    world.scheduler.cancel_task(world.scheduler.jobs.get("a"), 0, world.now)
    world.lose(0)
    assert (world.state("a"), world.running) == ("CANCELED", [])


def test_a_start_that_is_told_after_the_cancel_is_told_on() -> None:
    world = World(node("n", 1))
    scheduler = world.scheduler
    scheduler.submit([job("a")], world.now)
    scheduler.plan(world.now)
    (grant,) = scheduler.take_decisions().orders[NodeNo(0)].grants
    scheduler.cancel(scheduler.jobs.get("a"), world.now)
    (attempt,) = scheduler.dispatch.attempts.values()
    for _ in range(2):
        scheduler.on_started(attempt.key, grant.grant_id, 7, world.now)
    assert (attempt.state, world.state("a")) == (AttemptState.CANCELING, "EXECUTING")
    assert [change.state.name for change in each_change(scheduler.take_decisions().changes)] == ["EXECUTING"]


def test_tasks_that_are_stopped_because_the_pilot_ends_wait_again_and_are_counted() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=2))
    world.scheduler.on_stopping()
    (key, (_, grant)), _ = world.agents[NodeNo(0)].running.items()
    assert grant in world.scheduler.dispatch.grants
    world.finish("a:0", -15, Cause.CANCELED)
    assert world.scheduler.interrupted == 1
    assert world.scheduler.jobs.get("a").crashes is None
    assert key.run == 1


@pytest.mark.parametrize(("losses", "state"), [(2, "EXECUTING"), (3, "FAILED")])
def test_a_task_has_failed_when_its_agent_was_lost_too_often_under_it(losses: int, state: str) -> None:
    world = World(node("n", 1), crash_limit=3)
    world.submit(job("a"))
    for _ in range(losses):
        world.lose(0)
        world.revive(0)
    assert world.state("a") == state


def test_elements_that_wait_for_nothing_more_start_when_the_whole_jobs_dependency_is_met() -> None:
    """`b:0` had its own one met before that: it must not be overlooked, nor `b:1` be started too early."""
    world = World(node("n", 4))
    world.submit(job("first"), job("a", count=2), job("b", count=2, after=["a:*", "first"]))
    world.finish("a:0")
    assert world.states("b") == ["QUEUED", "QUEUED"]
    world.finish("first")
    assert world.states("b") == ["EXECUTING", "QUEUED"]
    world.finish("a:1")
    assert world.states("b") == ["EXECUTING", "EXECUTING"]
