"""pilot/model/queue.py: what waits together, and in which order."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.job_spec import ONE_CORE
from pilotfish.pilot.model.queue import Queue


def test_equal_needs_wait_together_also_when_their_limits_differ_a_little() -> None:
    queue = Queue()
    assert queue.shape(ONE_CORE, 1000.0) is queue.shape(ONE_CORE, 1001.0)
    assert queue.shape(ONE_CORE, 1000.0) is not queue.shape(ONE_CORE, 2000.0)
    assert queue.shape(ONE_CORE, 1000.0).wt_s == 1001.0, "the longest counts: all of them are over by then"


def test_the_heads_are_the_earliest_of_each_shape() -> None:
    world = World(node("n", 1))
    world.submit(job("first", priority=3), job("low"), job("high", priority=2), job("other", wt_s=60.0))
    heads = sorted((key, pending.job.spec.name) for key, _, pending in world.scheduler.queue.heads())
    assert [name for _, name in heads] == ["high", "other"]


def test_a_task_that_comes_back_is_taken_before_those_behind_it() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=3, retries=1))
    world.finish("a:0", exit_code=1)
    assert world.running == ["a:0"]
