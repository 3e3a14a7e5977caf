"""The `overview` request, by a core without processes."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

from world import World, job, node, wants

from pilotfish.pilot.manager.job_info import Views
from pilotfish.pilot.manager.overview import overview
from pilotfish.pilot.manager.recent import MOST_FAILURES, Recent
from pilotfish.pilot.model.errors import PilotfishError
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.resources import NamedResource
from pilotfish.pilot.model.steps import finish
from pilotfish.pilot.wire import codec, requests
from pilotfish.pilot.wire.overview import Amount, Node, Overview, Running


def look(world: World, limit: int = 100, match: str = "", recent: Recent | None = None) -> Overview:
    """What the world's manager would answer; the way over the wire and back is part of it."""
    views = Views(world.scheduler, Path("/wd"))
    parts: Any = SimpleNamespace(
        views=views,
        scheduler=world.scheduler,
        now=lambda: world.now,
        aux=SimpleNamespace(instance_id="pilot-1"),
        settings=SimpleNamespace(wd=Path("/wd")),
        status=SimpleNamespace(started_s=900.0, problem="", warnings=["the disk is slow"]),
        recent=recent or Recent(world.scheduler.jobs, views, Path("/wd/aux")),
    )
    return codec.load(codec.encode(finish(overview(parts, limit, match))), Overview)


def test_nodes_tell_what_is_in_use_and_those_without_an_agent_come_first() -> None:
    world = World(node("n", 4, gpus=2, mem=2**30), node("m", 2))
    world.submit(job("a", 3, gpus=1, mem=2**29))
    world.lose(1)
    world.scheduler.nodes[NodeNo(1)].reason = "ssh: no route"
    seen = look(world)
    assert seen.nodes == [
        Node("m", "LOST", 0, Amount(0, 2), Amount(0, 0), Amount(0, 0), "ssh: no route"),
        Node("n", "READY", 1, Amount(3, 4), Amount(1, 2), Amount(512, 1024)),
    ]
    assert (seen.cores, seen.gpus, seen.mem_mib) == (Amount(3, 6), Amount(1, 2), Amount(512, 1024))
    assert (seen.node_count, seen.ready_count) == (2, 1)


def test_named_resources_are_counted_by_node_and_with_those_of_the_pool() -> None:
    """A disk of which a part is given out is in use."""
    nvme, scratch = NamedResource("nvme", ("0", "1")), NamedResource("scratch", (), 100, True)
    world = World(
        node("n", 4, named=[nvme, scratch]), node("m", 2, named=[nvme]), of_pool=[NamedResource("seat", (), 9)]
    )
    world.submit(job("a", named=wants(nvme=Fraction(1, 2), scratch=30, seat=4)))
    seen = look(world)
    assert {each.name: each.named for each in seen.nodes} == {
        "n": {"nvme": Amount(1, 2), "scratch": Amount(30, 100, in_bytes=True)},
        "m": {"nvme": Amount(0, 2)},
    }
    assert seen.named == {"seat": Amount(4, 9), "nvme": Amount(1, 4), "scratch": Amount(30, 100, in_bytes=True)}


def test_running_tasks_come_by_age_and_can_be_filtered_by_name_and_node() -> None:
    world = World(node("n", 1), node("m", 2))
    world.submit(job("old"))
    world.pass_time(5)
    world.submit(job("young", count=2))
    assert look(world).running[0] == Running("old", "n", 1000.0, 1, 1)
    assert [task.task for task in look(world).running] == ["old", "young:0", "young:1"]
    assert [task.task for task in look(world, match="young").running] == ["young:0", "young:1"]
    assert [task.task for task in look(world, match="n").running] == ["old", "young:0", "young:1"]
    assert [task.task for task in look(world, match=" m").running] == ["young:0", "young:1"]


def test_tasks_that_run_count_as_such_before_their_start_is_reported() -> None:
    world = World(node("n", 2))
    world.scheduler.submit([job("a", count=5)], world.now)
    world.scheduler.plan(world.now)
    tasks = look(world).tasks
    assert (tasks.queued, tasks.sent, tasks.running) == (3, 0, 2)
    assert look(world).nodes[0].running == 2


def test_the_queue_says_by_shape_how_much_waits_and_why() -> None:
    world = World(node("n", 2), node("m", 2))
    world.submit(job("a", 3), job("wide", 2, nodes=2, wt_s=90), job("b", count=10), job("after", after=["b"]))
    seen = look(world)
    assert [(shape.needs, shape.jobs, shape.tasks, shape.first) for shape in seen.queue] == [
        ("2 cores, on each of 2 nodes, 90 s", 1, 1, "wide"),
        ("1 core", 1, 9, "b:1"),
    ]
    assert seen.queue[0].reasons[0].startswith("not enough cores are free: at most 0 on one node (the largest has 2)")
    assert (seen.shape_count, seen.depending) == (2, 1)


def test_every_list_is_bounded_and_says_how_much_there_is() -> None:
    world = World(*[node(f"n{number}", 1) for number in range(5)])
    world.submit(*[job(f"j{number}", count=2, wt_s=10.0**number) for number in range(5)])
    seen = look(world, limit=2)
    assert len(seen.nodes) == len(seen.running) == len(seen.queue) == 2
    assert (seen.node_count, seen.matching, seen.shape_count) == (5, 5, 3)
    empty = look(world, limit=0)
    assert not any((empty.nodes, empty.running, empty.queue, empty.failures, empty.log))


def test_failures_are_told_with_their_reason_the_latest_first() -> None:
    world = World(node("n", 1))
    recent = Recent(world.scheduler.jobs, Views(world.scheduler, Path("/wd")), Path("/wd/aux"))
    world.submit(job("good"), job("bad"), job("worse"))
    for name, code in (("good", 0), ("bad", 3), ("worse", -9)):
        world.finish(name, code)
        recent.note([turn.changes for turn in world.turns])
        world.turns.clear()
    assert [(failure.task, failure.exit_code, failure.node) for failure in look(world, recent=recent).failures] == [
        ("worse", -9, "n"),
        ("bad", 3, "n"),
    ]


def test_of_very_many_failures_the_last_are_kept() -> None:
    world = World(node("n", 1))
    recent = Recent(world.scheduler.jobs, Views(world.scheduler, Path("/wd")), Path("/wd/aux"))
    world.submit(job("a", count=MOST_FAILURES + 5))
    for index in range(MOST_FAILURES + 5):
        world.finish(f"a:{index}", 1)
        recent.note([turn.changes for turn in world.turns])
        world.turns.clear()
    assert len(recent.failures) == MOST_FAILURES
    assert recent.failures[0].task == f"a:{MOST_FAILURES + 4}"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"limit": 1001}, "params.limit: 1001 is not a number of entries; write 0 to 1000"),
        ({"limit": "many"}, 'params.limit: "many" is not a number of entries; write 0 to 1000'),
        ({"match": 3}, "params.match: 3 is not text"),
    ],
)
def test_what_is_no_limit_or_filter_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(PilotfishError) as caught:
        requests.from_value({"request": "overview", "params": params}, dict)
    assert str(caught.value) == message
