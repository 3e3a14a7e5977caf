"""Free is what no task uses, on nodes that are there or whose agent is on its way."""

from __future__ import annotations

import pytest

from pilotfish.pilot.model.free_cores import free_cores
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import NodeEvent

from .world import World, job, node


def test_all_is_free_before_any_agent_has_reported() -> None:
    assert free_cores(Scheduler([node("n1", 4), node("n2", 2)])) == 6


def test_the_system_core_is_not_free() -> None:
    assert free_cores(Scheduler([node("n1", 4)], system_core=True)) == 3


def test_what_tasks_use_is_not_free() -> None:
    world = World(node("n1", 4), node("n2", 2))
    world.submit(job("a", 3), job("b", 1, nodes=2))
    assert free_cores(world.scheduler) == 1
    world.finish("a")
    assert free_cores(world.scheduler) == 4


def test_a_lost_node_is_not_free_until_it_is_back() -> None:
    world = World(node("n1", 4), node("n2", 2))
    world.lose(0)
    assert free_cores(world.scheduler) == 2
    world.scheduler.on_node_up(NodeNo(0))
    assert free_cores(world.scheduler) == 6


def test_a_node_that_takes_nothing_new_is_not_free() -> None:
    world = World(node("n1", 4), node("n2", 2))
    world.scheduler.on_node_draining(NodeNo(1))
    assert free_cores(world.scheduler) == 4


def test_a_node_that_was_lost_and_is_awaited_again_is_free() -> None:
    world = World(node("n1", 4))
    world.lose(0)
    world.scheduler.nodes.move(NodeNo(0), NodeEvent.EXPECT)
    assert free_cores(world.scheduler) == 4


@pytest.mark.parametrize(
    ("size", "nodes", "free"), [(3, None, 3), ((2, 4), None, 4), (1, 2, 4), (None, 1, 2), (None, 2, 0), (6, None, 0)]
)
def test_tasks_of_an_earlier_life_count_before_their_agents_have_told_of_them(
    size: int | tuple[int, int | None] | None, nodes: int | None, free: int
) -> None:
    """After a resume it is known that they were sent, but not yet which cores they have."""
    scheduler = Scheduler([node("n1", 4), node("n2", 2)])
    scheduler.replay_submitted([job("a", size, nodes)], 1000.0)
    scheduler.recovery.replay_sent(NodeNo(0), TaskKey(JobNo(1), 0, 1), 1000.0)
    assert free_cores(scheduler) == free


def test_more_tasks_than_cores_may_have_been_lent_ahead() -> None:
    scheduler = Scheduler([node("n1", 2), node("n2", 1)])
    scheduler.replay_submitted([job("a", count=5)], 1000.0)
    for pos in range(5):
        scheduler.recovery.replay_sent(NodeNo(0), TaskKey(JobNo(1), pos, 1), 1000.0)
    assert free_cores(scheduler) == 0
