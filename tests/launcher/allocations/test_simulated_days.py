"""The allocator over days of simulated time: whatever waits, and however the batch queues behave, the bounds hold."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from simulated_site import COMING_S, Site
from world import job

from pilotfish.launcher.allocations.decide import PATIENCE_S, Submit
from pilotfish.launcher.allocations.spec import AllocationSpec, NodeSize
from pilotfish.pilot.model.job_spec import JobSpec

SIZE = NodeSize(8, 1, 32 << 30)
DAY_S = 86_400.0
WAITS_S = (5, 20, 60, 300, 900, 3600, 6 * 3600, 14 * 3600)
"""As users of busy sites know them: mostly minutes, some hours, a night."""


def spec(name: str = "a", **more: object) -> AllocationSpec:
    usual = AllocationSpec(name, "machine", nodes=(1, 4), walltime_s=4 * 3600, max_nodes=8, min_work_s=600, idle_s=300)
    return replace(usual, **more)  # type: ignore[arg-type]


def no_wait(submit: Submit, now: float) -> float:
    return 10


@st.composite
def bags(draw: st.DrawFn) -> list[tuple[float, JobSpec, float]]:
    """When jobs come, what they are, and how long one task runs; each fits on four nodes of SIZE within four hours."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        limit_s = draw(st.sampled_from([None, 60, 600, 3600, 3 * 3600]))
        took_s = draw(st.floats(0.01, 1.0)) * (limit_s or 3 * 3600)
        cores = draw(st.integers(1, 8))
        nodes = draw(st.sampled_from([None, None, None, 1, 2, 4]))
        gpus = draw(st.sampled_from([0, 0, 1]))
        tasks = draw(st.integers(1, 60))
        spec = job(f"j{number}", cores, nodes, count=tasks, gpus=gpus, wt_s=limit_s)
        if limit_s is not None and draw(st.booleans()):
            spec = replace(spec, resources=replace(spec.resources, min_time_s=took_s))
        if number and draw(st.booleans()):
            spec = replace(spec, after=job("x", after=[f"j{number - 1}"]).after)
        found.append((draw(st.sampled_from([0, 0, 100, 7200, DAY_S])) if not spec.after else 2 * DAY_S, spec, took_s))
    return found


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(bags(), st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([60, 600, 3600]), st.booleans())
def test_the_bounds_always_hold(
    bag: list[tuple[float, JobSpec, float]], seed: int, max_waiting: int, min_work_s: float, evicts: bool
) -> None:
    """Never more nodes or waiting allocations than allowed, none in which nothing fits, none idle for longer than it may be,
    and all work is done however long the queue takes, even where it takes allocations back. (`Site` checks the first at each
    look.)
    """
    chance = random.Random(seed)
    took_s = {spec.name: seconds for _, spec, seconds in bag}
    site = Site(
        [
            spec("a", max_waiting=max_waiting, min_work_s=min_work_s),
            spec("b", priority=1, max_waiting=1, max_nodes=4, nodes=(2, 4)),
        ],
        {"a": SIZE, "b": replace(SIZE, cores=16)},
        lambda submit, now: chance.choice(WAITS_S),
        lambda task: took_s[task.partition(":")[0]],
        fails=lambda submit: chance.random() < 0.05,
        evicted_after_s=lambda submit: 4000 if evicts and chance.random() < 0.2 else None,
        look_s=400,
        checked=False,
    )
    for at_s, each, _ in bag:
        site.submit_at(at_s, each)
    site.run(most_s=60 * DAY_S)
    unfinished = site.pilot.scheduler.unfinished
    assert not unfinished or any(spec.paused for spec in site.specs.values())
    for allocation in site.allocations.values():
        assert allocation.ended_s is not None, "nothing is left behind"
        assert allocation.longest_idle_s <= site.specs[allocation.asked.spec].idle_s + 2 * site.look_s


