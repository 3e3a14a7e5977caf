"""Single decisions: what waits and what is known in, what to do and why out. Days of them: test_simulated_days.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pilotfish.launcher.allocations.decide import (
    PATIENCE_S,
    AllocationState,
    Cancel,
    Decisions,
    KnownAllocation,
    Quiet,
    Release,
    Submit,
    decide,
)
from pilotfish.launcher.allocations.spec import AllocationSpec, NodeSize
from pilotfish.pilot.wire.demand import VERSION, Demand, NodeUse, ShapeDemand

SIZE = NodeSize(8, 2, 64 << 30)
NOW = 50_000.0
WAITING, RUNNING, UNKNOWN, ENDED = AllocationState


def spec(name: str = "a", **more: Any) -> AllocationSpec:
    usual = AllocationSpec(name, "machine", nodes=(1, 8), walltime_s=4 * 3600, max_nodes=16, node=SIZE)
    return replace(usual, **more)


def shape(tasks: int, cores: int | None = 1, **more: Any) -> ShapeDemand:
    size = None if cores is None else (cores, cores)
    limit_s = more.get("wt_s", 3600)
    return ShapeDemand(tasks, size, **{"wt_s": 3600, "least_s": limit_s or 0.0, "first": "t:0", **more})


def node(allocation: str = "", *, free: int = 8, **more: Any) -> NodeUse:
    return NodeUse(f"n-{allocation}", "READY", 8, free, 2, 2, 64 << 30, 64 << 30, allocation=allocation, **more)


def known(id: str, state: AllocationState, nodes: int = 1, **more: Any) -> KnownAllocation:
    started_s = None if state is WAITING else NOW - 600
    ended_s = NOW - 10 if state is ENDED else None
    usual = KnownAllocation(id, "a", nodes, 4 * 3600, state, NOW - 900, started_s, ended_s, state is not WAITING)
    return replace(usual, **more)


def decided(
    *specs: AllocationSpec,
    shapes: tuple[ShapeDemand, ...] = (),
    nodes: tuple[NodeUse, ...] = (),
    have: tuple[KnownAllocation, ...] = (),
    **more: Any,
) -> Decisions:
    demand = Demand(VERSION, NOW, list(shapes), list(nodes), margin_s=60, **more)
    return decide(specs or (spec(),), demand, have, NOW)


def sizes(decisions: Decisions) -> list[tuple[str, int]]:
    return [(each.spec, each.nodes) for each in decisions.submit]


def test_as_many_nodes_are_asked_for_as_what_waits_fills_and_the_reason_says_what_that_is() -> None:
    assert decided(shapes=(shape(24),)).submit == (Submit("a", 3, 4440, "24 tasks like t:0 (1 core, 1h)"),)


def test_what_the_nodes_that_are_there_will_do_is_not_asked_for() -> None:
    decisions = decided(shapes=(shape(15),), nodes=(node(), node(free=0, busy_for_s=60)))
    assert decisions.submit == ()
    assert decisions.quiet == (Quiet("a", "what waits would not keep another node in use for 10m: 2 nodes are there"),)


def test_nor_what_was_asked_for_before() -> None:
    assert sizes(decided(shapes=(shape(24),), have=(known("x", WAITING, 2),))) == [("a", 1)]
    assert sizes(decided(shapes=(shape(24),), have=(known("x", UNKNOWN, 2, agents_seen=False),))) == [("a", 1)]


def test_a_node_that_ends_too_soon_is_no_reason_not_to_ask() -> None:
    assert sizes(decided(shapes=(shape(8),), nodes=(node(left_s=1800),))) == [("a", 1)]
    assert sizes(decided(shapes=(shape(8, least_s=600),), nodes=(node(left_s=1800),))) == []


def test_short_tasks_are_put_together_until_a_node_is_of_use() -> None:
    """480 tasks of 10 s keep one node of 8 cores in use for 10 minutes."""
    busy = (node(free=0),)
    assert sizes(decided(shapes=(shape(479, wt_s=10),), nodes=busy)) == []
    assert sizes(decided(shapes=(shape(480, wt_s=10),), nodes=busy)) == [("a", 1)]
    assert sizes(decided(shapes=(shape(480, mean_s=20),), nodes=busy)) == [("a", 2)]


def test_however_little_waits_it_is_asked_for_when_nothing_else_can_run_it() -> None:
    (submit,) = decided(shapes=(shape(1, wt_s=10),)).submit
    assert (submit.nodes, submit.walltime_s) == (1, 720)
    assert submit.reason == "1 task like t:0 (1 core, 10s) and nothing that is there or asked for can run it"


@pytest.mark.parametrize(
    ("wide", "nodes"),
    [
        (shape(1, 4, nodes=(5, 5)), 5),
        (shape(1, None, nodes=(5, None)), 5),
        (shape(1, 33), 5),
        (shape(2, 4, nodes=(4, 4)), 4),
    ],
    ids=["nodes", "whole nodes", "cores anywhere", "two on the same nodes"],
)
def test_a_wide_task_gets_an_allocation_that_is_wide_enough(wide: ShapeDemand, nodes: int) -> None:
    assert sizes(decided(shapes=(wide,))) == [("a", nodes)]


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (shape(1, nodes=(9, 9)), "one needs 9 nodes, an allocation has 8 at most"),
        (shape(1, 1, gpus=3), "its nodes have not what one needs (1 core, 3 GPUs)"),
        (shape(1, 1, mem_bytes=65 << 30), "its nodes have not what one needs (1 core, 65G)"),
        (shape(1, 1, tags=["fast"]), "its nodes have not what one needs (1 core, tags fast)"),
        (shape(1, wt_s=4 * 3600), "one needs 4h, an allocation lasts 3h58m30s at most"),
    ],
)
def test_nothing_is_asked_for_in_which_nothing_fits(unfit: ShapeDemand, reason: str) -> None:
    decisions = decided(shapes=(unfit,))
    assert decisions.submit == ()
    assert decisions.quiet[0].reason.endswith(reason)


def test_named_resources_of_a_node_bound_what_fits_there() -> None:
    """Two of three drives each, and a quarter of a GPU: the drives let one at a time on a node, the GPUs would let eight."""
    fast = spec(node=replace(SIZE, named=(("nvme", 3),)))
    assert sizes(decided(fast, shapes=(shape(4, named={"nvme": 2}),))) == [("a", 4)]
    assert sizes(decided(fast, shapes=(shape(16, named={"gpu": 0.25}),))) == [("a", 2)]
    none = decided(shapes=(shape(1, named={"nvme": 2}),)).quiet[0].reason
    assert none.endswith("its nodes have not what one needs (1 core, 2 nvme)")


def test_tasks_that_are_to_be_apart_get_a_node_each() -> None:
    assert sizes(decided(shapes=(shape(3, one_per_node=True),))) == [("a", 3)]


def test_what_has_an_alternative_is_asked_for_where_either_fits() -> None:
    """A GPU, or else eight cores: the nodes have no GPUs. What is there and has some does four at a time."""
    either = shape(10, 1, gpus=1, alternatives=[shape(0, 8)])
    plain = spec(node=NodeSize(8))
    (submit,) = decided(plain, shapes=(either,)).submit[:1]
    assert (submit.nodes, submit.reason) == (8, "10 tasks like t:0 (8 cores, 1h)")
    there = (node(), node())
    assert sizes(decided(plain, shapes=(either,), nodes=there, have=())) == [("a", 6)]
    neither = shape(1, 1, gpus=1, alternatives=[shape(0, 1, tags=["fast"])])
    assert (
        decided(plain, shapes=(neither,)).quiet[0].reason.endswith("its nodes have not what one needs (1 core, 1 GPU)")
    )


def test_a_task_that_needs_only_part_of_its_limit_fits_where_that_is_left() -> None:
    assert sizes(decided(shapes=(shape(1, wt_s=9 * 3600, least_s=1800),))) == [("a", 1)]


def test_who_has_the_nodes_for_it_is_asked_whoever_comes_first() -> None:
    gpus = spec("gpus", node=replace(SIZE, gpus=8), priority=-1)
    decisions = decided(spec(), gpus, shapes=(shape(4, 1, gpus=4), shape(8)))
    assert sizes(decisions) == [("a", 1), ("gpus", 2)]


def test_bounds_are_told_when_they_are_reached() -> None:
    full = decided(
        shapes=(shape(800),), have=(known("x", RUNNING, 16),), nodes=tuple(node("x", free=0) for _ in "x" * 16)
    )
    assert full.quiet[0].reason == "it has 16 of at most 16 nodes; 800 tasks like t:0 (1 core, 1h)"
    two = (known("x", WAITING), known("y", WAITING))
    assert decided(shapes=(shape(800),), have=two).quiet[0].reason.startswith("2 of its allocations wait already; ")
    poor = decided(spec(budget_node_s=1800), shapes=(shape(8),))
    assert poor.quiet[0].reason.startswith("its budget has 0.5 node-hours left, which is too little; ")


@pytest.mark.parametrize(("left_s", "asked"), [(1800.0, []), (7200.0, [("a", 1)])], ids=["starving", "served"])
def test_room_is_kept_for_a_wide_task_that_no_nodes_can_run(left_s: float, asked: list[tuple[str, int]]) -> None:
    """Three of at most four nodes are there. If they stay for long enough, the wide task will get them in time, and a fourth
    is of use to the others; if not, it needs an allocation of its own, and small ones would take its place for ever.
    """
    have = tuple(known(name, RUNNING) for name in ("x", "y", "z"))
    nodes = tuple(node(name, free=0, left_s=left_s) for name in ("x", "y", "z", ""))
    decisions = decided(spec(max_nodes=4), shapes=(shape(1, 8, nodes=(4, 4)), shape(800)), nodes=nodes, have=have)
    assert sizes(decisions) == asked


def test_a_budget_counts_what_was_used_and_what_may_yet_be() -> None:
    """Ended after 590 s on 2 nodes, 4 hours of one that runs; 62 minutes at least for what is asked for now."""
    have = (known("x", ENDED, 2), known("y", RUNNING, releasing=True))
    spent_s = 2 * 590 + 4 * 3600
    rich, poor = spec(budget_node_s=spent_s + 3720), spec(budget_node_s=spent_s + 3719)
    assert sizes(decided(rich, shapes=(shape(8),), have=have)) == [("a", 1)]
    assert sizes(decided(poor, shapes=(shape(8),), have=have)) == []


def test_until_a_node_has_come_nobody_knows_what_it_has_and_one_allocation_is_asked_for() -> None:
    new = spec(node=None)
    (submit,) = decided(new, shapes=(shape(800),)).submit
    assert (submit.nodes, submit.reason) == (1, "800 tasks like t:0 (1 core, 1h); what its nodes have is to be seen")
    waits = decided(new, shapes=(shape(800),), have=(known("x", WAITING),))
    assert waits.quiet == (Quiet("a", "what its nodes have is not known before the first of them has come"),)
    came = decided(new, shapes=(shape(800),), have=(known("x", RUNNING),), nodes=(node("x", free=0),))
    assert sizes(came) == [("a", 8), ("a", 7)]


def test_an_idle_allocation_is_released_when_all_its_nodes_have_been_idle_for_long_enough() -> None:
    have = (known("x", RUNNING, 2),)
    idle = decided(nodes=(node("x", idle_s=300.0), node("x", idle_s=900.0)), have=have)
    assert idle.release == (Release("x", "it has been idle for 5m, and may be for 5m"),)
    assert decided(nodes=(node("x", idle_s=299.0), node("x", idle_s=900.0)), have=have).release == ()
    assert decided(nodes=(node("x", free=1), node("x", idle_s=900.0)), have=have).release == ()


@pytest.mark.parametrize(
    ("shapes", "blocked", "reason"),
    [
        ((), 0, "nothing waits any more"),
        ((shape(1, nodes=(2, 2)),), 0, "nothing of what waits fits there"),
        ((), 5, None),
        ((shape(1),), 0, None),
    ],
    ids=["no work", "too wide", "work that will come", "work that fits"],
)
def test_what_waits_in_a_batch_system_is_canceled_when_nothing_needs_it(
    shapes: tuple[ShapeDemand, ...], blocked: int, reason: str | None
) -> None:
    decisions = decided(shapes=shapes, blocked=blocked, have=(known("x", WAITING),))
    assert decisions.cancel == (() if reason is None else (Cancel("x", reason),))


def test_what_may_have_started_is_not_canceled_as_if_it_waited() -> None:
    assert decided(have=(known("x", UNKNOWN, started_s=NOW - 60),)).cancel == ()


def test_others_rely_on_an_allocation_that_waits_but_not_for_ever() -> None:
    both = (spec("a", priority=1, max_waiting=1), spec("b"))
    fresh, old = (replace(known("x", WAITING, 2), submitted_s=NOW - age_s) for age_s in (PATIENCE_S, PATIENCE_S + 1))
    assert sizes(decided(*both, shapes=(shape(16),), have=(fresh,))) == []
    assert sizes(decided(*both, shapes=(shape(16),), have=(old,))) == [("b", 2)]


def test_nothing_is_asked_for_at_the_end_of_the_pilot_and_what_waits_is_canceled() -> None:
    decisions = decided(shapes=(shape(8),), have=(known("x", WAITING),), ending=True)
    assert (decisions.cancel, decisions.quiet) == (
        (Cancel("x", "the pilot is at its end"),),
        (Quiet("a", "the pilot is at its end"),),
    )


def test_no_allocation_outlives_the_pilot() -> None:
    """It ends with the allocation of its manager: an hour that is left is enough for tasks of half an hour only."""
    assert sizes(decided(shapes=(shape(8),), left_s=3600.0)) == []
    (submit,) = decided(shapes=(shape(800, wt_s=1800),), left_s=3600.0).submit[:1]
    assert submit.walltime_s == 3660


def test_a_spec_that_is_paused_asks_for_nothing_and_keeps_what_it_has() -> None:
    decisions = decided(spec(paused=True), shapes=(shape(8),), have=(known("x", WAITING),))
    assert (decisions.submit, decisions.cancel) == ((), ())
    assert decisions.quiet == (Quiet("a", "it is paused"),)


def test_after_a_failure_one_allocation_at_a_time_is_tried_and_not_at_once() -> None:
    failed = replace(known("x", ENDED), failed=True, agents_seen=False)
    rests = decided(shapes=(shape(800),), have=(failed,))
    assert rests.quiet == (Quiet("a", "its last allocation was of no use; it is tried again in 20s"),)
    later = replace(failed, ended_s=NOW - 31)
    assert sizes(decided(shapes=(shape(800),), have=(later,))) == [("a", 8)]
