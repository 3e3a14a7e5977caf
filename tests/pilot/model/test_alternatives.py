"""Tasks that can run on one thing or another: they get what is free first."""

from __future__ import annotations

import pytest
from world import World, job, node, wants

from pilotfish.pilot.model.errors import NotEnoughResourcesError
from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.job_spec import Need, RetryRule, Size
from pilotfish.pilot.model.resources import NamedResource, Share

GPU = Need(Size.exactly(1), gpus=1)
CORES = Need(Size.exactly(4))


def given(world: World) -> dict[str, Share]:
    """What each running task has on its first node."""
    attempts = world.scheduler.dispatch.attempts.values()
    return {each.job.spec.task_name(each.key.pos): each.grant.shares[0] for each in attempts if each.grant is not None}


def kinds(world: World) -> dict[str, str]:
    return {name: "gpu" if share.gpus else "cores" for name, share in given(world).items()}


def test_what_is_liked_more_is_given_while_it_is_free() -> None:
    """Two GPUs, then four cores each; the last task waits, and gets the GPU that is free first."""
    world = World(node("n", 10, gpus=2))
    world.submit(job("a", 1, gpus=1, count=5, alternatives=[CORES]))
    assert kinds(world) == {"a:0": "gpu", "a:1": "gpu", "a:2": "cores", "a:3": "cores"}
    world.finish("a:1")
    assert kinds(world)["a:4"] == "gpu"


def test_work_of_others_keeps_its_turn() -> None:
    """An earlier job that can only have a GPU is not passed by one that can have either."""
    world = World(node("n", 9, gpus=1))
    world.submit(job("only", 1, gpus=1, count=2), job("either", 1, gpus=1, count=2, alternatives=[CORES]))
    assert kinds(world) == {"only:0": "gpu", "either:0": "cores", "either:1": "cores"}
    world.finish("only:0")
    assert kinds(world)["only:1"] == "gpu"


def test_each_position_is_taken_once() -> None:
    world = World(node("n", 6, gpus=2), node("m", 5))
    world.submit(job("a", 1, gpus=1, count=50, alternatives=[CORES, Need(Size.exactly(1))]))
    world.run_to_end()
    assert sum(event.endswith("SUCCEED") for event in world.events if event.startswith("a:")) == 50


def test_what_is_blocked_in_every_way_is_reserved_for_what_it_likes_most() -> None:
    """Small tasks do not keep it away for ever."""
    world = World(node("n", 4, gpus=1), node("m", 4), reserve_after_s=5)
    world.submit(job("first", 1, gpus=1), job("small", count=40, priority=-2))
    world.submit(job("a", 1, gpus=1, alternatives=[CORES]))
    for _ in range(8):
        world.pass_time(1.0)
        world.finish(next(name for name in sorted(world.running) if name.startswith("small")))
    reserved = world.scheduler.dispatch.reserved
    assert (reserved is not None and reserved.job.spec.name, world.scheduler.dispatch.held) == ("a", 0b01)
    world.finish("first")
    assert kinds(world)["a"] == "gpu"


def test_one_way_that_there_is_is_enough() -> None:
    """Refused is what can be had in no way, with the reasons of all."""
    world = World(node("n", 4))
    world.submit(job("a", 1, gpus=1, alternatives=[CORES]))
    assert kinds(world) == {"a": "cores"}
    with pytest.raises(
        NotEnoughResourcesError, match=r"no node has a GPU; nor will the alternative do: 5 cores are needed"
    ):
        world.submit(job("b", 1, gpus=1, alternatives=[Need(Size.exactly(5))]))


def test_why_it_waits_names_every_way() -> None:
    world = World(node("n", 4, gpus=1), of_pool=[NamedResource("seat", amount=1)])
    world.submit(job("all", 4, gpus=1), job("a", 1, named=wants(seat=1), alternatives=[GPU]))
    reasons = why_not_running(world.scheduler, world.scheduler.jobs.get("a"), None, world.now)
    assert reasons[0].startswith("it needs 1 core, 1 seat; not enough cores are free")
    assert " - or 1 core, 1 GPU; not enough cores are free" in reasons[0]


def test_more_memory_after_a_failure_goes_for_every_way() -> None:
    """And a larger one that another job asks for as well is no trouble."""
    world = World(node("n", 8, gpus=1, mem=100))
    rule = RetryRule(2, mem=2.0)
    other = Need(Size.exactly(4), mem_bytes=20)
    world.submit(job("a", 1, gpus=1, mem=10, retry=[rule], count=3, alternatives=[other]))
    world.finish("a:1", exit_code=1)
    world.finish("a:0", exit_code=1)
    assert given(world)["a:0"].mem_bytes == 20
    world.run_to_end()


def test_a_cancelled_job_waits_nowhere() -> None:
    world = World(node("n", 1))
    world.submit(job("busy"), job("a", 1, count=5, alternatives=[Need(None, Size.exactly(1))]))
    world.cancel("a")
    assert [shape.need for shape in world.scheduler.queue] == [Need(Size.exactly(1))]
