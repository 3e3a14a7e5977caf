"""What the core keeps does not grow with what has been: shapes and pools live only as long as work that needs them."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.states import Cause


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
