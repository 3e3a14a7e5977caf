"""Rules for failures: which start again, when, and with how much."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.manager.work_frames import WorkFrames
from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.ids import NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import RetryRule
from pilotfish.pilot.model.results import Result
from pilotfish.pilot.model.retry import rule_for
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State

OOM = RetryRule(2, reasons=("memory limit",), mem=2.0)
BUSY = RetryRule(3, codes=(75, -9), pause_s=60.0)
_GIB = 1 << 30


@pytest.mark.parametrize(
    ("failures", "code", "reason", "rule"),
    [
        (0, 1, "Memory Limit of 1 GiB exceeded", OOM),
        (1, 1, "memory limit", OOM),
        (2, 1, "memory limit", None),
        (2, 75, "", BUSY),
        (0, -9, "killed by SIGKILL", BUSY),
        (0, 3, "", RetryRule(1)),
        (1, 3, "", None),
    ],
)
def test_the_first_rule_about_a_failure_decides(failures: int, code: int, reason: str, rule: RetryRule | None) -> None:
    assert rule_for(job("a", retries=1, retry=[OOM, BUSY]), failures, code, reason) == rule


def test_a_rule_without_codes_and_reasons_is_about_all() -> None:
    world = World(node("n1", 1))
    world.submit(job("a", retry=[RetryRule(2)]))
    for _ in range(3):
        world.finish("a", exit_code=4)
    assert (world.state("a"), world.events.count("a EXECUTING")) == ("FAILED", 3)


def test_a_task_pauses_without_holding_anything_up() -> None:
    world = World(node("n1", 1))
    world.submit(job("a", count=2, retry=[BUSY]))
    world.finish("a:0", exit_code=75)
    assert (world.running, world.states("a")) == (["a:1"], ["QUEUED", "EXECUTING"])
    a = world.scheduler.jobs.get("a")
    assert why_not_running(world.scheduler, a, 0, world.now + 20.0) == [
        "it has failed 1 times and starts again in 40 s, as its rule says"
    ]
    world.finish("a:1")
    assert world.running == []
    assert not world.scheduler.stalled(world.now)
    world.pass_time(59.0)
    assert world.running == []
    world.pass_time(2.0)
    assert world.running == ["a:0"]
    world.finish("a:0")
    assert world.state("a") == "SUCCEED"


def test_what_pauses_can_be_canceled_alone_and_with_its_job() -> None:
    world = World(node("n1", 2))
    world.submit(job("a", count=2, retry=[BUSY]), job("b", retry=[BUSY]))
    world.finish("a:0", exit_code=75)
    world.finish("a:1", exit_code=75)
    world.finish("b", exit_code=75)
    world.cancel("a", 0)
    assert world.states("a") == ["CANCELED", "QUEUED"]
    world.cancel("a")
    world.cancel("b")
    world.pass_time(100.0)
    assert (world.states("a"), world.state("b"), world.running) == (["CANCELED", "CANCELED"], "CANCELED", [])


def test_each_attempt_has_more_memory_up_to_what_a_node_has() -> None:
    world = World(node("n1", 2, mem=5 * _GIB))
    world.submit(job("a", count=2, mem=_GIB, retry=[RetryRule(9, mem=2.0)]))
    amounts = []
    for _ in range(4):
        world.finish("a:1", exit_code=1)
        (grant,) = (
            world.scheduler.dispatch.grants[grant_id]
            for key, (_, grant_id) in world.agents[NodeNo(0)].running.items()
            if key.pos == 1
        )
        amounts.append(grant.shares[0].mem_bytes // _GIB)
        if amounts[-1] == 2:
            world.finish("a:0")  # it needs room
    assert amounts == [2, 4, 5, 5]
    world.finish("a:1")
    assert (world.state("a"), world.shapes) == ("SUCCEED", 0)


def test_the_agent_is_told_of_a_longer_wall_time() -> None:
    world = World(node("n1", 1))
    world.submit(job("a", count=2, wt_s=10.0, retry=[RetryRule(1, wt=1.5)]))
    world.finish("a:0", exit_code=1)
    world.finish("a:1")
    assert world.running == ["a:0"]
    orders = [turn.orders[NodeNo(0)] for turn in world.turns if NodeNo(0) in turn.orders]
    starts = [
        start
        for each in orders
        for tasks in WorkFrames(world.scheduler, bind=False, inputs_of=lambda job: []).work(each, set()).tasks.values()
        for start in tasks
    ]
    assert {start.pos: start.wt_s for start in starts if start.run == 2} == {0: 15.0}


def test_a_replay_comes_to_the_same() -> None:
    """The pause counts from the failure."""
    scheduler = Scheduler([node("n1", 1, mem=8 * _GIB)])
    scheduler.replay_submitted([job("a", mem=_GIB, retry=[RetryRule(1, codes=(75,), pause_s=60.0, mem=2.0)])], 1000.0)
    (the_job,) = scheduler.jobs
    key = TaskKey(the_job.no, 0, 1)
    scheduler.recovery.replay_sent(NodeNo(0), key, 1001.0)
    times = 1001.0, 1002.0, 1003.0
    scheduler.recovery.replay_result(Result(*key, State.QUEUED, Cause.EXITED, 75, 7, *times, 0.5, 10, "", ()))
    scheduler.on_node_up(NodeNo(0))
    scheduler.on_time(1062.0)
    scheduler.plan(1062.0)
    assert not scheduler.dispatch.attempts
    scheduler.on_time(1064.0)
    scheduler.plan(1064.0)
    (grant,) = scheduler.dispatch.grants.values()
    assert grant.shares[0].mem_bytes == 2 * _GIB
