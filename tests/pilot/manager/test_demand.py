"""The `demand` request, by a core without processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

from world import World, job, node, wants

from pilotfish.pilot.manager.demand import DemandView
from pilotfish.pilot.manager.shutdown import Shutdown
from pilotfish.pilot.model.errors import PilotfishError
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.job_spec import Need, Size, Want
from pilotfish.pilot.model.resources import UNUSED, NamedResource
from pilotfish.pilot.model.steps import finish
from pilotfish.pilot.wire import codec, requests
from pilotfish.pilot.wire.demand import Demand, NodeUse, ShapeDemand


class Asker:
    """Asks the manager of a world; the way over the wire and back is part of it."""

    def __init__(self, world: World) -> None:
        parts: Any = SimpleNamespace(
            scheduler=world.scheduler, now=lambda: world.now, settings=SimpleNamespace(end_margin_s=60.0)
        )
        self.shutdown = Shutdown()
        self._view = DemandView(parts, self.shutdown)

    def ask(self) -> Demand:
        return codec.load(codec.encode(finish(self._view.describe())), Demand)


def demand(world: World) -> Demand:
    return Asker(world).ask()


def elastic(*nodes: Any) -> World:
    world = World(*nodes)
    world.scheduler.nodes.elastic = True
    return world


def test_tasks_that_want_a_node_for_themselves_or_are_to_be_apart_tell_so() -> None:
    """How that stands among the needs of the core is its own affair."""
    world = elastic()
    world.submit(job("apart", named=[Want("apart:x", 1)]), job("alone", named=[Want(UNUSED, 0)]), job("any"))
    shapes = demand(world).shapes
    assert [(shape.first, shape.one_per_node, shape.named) for shape in shapes] == [
        ("apart", True, {}),
        ("alone", True, {}),
        ("any", False, {}),
    ]


def test_what_has_an_alternative_is_asked_for_once() -> None:
    """As what it likes most, and with what else will do."""
    world = World(node("n", 1))
    world.scheduler.nodes.elastic = True
    world.submit(job("a", 1, gpus=1, count=7, alternatives=[Need(Size.exactly(4))]))
    assert demand(world).shapes == [
        ShapeDemand(7, (1, 1), gpus=1, first="a:0", alternatives=[ShapeDemand(0, (4, 4))]),
    ]


def test_each_shape_tells_what_one_of_its_tasks_needs_and_how_many_wait() -> None:
    world = elastic()
    wide = job("wide", 4, nodes=2, count=3, wt_s=100, gpus=1, mem=2**30, tags=["fast"])
    restarts = job("restarts", 8, wt_s=500)
    world.submit(
        wide,
        job("any", (2, None), count=5),
        job("whole", None, nodes=1),
        replace(restarts, resources=replace(restarts.resources, min_time_s=50)),
    )
    assert demand(world).shapes == [
        ShapeDemand(3, (4, 4), (2, 2), 1, 2**30, ["fast"], wt_s=100, least_s=100, first="wide:0"),
        ShapeDemand(5, (2, None), first="any:0"),
        ShapeDemand(1, None, (1, 1), first="whole"),
        ShapeDemand(1, (8, 8), wt_s=500, least_s=50, first="restarts"),
    ]


def test_what_waits_for_other_work_needs_no_node_yet() -> None:
    world = elastic()
    world.submit(job("a", count=2), job("b", count=7, after=["a"]))
    seen = demand(world)
    assert ([shape.tasks for shape in seen.shapes], seen.blocked) == ([2], 7)


def test_what_runs_is_told_with_its_shape_and_how_long_such_tasks_have_taken() -> None:
    world = elastic(node("n", 2))
    world.submit(job("t", count=6))
    world.finish("t:0", took_s=40)
    (shape,) = demand(world).shapes
    assert (shape.tasks, shape.running, shape.mean_s) == (3, 2, 40)


def test_how_long_tasks_have_taken_is_known_when_all_nodes_have_left() -> None:
    world = elastic()
    number = world.join(node("n", 1, joined=True))
    world.submit(job("t", count=3))
    world.finish("t:0", took_s=40)
    world.leave(number)
    (shape,) = demand(world).shapes
    assert (shape.tasks, shape.mean_s) == (2, 40)


def test_a_node_tells_what_is_free_there_and_when_that_changes() -> None:
    world = elastic()
    guest = replace(node("n", 4, gpus=2, mem=2**30, tags=["fast"], joined=True), allocation="a7")
    number = world.join(guest)
    world.scheduler.nodes.times.set(NodeNo(number), world.now + 500)
    world.submit(job("t", 3, gpus=1, mem=2**20, wt_s=200))
    world.pass_time(50)
    (use,) = demand(world).nodes
    assert use == NodeUse(
        "n", "READY", 4, 1, 2, 1, 2**30, 2**30 - 2**20, ["fast"], "a7", None, left_s=450, busy_for_s=150
    )


def test_nothing_tells_when_tasks_without_a_limit_are_over() -> None:
    world = elastic(node("n", 2))
    world.submit(job("t"), job("u", wt_s=10))
    assert demand(world).nodes[0].busy_for_s is None


def test_a_node_is_idle_since_it_was_seen_idle() -> None:
    world = elastic(node("n", 1))
    asker = Asker(world)
    asker.ask()
    world.pass_time(30)
    assert asker.ask().nodes[0].idle_s == 30
    world.submit(job("t"))
    assert asker.ask().nodes[0].idle_s is None
    world.finish("t")
    assert asker.ask().nodes[0].idle_s == 0


def test_what_came_and_went_between_two_looks_ends_the_idle_time() -> None:
    world = elastic(node("n", 1))
    asker = Asker(world)
    asker.ask()
    world.pass_time(30)
    world.submit(job("t"))
    world.finish("t")
    assert asker.ask().nodes[0].idle_s == 0


def test_the_end_of_the_pilot_is_told() -> None:
    world = elastic(node("n", 1))
    asker = Asker(world)
    assert (asker.ask().closing, asker.ask().ending, asker.ask().left_s) == (False, False, None)
    world.scheduler.ends_at(world.now + 100, 60)
    asker.shutdown.begin_closing()
    assert (asker.ask().closing, asker.ask().ending, asker.ask().left_s) == (True, False, 40)
    world.pass_time(41)
    assert (asker.ask().ending, asker.ask().left_s) == (True, 0)


@pytest.mark.parametrize("allocation", [None, "", 7])
def test_a_release_names_an_allocation(allocation: object) -> None:
    with pytest.raises(PilotfishError, match="is not the name of an allocation"):
        requests.from_value({"request": "release", "allocation": allocation}, dict)


def test_named_resources_of_nodes_are_needs_and_those_of_the_pool_bound_how_many_tasks_nodes_are_of_use_for() -> None:
    """Five licences let two tasks run that need two each: one runs, so a node is of use to one more, however many wait."""
    world = World(node("n", 1, named=[NamedResource("nvme", ("0", "1"))]), of_pool=[NamedResource("licence", amount=5)])
    world.scheduler.nodes.elastic = True
    world.submit(
        job("t", count=9, named=wants(licence=2)),
        job("u", 2, count=3, named=wants(nvme=1, gpu=Fraction(1, 4))),
        job("never", named=wants(licence=5)),
    )
    seen = demand(world)
    assert [(shape.first, shape.tasks, shape.named) for shape in seen.shapes] == [
        ("t:1", 1, {}),
        ("u:0", 3, {"gpu": 0.25, "nvme": 1}),
        ("never", 1, {}),
    ]
    assert seen.nodes[0].named == {"nvme": 2}
