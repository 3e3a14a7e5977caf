"""Where on the nodes tasks are: close together, far from each other, alone on a node, never two alike on one."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.job_spec import Placement
from pilotfish.pilot.model.resources import NodeSpec, Share
from pilotfish.pilot.model.topology import Group, scattered, whole


def given(world: World) -> dict[str, tuple[Share, ...]]:
    attempts = world.scheduler.dispatch.attempts.values()
    return {each.job.spec.task_name(each.key.pos): each.grant.shares for each in attempts if each.grant is not None}


def nodes_of(world: World) -> list[int]:
    return [share.node for shares in given(world).values() for share in shares]


def test_scattered_tasks_go_where_most_is_free() -> None:
    """Compact ones fill one node after the other."""
    compact, scattered_ = World(*map(_node, "nmk")), World(*map(_node, "nmk"))
    compact.submit(job("a", count=6))
    scattered_.submit(job("a", count=6, placement=Placement.SCATTER))
    assert nodes_of(compact) == [0, 0, 0, 0, 1, 1]
    assert nodes_of(scattered_) == [0, 1, 2, 0, 1, 2]


def _node(name: str) -> NodeSpec:
    return node(name, 4)


@pytest.mark.parametrize(
    ("groups", "free", "cores", "taken"),
    [
        ((), 0b11111111, 2, 0b00010001),
        ((), 0b11111111, 8, 0b11111111),
        ((Group(0b1111, 0), Group(0b11110000, 0)), 0b11111111, 2, 0b00010001),
        ((Group(0b1111, 0), Group(0b11110000, 0)), 0b11110001, 3, 0b01110000),
        ((Group(0b1111, 0), Group(0b11110000, 0)), 0b11110011, 4, 0b01110001),
    ],
)
def test_scattered_cores_are_of_different_sockets(groups: tuple[Group, ...], free: int, cores: int, taken: int) -> None:
    """One after the other of the socket that has most left."""
    assert f"{scattered(groups, free, cores):08b}" == f"{taken:08b}"


def test_a_scattered_task_has_as_many_cores_as_it_asks_for() -> None:
    world = World(node("n", 4), node("m", 8, gpus=2))
    world.scheduler.nodes.set_groups(NodeNo(1), (Group(0b1111, 1), Group(0b11110000, 2)))
    world.submit(job("a", 2, placement=Placement.SCATTER), job("b", 2, gpus=1, placement=Placement.SCATTER))
    assert [f"{shares[0].cores:08b}" for shares in given(world).values()] == ["00010001", "00100010"]


@pytest.mark.parametrize(
    ("free", "least", "taken"),
    [
        (0b11111111, 2, 0b00110000),
        (0b11111111, 4, 0b00001111),
        (0b11111111, 5, 0b00111111),
        (0b11101110, 1, 0b11000000),
        (0b11101110, 3, 0),
        (0, 1, 0),
    ],
)
def test_whole_sockets_are_taken_that_are_wholly_free(free: int, least: int, taken: int) -> None:
    """The smallest that is enough, else the first ones: here sockets of 4, 2 and 2 cores."""
    groups = (Group(0b1111, 0), Group(0b110000, 0), Group(0b11000000, 0))
    assert f"{whole(groups, 0b11111111, free, least):08b}" == f"{taken:08b}"


def test_tasks_on_whole_sockets_and_domains_get_all_cores_there() -> None:
    """A node of which they are not known is one of each."""
    world = World(node("n", 8, gpus=2), node("m", 2))
    sockets = (Group(0b00001111, 0b01), Group(0b11110000, 0b10))
    domains = tuple(Group(0b11 << 2 * number, 0) for number in range(4))
    world.scheduler.nodes.set_groups(NodeNo(0), sockets, domains)
    world.submit(job("small"))
    world.submit(job("numa", 1, placement=Placement.NUMA), job("socket", 3, gpus=1, placement=Placement.SOCKET))
    assert {name: (shares[0].node, shares[0].cores, shares[0].gpus) for name, shares in given(world).items()} == {
        "small": (0, 0b1, 0),
        "numa": (0, 0b1100, 0),
        "socket": (0, 0b11110000, 0b10),
    }
    world.submit(job("next", 1, count=2, placement=Placement.SOCKET))
    assert given(world)["next:0"][0].node == 1
    reasons = why_not_running(world.scheduler, world.scheduler.jobs.get("next"), None, world.now)
    assert reasons[0].startswith("it needs 1 core, of whole sockets; no node has whole sockets with as many cores free")
    world.run_to_end()


def test_an_exclusive_task_is_told_its_cores_and_has_the_node_to_itself() -> None:
    world = World(node("n", 4), node("m", 4))
    world.submit(job("small"), job("alone", 2, placement=Placement.EXCLUSIVE), job("more", count=9))
    share = given(world)["alone"][0]
    assert (share.node, share.cores, share.used_cores) == (1, 0b1111, 0b0011)
    assert nodes_of(world) == [0, 1, 0, 0, 0]
    world.finish("alone")
    assert nodes_of(world).count(1) == 4


def test_an_exclusive_task_waits_for_an_idle_node_and_says_so() -> None:
    world = World(node("n", 4), node("m", 4), reserve_after_s=5)
    world.submit(job("small", count=20), job("alone", 1, placement=Placement.EXCLUSIVE))
    reasons = why_not_running(world.scheduler, world.scheduler.jobs.get("alone"), None, world.now)
    assert reasons[0].startswith("it needs 1 core, alone on its node; ")
    assert "only 0 of 2 nodes are idle" in reasons[0]
    world.run_to_end()


def test_tasks_that_are_to_be_apart_are_never_two_on_a_node() -> None:
    """All those with the label, whatever job they are of; others share the nodes with them."""
    world = World(node("n", 4), node("m", 4))
    world.submit(job("a", count=3, apart="db"), job("b", apart="db"), job("c", count=2, apart="web"), job("d", count=9))
    assert {name: shares[0].node for name, shares in given(world).items() if name < "d"} == {
        "a:0": 0,
        "a:1": 1,
        "c:0": 0,
        "c:1": 1,
    }
    reasons = why_not_running(world.scheduler, world.scheduler.jobs.get("b"), None, world.now)
    assert reasons[0].startswith("it needs 1 core, apart from others (db); ")
    world.finish("a:0")
    assert given(world)["a:2"][0].node == 0
    invariants.check(world.scheduler)
    world.run_to_end()
    assert not world.scheduler.nodes.stocks.apart
