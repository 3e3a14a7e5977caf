"""How many tasks run, also when nobody has reported that."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.running import running, running_of, unreported
from pilotfish.pilot.model.states import State


def test_what_was_reported_runs() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=5))
    jobs = world.scheduler.jobs
    assert running(world.scheduler) == 2
    assert unreported(world.scheduler) == 0
    assert running_of(world.scheduler, jobs.get("a")) == 2


def test_what_was_sent_and_has_cores_runs_before_it_is_reported() -> None:
    world = World(node("n", 2))
    world.scheduler.submit([job("a", count=5)], world.now)
    world.scheduler.plan(world.now)
    assert running(world.scheduler) == unreported(world.scheduler) == 2
    assert running_of(world.scheduler, world.scheduler.jobs.get("a")) == 2


def test_what_is_lent_ahead_and_waits_at_its_agent_does_not_run() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=50))
    for _ in range(5):
        world.finish(world.running[0], took_s=0.001)
    assert world.scheduler.jobs.get("a").tasks.count(State.SCHEDULED) > 1
    assert running(world.scheduler) == 1


def test_the_first_that_waits_is_found_behind_those_that_were_never_touched() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=100), job("b"))
    jobs = world.scheduler.jobs
    assert jobs.get("a").tasks.first_queued() == 2
    assert jobs.get("b").tasks.first_queued() == 0