def test_nothing_is_asked_for_twice_by_two_specs() -> None:
    """Sixteen tasks of an hour fill two nodes; both machines could take them, and the first by priority is asked."""
    site = Site([spec("a"), spec("b", priority=1)], {"a": SIZE, "b": SIZE}, no_wait, lambda task: 3000)
    for name in site.specs:
        site.specs[name] = replace(site.specs[name], node=SIZE)
    site.submit_at(0, job("t", count=16, wt_s=3600))
    site.run(DAY_S)
    assert [(each.asked.spec, each.asked.nodes) for each in site.allocations.values()] == [("b", 2)]


def test_what_one_queue_may_not_give_the_other_is_asked_for() -> None:
    site = Site([spec("a"), spec("b", priority=1, max_nodes=1)], {"a": SIZE, "b": SIZE}, no_wait, lambda task: 3000)
    for name in site.specs:
        site.specs[name] = replace(site.specs[name], node=SIZE)
    site.submit_at(0, job("t", count=16, wt_s=3600))
    site.run(DAY_S)
    assert [(each.asked.spec, each.asked.nodes) for each in site.allocations.values()] == [("b", 1), ("a", 1)]


def test_a_wide_job_gets_an_allocation_that_is_wide_enough() -> None:
    site = Site([spec(node=SIZE)], {"a": SIZE}, no_wait, lambda task: 900)
    site.submit_at(0, job("small", count=3, wt_s=1000), job("wide", 8, nodes=4, wt_s=1000))
    site.run(DAY_S)
    assert max(each.asked.nodes for each in site.allocations.values()) == 4


def test_an_allocation_that_fails_is_tried_more_slowly_and_stopped_after_three() -> None:
    site = Site([spec(node=SIZE)], {"a": SIZE}, no_wait, lambda task: 60, fails=lambda submit: True)
    site.submit_at(0, job("t", count=100, wt_s=60))
    site.run(DAY_S)
    asked_s = [each.submitted_s for each in site.allocations.values()]
    pauses_s = [later - earlier for earlier, later in pairwise(asked_s)]
    assert len(pauses_s) == 2
    assert 30 <= pauses_s[0] < 120 <= pauses_s[1]
    assert site.specs["a"].paused
    (pause,) = site.decisions[-1][1].pause
    assert pause.reason == "its last 3 allocations were of no use: it ended at once"


def test_a_budget_is_never_exceeded() -> None:
    """... although much more waits than it allows for; what it leaves undone waits."""
    site = Site(
        [spec(node=SIZE, budget_node_s=6 * 3600)], {"a": SIZE}, no_wait, lambda task: 3000, checked=False, look_s=120
    )
    site.submit_at(0, job("t", count=200, wt_s=3600))
    with pytest.raises(AssertionError, match="not over"):
        site.run(DAY_S)
    assert 5 * 3600 < site.node_s <= 6 * 3600
    assert site.core_s >= 4 * 8 * 3000, "and what it allows for is put to use"


def test_what_waits_in_the_queue_is_canceled_when_the_work_is_done_elsewhere() -> None:
    site = Site(
        [spec("slow", node=SIZE), spec("fast", node=SIZE)],
        {"slow": SIZE, "fast": SIZE},
        lambda submit, now: {"slow": DAY_S, "fast": 10}[submit.spec],
        lambda task: 3000,
        checked=False,
    )
    site.specs["slow"] = replace(site.specs["slow"], priority=1)
    site.submit_at(0, job("t", count=16, wt_s=3600))
    site.run(2 * DAY_S)
    assert [(each.asked.spec, each.started_s is None) for each in site.allocations.values()] == [
        ("slow", True),
        ("fast", False),
    ]
    _, second = site.allocations.values()
    assert second.submitted_s - 1000 > PATIENCE_S, "until then nothing is asked for twice"
    reasons = [cancel.reason for _, decisions in site.decisions for cancel in decisions.cancel]
    assert reasons == ["nothing waits any more"]


def test_an_allocation_lasts_as_long_as_what_waits_needs() -> None:
    """Not the four hours that it may: short ones come sooner."""
    site = Site([spec(node=SIZE)], {"a": SIZE}, no_wait, lambda task: 50)
    site.submit_at(0, job("t", count=320, wt_s=60))
    site.run(DAY_S)
    (each,) = site.allocations.values()
    assert each.asked.nodes == 4
    assert 600 + COMING_S < each.asked.walltime_s < 1800
