"""pilot/model/registry.py and jobs.py: jobs by name and number, their counters and messages."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model.errors import IllegalTransitionError
from pilotfish.pilot.model.registry import Registry
from pilotfish.pilot.model.states import State


def test_a_message_belongs_to_its_iteration_or_to_the_whole_job() -> None:
    jobs = Registry()
    many, one = jobs.add(job("many", count=2), 1.0), jobs.add(job("one"), 1.0)
    many.set_message(1, "no such program")
    many.set_message(None, "dependency x ended FAILED")
    one.set_message(0, "out of memory")
    assert [many.message_of(pos) for pos in (None, 0, 1)] == ["dependency x ended FAILED", "", "no such program"]
    assert [one.message_of(pos) for pos in (None, 0)] == ["out of memory"] * 2


def test_a_change_that_cannot_be_is_refused_before_anything_is_counted() -> None:
    jobs = Registry()
    a = jobs.add(job("a"), 1.0)
    with pytest.raises(IllegalTransitionError, match="task a run 0: QUEUED cannot become EXECUTING"):
        jobs.move_task(a, 0, State.EXECUTING)
    assert (a.state, jobs.tasks_in[State.QUEUED], jobs.jobs_in[State.QUEUED]) == (State.QUEUED, 1, 1)


def test_a_name_is_free_again_after_removal_and_a_number_never() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    world.finish("a")
    world.scheduler.remove(world.scheduler.jobs.get("a"))
    world.submit(job("a"))
    assert world.scheduler.jobs.get("a").no == 2
    assert world.scheduler.jobs.removed_tasks == 1
