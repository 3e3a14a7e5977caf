"""pilot/model/nodes.py: what is free, what fits, and where each node stands."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model.capacity import choose_to_hold
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.job_spec import Need, Size
from pilotfish.pilot.model.nodes import Nodes
from pilotfish.pilot.model.resources import NodeSpec, Share
from pilotfish.pilot.model.states import NodeEvent

ONE = Need(Size.exactly(1), None)


def ready(*specs: NodeSpec) -> Nodes:
    nodes = Nodes(specs)
    for number in nodes.here:
        nodes.move(number, NodeEvent.REPORT)
    return nodes


def test_the_nodes_with_most_free_cores_are_held() -> None:
    nodes = ready(node("n", 4), node("m", 4), node("k", 4))
    nodes.take([Share(NodeNo(0), 0b111, 0, 0), Share(NodeNo(1), 0b1, 0, 0)])
    assert choose_to_hold(nodes, Need(Size.exactly(4), None)) == 0b100
    assert choose_to_hold(nodes, Need(Size.exactly(8), None)) == 0b110
    assert choose_to_hold(nodes, Need(Size.exactly(4), Size.exactly(2))) == 0b110


def test_only_nodes_that_have_what_is_needed_are_held() -> None:
    nodes = ready(node("n", 4, gpus=1), node("m", 4))
    nodes.take([Share(NodeNo(0), 0b11, 0, 0)])
    assert choose_to_hold(nodes, Need(Size.exactly(1), None, gpus=1)) == 0b01
    assert choose_to_hold(nodes, Need(Size.exactly(4), Size.exactly(3))) == 0


@pytest.mark.parametrize("event", [NodeEvent.DRAIN, NodeEvent.FALL_SILENT, NodeEvent.DISMISS, NodeEvent.LOSE])
def test_nothing_fits_on_a_node_that_is_not_ready(event: NodeEvent) -> None:
    nodes = ready(node("n", 4))
    nodes.move(NodeNo(0), event)
    assert (nodes.find(ONE), nodes.free_count) == (None, 0)
    if event is not NodeEvent.DISMISS:
        nodes.move(NodeNo(0), NodeEvent.REPORT)
        assert nodes.free_count == 4


def test_a_node_is_started_given_up_and_welcome_all_the_same() -> None:
    nodes = Nodes([node("n", 4)])
    seen = []
    story = [NodeEvent.START, NodeEvent.LOSE, NodeEvent.START, NodeEvent.LATE, NodeEvent.GIVE_UP, NodeEvent.REPORT]
    for event in story:
        nodes.move(NodeNo(0), event)
        seen.append(nodes[NodeNo(0)].state.name)
    assert seen == ["STARTING", "LOST", "RESTARTING", "LOST", "GIVEN_UP", "READY"]


def test_an_agent_that_serves_ends_the_count_of_failures() -> None:
    """One that has only reported may die of the answer."""
    nodes = Nodes([node("n", 4)])
    nodes[NodeNo(0)].failures, nodes[NodeNo(0)].reason = 3, "no such program"
    nodes.move(NodeNo(0), NodeEvent.REPORT)
    assert (nodes[NodeNo(0)].failures, nodes[NodeNo(0)].reason) == (3, "")
    nodes.serves(NodeNo(0))
    assert (nodes[NodeNo(0)].failures, nodes[NodeNo(0)].has_served) == (0, True)


def test_a_node_that_has_left_is_counted_no_more_and_keeps_its_number() -> None:
    nodes = ready(node("n", 4), node("m", 2))
    nodes.move(NodeNo(0), NodeEvent.LEAVE)
    assert (nodes.count, nodes.total_cores, list(nodes.here)) == (1, 2, [1])
    assert nodes.add(node("n", 1)) == 2


def test_a_silent_node_keeps_what_it_has_and_gets_nothing_new() -> None:
    """Its agent is known to live: it may be running all of it."""
    world = World(node("n", 2))
    world.submit(job("a"))
    world.scheduler.on_node_silent(NodeNo(0))
    world.submit(job("b"))
    assert (world.state("a"), world.state("b")) == ("EXECUTING", "QUEUED")
    world.finish("a")
    assert world.state("a") == "SUCCEED"
    world.scheduler.on_node_heard(NodeNo(0))
    world.scheduler.on_node_up(NodeNo(0))
    world.settle()
    assert world.running == ["b"]


def test_what_a_dismissed_agent_runs_is_given_to_others_only_when_its_end_is_known() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a"))
    world.scheduler.on_node_dismissed(NodeNo(0))
    world.settle()
    assert world.running_on(1) == [], "the first one may still run it"
    world.lose(0)
    assert world.running_on(1) == ["a"]
