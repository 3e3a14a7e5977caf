"""Cores of a task lie in one socket where they can, and near its GPUs."""

from __future__ import annotations

import pytest

from pilotfish.pilot.model.job_spec import Need, Size
from pilotfish.pilot.model.nodes import Nodes
from pilotfish.pilot.model.resources import NodeSpec, Share
from pilotfish.pilot.model.states import NodeEvent
from pilotfish.pilot.model.topology import Group, choose, groups_of

TWO = (Group(0b00001111, 0b01), Group(0b11110000, 0b10))
"""Two sockets of four cores and a GPU."""


@pytest.mark.parametrize(
    ("free", "cores", "gpus", "chosen"),
    [
        ((0b11111111, 0b11), 2, 0, (0b00000011, 0)),
        ((0b11111000, 0b11), 2, 0, (0b00110000, 0)),  # not one from each
        ((0b11110011, 0b11), 2, 0, (0b00000011, 0)),  # leaves the whole socket whole
        ((0b11111000, 0b11), 5, 0, (0b11111000, 0)),  # no socket is enough
        ((0b11111111, 0b10), 1, 1, (0b00010000, 0b10)),
        ((0b00001111, 0b10), 1, 1, (0b00000001, 0b10)),  # the only GPU is far away
        ((0b11111111, 0b11), 1, 2, (0b00000001, 0b11)),
    ],
)
def test_what_is_given_lies_together(free: tuple[int, int], cores: int, gpus: int, chosen: tuple[int, int]) -> None:
    assert choose(TWO, Group(*free), cores, gpus) == Group(*chosen)


def test_groups_are_made_of_what_the_agent_tells() -> None:
    """Slots go by core ids; GPUs by index, and what has no index is near nothing."""
    spec = NodeSpec("n", ("0&4", "2&6", "1&5"), ("1", "GPU-a"), bind=True)
    assert groups_of(spec, [[0, 2, 4, 6], [1, 3, 5, 7]], [[0, 2], [1, 3]]) == (Group(0b011, 0), Group(0b100, 0b1))


@pytest.mark.parametrize(("bind", "sockets"), [(False, [[0], [1]]), (True, [[0, 1]])])
def test_where_nothing_is_known_or_all_is_one_there_are_no_groups(bind: bool, sockets: list[list[int]]) -> None:
    assert groups_of(NodeSpec("n", ("0", "1"), bind=bind), sockets, []) == ()


def test_nodes_give_cores_of_one_socket() -> None:
    nodes = Nodes([NodeSpec("n", tuple(map(str, range(8))), ("0", "1"), bind=True)])
    node = next(nodes.here)
    nodes.move(node, NodeEvent.REPORT)
    nodes.set_groups(node, TWO)
    nodes.take([Share(node, 0b111, 0, 0)])
    two = Need(cores=Size.exactly(2))
    assert nodes.find(two) == (Share(node, 0b00110000, 0, 0),)
    assert nodes.find(Need(cores=Size.exactly(1))) == (Share(node, 0b00001000, 0, 0),)
    assert nodes.find(Need(cores=Size.exactly(2), gpus=1)) == (Share(node, 0b00110000, 0b10, 0),)
