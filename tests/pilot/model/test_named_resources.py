"""Named resources of nodes and of the pool: who gets what, what waits, and why something can never start."""

from __future__ import annotations

from fractions import Fraction

import pytest
from world import World, job, node, wants

from pilotfish.pilot.model.errors import NotEnoughResourcesError
from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.job_spec import Need, Want
from pilotfish.pilot.model.resources import NamedResource, Share, Taken

NVME = NamedResource("nvme", ("0", "1", "2"))
SCRATCH = NamedResource("scratch", amount=100 << 30, in_bytes=True)
LICENCE = NamedResource("licence", amount=3)


def given(world: World) -> dict[str, tuple[Share, ...]]:
    """What each running task has, by its name."""
    attempts = world.scheduler.dispatch.attempts.values()
    return {each.job.spec.task_name(each.key.pos): each.grant.shares for each in attempts if each.grant is not None}


def why(world: World, name: str) -> str:
    return "; ".join(why_not_running(world.scheduler, world.scheduler.jobs.get(name), None, world.now))


def test_tasks_get_ids_of_their_own() -> None:
    """Two of three things with ids; the third waits until one is given back."""
    world = World(node("n", 4, named=[NVME]))
    world.submit(job("a", count=4, named=wants(nvme=1)))
    named = [shares[0].named for shares in given(world).values()]
    assert named == [(Taken("nvme", 0, 1 << slot),) for slot in range(3)]
    world.finish("a:1")
    assert given(world)["a:3"][0].named == (Taken("nvme", 0, 0b010),)


def test_an_amount_is_shared_until_it_is_used_up() -> None:
    world = World(node("n", 8, named=[SCRATCH]))
    world.submit(job("a", count=5, named=wants(scratch=40 << 30)))
    assert sorted(given(world)) == ["a:0", "a:1"]
    assert "not enough scratch is free: at most 20G on one node (the largest has 100G)" in why(world, "a")


def test_quarters_of_a_gpu_are_shared_by_four() -> None:
    world = World(node("n", 8, gpus=1))
    world.submit(job("a", count=8, named=wants(gpu=Fraction(1, 4))))
    assert [shares[0].named[0].slots for shares in given(world).values()] == [1] * 4
    world.submit(job("whole", gpus=1))
    assert "not enough GPUs are free" in why(world, "whole")


def test_what_is_needed_per_node_is_taken_on_each() -> None:
    world = World(node("n", 2, named=[NVME]), node("m", 2), node("k", 2, named=[NVME]))
    world.submit(job("a", 1, 2, named=wants(nvme=2)))
    assert [(share.node, share.named) for share in given(world)["a"]] == [
        (0, (Taken("nvme", 0, 0b011),)),
        (2, (Taken("nvme", 0, 0b011),)),
    ]


def test_what_is_the_pools_is_taken_once_wherever_the_task_runs() -> None:
    world = World(node("n", 2), node("m", 2), of_pool=[LICENCE])
    world.submit(job("wide", 1, 2, named=wants(licence=2)), job("a", count=3, named=wants(licence=1)))
    assert [share.named for share in given(world)["wide"]] == [(Taken("licence", 2),), ()]
    assert sorted(given(world)) == ["a:0", "wide"]
    assert "not enough licence is free in the pilot as a whole: 0 of 3" in why(world, "a")


def test_work_that_needs_many_licences_is_not_starved() -> None:
    """Later tasks that take one each leave them alone once the earlier one has waited long enough; other work goes on."""
    world = World(node("n", 8), of_pool=[LICENCE], reserve_after_s=5)
    world.submit(job("small", count=40, named=wants(licence=1)), job("all", named=wants(licence=3), priority=-1))
    world.submit(job("more", count=20, named=wants(licence=1), priority=-2), job("free", count=40, priority=-3))
    for _ in range(200):
        running = sorted(world.running)
        if "all" in running:
            break
        small = next((name for name in running if name.startswith(("small", "more"))), None)
        world.finish(small or running[0], took_s=1.0)
        world.pass_time(1.0)
        assert any(name.startswith("free") for name in world.running), "nodes stood idle for want of a licence"
    assert "all" in world.running
    assert not any(name.startswith("more") for name in world.running)


def test_no_node_is_held_while_only_a_licence_is_missing() -> None:
    world = World(node("n", 2), of_pool=[LICENCE], reserve_after_s=5)
    world.submit(job("has", named=wants(licence=2)), job("wants", named=wants(licence=3)), job("later", count=20))
    world.pass_time(6)
    world.finish("later:0")
    dispatch = world.scheduler.dispatch
    assert (dispatch.held, dispatch.held_of_pool) == (0, frozenset({"licence"}))
    assert "held for it: licence" in why(world, "wants")
    world.finish("has")
    assert "wants" in world.running


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (wants(nvme=4), "4 nvme on a node is needed, no node has more than 3 nvme"),
        (wants(fpga=1), "1 fpga on a node is needed, no node has fpga, nor has the pilot as a whole"),
        (wants(scratch=200 << 30), "200G scratch on a node is needed, no node has more than 100G scratch"),
        (wants(licence=4), "4 licence is needed, the pilot has 3 licence"),
        (wants(gpu=Fraction(1, 2)), "1/2 gpu on a node is needed, no node has a GPU, nor has the pilot as a whole"),
        (
            wants(scratch=Fraction(1, 2)),
            "1/2 scratch on a node is needed, no node has more than 100G scratch, without ids: only what has ids can be "
            "shared (--resource scratch=0-3)",
        ),
        (wants(nvme=1, scratch=1), "1 core and 1 nvme and 1 scratch on a node are needed, and too few nodes have them"),
    ],
)
def test_what_no_node_and_no_pool_has_is_refused(named: tuple[Want, ...], reason: str) -> None:
    world = World(node("n", 2, named=[NVME]), node("m", 2, named=[SCRATCH]), of_pool=[LICENCE])
    with pytest.raises(NotEnoughResourcesError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        world.submit(job("a", named=named))


def test_an_agent_that_comes_back_does_not_take_a_licence_from_whom_it_was_given() -> None:
    """Its node's own things are still its own."""
    world = World(node("n", 2, named=[NVME]), node("m", 2), of_pool=[NamedResource("licence", amount=1)])
    world.submit(job("a", named=wants(licence=1, nvme=1)), job("b", named=wants(licence=1)))
    world.cut(0)
    assert "b" in world.running
    world.come_back(0)
    assert given(world)["b"][0].named == (Taken("licence", 1),)
    world.run_to_end()
    assert world.scheduler.nodes.stocks.pool["licence"].has_all


def test_picking_a_task_does_not_look_at_those_that_wait() -> None:
    """Ten times as many tasks that wait for a licence cost a turn no more looks at what is free."""

    def looks(count: int) -> int:
        world = World(node("n", 4, named=[NVME]), of_pool=[LICENCE])
        world.submit(job("a", count=count, named=wants(licence=1, nvme=1)), job("b", count=count, named=wants(nvme=3)))
        stocks = world.scheduler.nodes.stocks
        seen: list[Need] = []
        fits = stocks.pool_fits
        stocks.pool_fits = lambda need: seen.append(need) or fits(need)  # type: ignore[method-assign, func-returns-value]
        world.finish("a:0")
        return len(seen)

    assert looks(1000) == looks(10) < 10
