"""Nodes that end before the pilot does: what starts there, what is held, and whose failure their end is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from world import World, job, node

from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.job_spec import JobSpec


def world_with(left_s: float, *, own_cores: int = 0, cores: int = 2) -> World:
    """A pilot with a joined node whose tasks must be over in `left_s` seconds, perhaps beside one of its own."""
    world = World(*([node("own", own_cores)] if own_cores else []))
    world.scheduler.nodes.elastic = True
    number = world.join(replace(node("guest", cores, joined=True), allocation="a1"))
    world.scheduler.nodes.times.set(NodeNo(number), world.now + left_s)
    return world


def with_min_time(spec: JobSpec, seconds: float) -> JobSpec:
    return replace(spec, resources=replace(spec.resources, min_time_s=seconds))


def test_a_task_starts_only_where_its_limit_is_over_before_the_node() -> None:
    world = world_with(100, own_cores=1)
    world.submit(job("long", count=3, wt_s=101), job("short", count=2, wt_s=100))
    assert world.running_on(0) == ["long:0"]
    assert world.running_on(1) == ["short:0", "short:1"]


def test_the_least_useful_time_counts_instead_of_the_limit_where_there_is_one() -> None:
    world = world_with(100)
    world.submit(with_min_time(job("restarts", wt_s=500), 100), with_min_time(job("late", wt_s=500), 101))
    assert world.running == ["restarts"]


def test_what_does_not_end_in_time_waits_for_a_node_that_stays() -> None:
    world = world_with(100)
    world.submit(job("long", wt_s=200))
    assert world.running == []
    assert why_not_running(world.scheduler, world.scheduler.jobs.get("long"), None, world.now) == [
        "it may take 200 s, and the node that stays longest has 100 s left for tasks"
    ]
    world.join(node("other", 1, joined=True))
    assert world.running == ["long"]


def test_tasks_without_a_limit_start_until_the_node_is_over() -> None:
    world = world_with(100)
    world.pass_time(100)
    world.submit(job("now"))
    world.finish("now")
    world.pass_time(1)
    world.submit(job("too late"))
    assert world.running == []


def test_short_tasks_with_a_limit_are_not_lent_to_a_node_that_ends_first() -> None:
    """Its agent still has a core for them, and would start them there."""
    world = world_with(10, cores=2)
    world.submit(job("t", count=6, wt_s=6))
    assert world.running == ["t:0", "t:1"]
    world.pass_time(5)
    world.finish("t:0", took_s=0.01)
    world.finish("t:1", took_s=0.01)
    assert world.running == []


def test_nodes_of_one_pilot_may_end_at_different_times() -> None:
    world = world_with(100, cores=1)
    for number, left_s in enumerate((300, 200, 300)):
        joined = world.join(node(f"n{number}", 1, joined=True))
        world.scheduler.nodes.times.set(NodeNo(joined), world.now + left_s)
    world.submit(job("t", count=4, wt_s=250))
    assert [world.running_on(number) for number in range(4)] == [[], ["t:0"], [], ["t:1"]]


def test_no_node_is_held_for_work_that_it_does_not_outlive() -> None:
    """The wide job is passed for so long that nodes are held for it: not the one that is over before it."""
    world = world_with(100, own_cores=2)
    world.submit(job("first", count=2), job("wide", 2, wt_s=200), job("small", count=9))
    world.pass_time(60)
    assert world.scheduler.dispatch.held == 0b01


def test_a_hold_ends_when_the_node_has_become_too_short_for_it() -> None:
    world = world_with(300)
    world.submit(job("first"), job("wide", 2, wt_s=200), job("small", count=9))
    world.pass_time(60)
    assert world.scheduler.dispatch.held == 0b1
    world.pass_time(60)
    assert world.scheduler.dispatch.held == 0


@pytest.mark.parametrize("times", [1, 7])
def test_the_loss_of_a_node_that_the_batch_system_took_back_is_nobodys_failure(times: int) -> None:
    """However often it happens: the crash limit is 5, and no retry is used up."""
    world = World()
    world.scheduler.nodes.elastic = True
    world.submit(job("t", retries=1))
    for _ in range(times):
        number = world.join(replace(node("guest", 1, joined=True), allocation="a1"))
        assert world.running == ["t"]
        world.lose(number, silent=True)
        world.leave(number)
    record = world.scheduler.jobs.get("t")
    assert (record.state.name, record.crashes, record.failures) == ("QUEUED", None, None)


def test_a_killed_agent_still_counts_there() -> None:
    """Its watcher has told that the agent alone was killed: perhaps by what it ran."""
    world = World(crash_limit=2)
    world.scheduler.nodes.elastic = True
    world.submit(job("t"))
    for _ in range(2):
        number = world.join(replace(node("guest", 1, joined=True), allocation="a1"))
        world.lose(number)
        world.leave(number)
    assert world.state("t") == "FAILED"


def test_the_result_of_an_evicted_attempt_still_counts_when_its_agent_was_only_cut_off() -> None:
    world = World()
    world.scheduler.nodes.elastic = True
    number = world.join(replace(node("guest", 1, joined=True), allocation="a1"))
    world.submit(job("t"))
    world.cut(number)
    world.finish_away(number)
    world.come_back(number)
    assert world.state("t") == "SUCCEED"
