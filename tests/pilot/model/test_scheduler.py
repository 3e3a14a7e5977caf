"""What the scheduler decides, one sentence at a time."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.errors import (
    InternalError,
    InvalidJobError,
    JobExistsError,
    NotEnoughResourcesError,
    RefusedError,
)
from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.states import Cause, State


def test_a_job_goes_through_its_states_in_order() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    world.finish("a")
    assert world.events == ["a SCHEDULED", "a EXECUTING", "a SUCCEED"]


def test_an_iteration_job_stays_queued_until_its_last_task_has_ended() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=2))
    world.finish("a:0")
    assert world.state("a") == "QUEUED"
    world.finish("a:1", exit_code=3)
    assert world.state("a") == "FAILED"
    assert world.events[-2:] == ["a:1 FAILED", "a FAILED"]


def test_jobs_start_in_order_of_submission() -> None:
    world = World(node("n", 1))
    world.submit(job("a"), job("b"), job("c"))
    started = []
    while world.running:
        started += world.running
        world.finish(world.running[0])
    assert started == ["a", "b", "c"]


def test_a_higher_priority_starts_first() -> None:
    world = World(node("n", 1))
    world.submit(job("running"))
    world.submit(job("low"), job("high", priority=5))
    world.finish("running")
    assert world.running == ["high"]


def test_later_work_passes_work_that_does_not_fit() -> None:
    world = World(node("n", 2))
    world.submit(job("one"), job("two", 2), job("small"))
    assert world.running == ["one", "small"]


def test_work_that_was_passed_long_enough_is_not_passed_any_more() -> None:
    """The bound: `reserve_after_s` after it was first passed, plus what then runs on the held nodes."""
    world = World(node("n", 2), reserve_after_s=10)
    world.submit(job("one"), job("wide", 2), *[job(f"s{i}") for i in range(50)])
    for _ in range(5):
        world.finish(world.running[-1])
    world.pass_time(11)
    first, second = world.running
    world.finish(first)
    assert world.running == [second]
    world.finish(second)
    assert world.running == ["wide"]


def test_nothing_is_held_for_the_time_for_which_the_whole_job_was_suspended() -> None:
    """Nobody has been passed meanwhile; 10 s in which work is passed count as ever."""
    world = World(node("n", 2), reserve_after_s=10)
    world.submit(job("one"), job("wide", 2), *[job(f"s{i}") for i in range(50)])
    world.finish(world.running[-1])
    world.pass_time(6)
    world.suspend(3600)
    world.pass_time(3)
    assert world.scheduler.dispatch.reserved is None
    assert "later work has been passing it for 9 s" in "; ".join(
        why_not_running(world.scheduler, world.scheduler.jobs.get("wide"), 0, world.now)
    )
    world.pass_time(2)
    assert world.scheduler.dispatch.reserved is not None


def test_nothing_is_taken_back_for_the_time_for_which_the_whole_job_was_suspended() -> None:
    """The agent has stood still too, and its tasks are as short as before."""
    world = World(node("n", 1))
    world.submit(job("a", count=1000))
    world.finish("a:0", took_s=0.001)
    lent = world.scheduler.jobs.tasks_in[State.SCHEDULED]
    assert lent > 0
    world.suspend(3600)
    assert world.scheduler.jobs.tasks_in[State.SCHEDULED] == lent


def test_nodes_outside_the_reservation_go_on_serving_others() -> None:
    world = World(node("n", 2), node("m", 2), reserve_after_s=10)
    world.submit(*[job(f"s{i}") for i in range(60)])
    world.submit(job("whole", None, nodes=1))
    world.submit(*[job(f"t{i}") for i in range(60)])
    for _ in range(20):
        world.finish(world.running[0])
    world.run_to_end()
    assert world.state("whole") == "SUCCEED"


def test_cores_anywhere_stay_on_one_node_if_one_can_hold_them() -> None:
    world = World(node("n", 2), node("m", 4))
    world.submit(job("a", 3))
    (attempt,) = world.scheduler.dispatch.attempts.values()
    assert attempt.node == 1


def test_cores_anywhere_are_collected_from_several_nodes_otherwise() -> None:
    world = World(node("n", 2), node("m", 2))
    world.submit(job("a", 3))
    (grant,) = world.scheduler.dispatch.grants.values()
    assert [(share.node, share.cores) for share in grant.shares] == [(0, 0b11), (1, 0b01)]


def test_a_range_of_cores_takes_what_is_free() -> None:
    world = World(node("n", 4))
    world.submit(job("one"), job("range", (1, 8)))
    grants = list(world.scheduler.dispatch.grants.values())
    assert grants[1].shares[0].cores == 0b1110


def test_whole_nodes_are_taken_whole() -> None:
    world = World(node("n", 2), node("m", 3))
    world.submit(job("one"), job("whole", None, nodes=1))
    grants = list(world.scheduler.dispatch.grants.values())
    assert [(share.node, share.cores) for share in grants[1].shares] == [(1, 0b111)]


def test_gpus_are_counted_per_node() -> None:
    world = World(node("n", 4, gpus=1), node("m", 4, gpus=1))
    world.submit(*[job(f"g{i}", gpus=1) for i in range(3)])
    assert world.running == ["g0", "g1"]
    world.finish("g0")
    assert world.running == ["g2", "g1"]


def test_memory_keeps_tasks_from_starting_together() -> None:
    world = World(node("n", 4, mem=10))
    world.submit(*[job(f"m{i}", mem=4) for i in range(3)])
    assert world.running == ["m0", "m1"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (job("a", 5), "5 cores are needed, the pilot has 4"),
        (job("a", 3, nodes=2), "3 cores on each of 2 nodes are needed, no node has more than 2 cores (4 cores in all)"),
        (job("a", 1, nodes=3), "3 nodes are needed, the pilot has 2"),
        (job("a", 1, gpus=3), "3 GPUs on a node are needed, no node has more than 1 GPU (1 GPU in all)"),
        (job("a", 1, nodes=2, gpus=1), "1 GPU on each of 2 nodes is needed, and only 1 of 2 has as much"),
        (
            job("a", 1, mem=20 << 20),
            "20 MiB of memory on a node are needed, no node has more than 8 MiB of memory (12 MiB of memory in all)",
        ),
        (
            job("a", 3, gpus=2),
            "3 cores on a node are needed, no node has more than 2 cores (4 cores in all); "
            "2 GPUs on a node are needed, no node has more than 1 GPU (1 GPU in all)",
        ),
        (
            job("a", 2, gpus=1, mem=8 << 20),
            "2 cores and 1 GPU and 8 MiB of memory on a node are needed, and too few nodes have them together",
        ),
    ],
)
def test_what_can_never_fit_is_refused_with_what_is_missing_and_the_most_there_is(spec: object, reason: str) -> None:
    world = World(node("n", 2, gpus=1, mem=4 << 20), node("m", 2, mem=8 << 20))
    with pytest.raises(NotEnoughResourcesError) as caught:
        world.submit(spec)  # type: ignore[arg-type]
    assert caught.value.what == "Not enough resources for job a"
    assert caught.value.remedy == reason


def test_a_submit_is_all_or_nothing() -> None:
    world = World(node("n", 2))
    world.submit(job("a"))
    with pytest.raises(JobExistsError):
        world.submit(job("b"), job("a"))
    assert [found.spec.name for found in world.scheduler.jobs] == ["a"]


# --- dependencies -------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_what_it_depends_on() -> None:
    world = World(node("n", 4))
    world.submit(job("late", after=["early"]), job("early"))
    assert world.running == ["early"]
    world.finish("early")
    assert world.running == ["late"]


def test_a_failed_dependency_omits_the_whole_chain_at_once_with_the_reason() -> None:
    world = World(node("n", 4))
    world.submit(job("a"), job("b", after=["a"]), job("c", after=["b"], count=3))
    world.finish("a", exit_code=1)
    assert world.state("b") == world.state("c") == "OMITTED"
    assert world.states("c") == ["OMITTED"] * 3
    assert world.scheduler.jobs.get("b").message == "dependency a ended FAILED"
    assert world.scheduler.jobs.get("c").message == "dependency b ended OMITTED"


def test_a_chain_of_many_thousand_jobs_needs_no_deep_stack() -> None:
    world = World(node("n", 1))
    world.submit(job("j0"), *[job(f"j{i}", after=[f"j{i - 1}"]) for i in range(1, 5000)])
    world.cancel("j0")
    assert world.state("j4999") == "OMITTED"


def test_an_unknown_dependency_omits() -> None:
    world = World(node("n", 1))
    world.submit(job("a", after=["nobody"]))
    assert world.state("a") == "OMITTED"
    assert world.scheduler.jobs.get("a").message == "dependency nobody does not exist"


def test_iterations_wait_index_by_index() -> None:
    world = World(node("n", 8))
    world.submit(job("a", count=3), job("b", count=3, after=["a:*"]))
    world.finish("a:1")
    assert sorted(world.running) == ["a:0", "a:2", "b:1"]
    world.finish("a:0", exit_code=1)
    assert world.states("b") == ["OMITTED", "EXECUTING", "QUEUED"]


def test_iterations_that_have_ended_before_decide_index_by_index_too() -> None:
    world = World(node("n", 3))
    world.submit(job("a", count=3))
    world.finish("a:0")
    world.finish("a:1", exit_code=1)
    world.submit(job("b", count=3, after=["a:*"]))
    assert world.states("b") == ["EXECUTING", "OMITTED", "QUEUED"]
    world.finish("a:2")
    assert world.states("b") == ["EXECUTING", "OMITTED", "EXECUTING"]


def test_a_core_that_an_agent_gives_back_unused_is_free() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    (grant,) = world.scheduler.dispatch.grants
    (key,) = world.agents[NodeNo(0)].running
    world.scheduler.on_revoked(key, world.now)
    world.scheduler.on_returned(grant)
    assert world.scheduler.nodes.free_count == 1


def test_a_job_can_wait_for_one_iteration() -> None:
    world = World(node("n", 8))
    world.submit(job("a", count=3), job("b", after=["a:2"]))
    world.finish("a:2")
    assert "b" in world.running


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ([job("a", after=["b"]), job("b", after=["a"])], "jobs wait for each other: a -> b -> a"),
        ([job("a", count=2), job("b", after=["a:7"])], 'job "a" has no iteration 7'),
        ([job("a"), job("b", after=["a:*"], count=2)], 'job "a" has no iterations'),
        ([job("a", count=2), job("b", after=["a:*"], count=3)], "iterations 0..2 are not all among those"),
    ],
)
def test_impossible_dependencies_are_refused(specs: list[object], text: str) -> None:
    world = World(node("n", 2))
    with pytest.raises(InvalidJobError, match=text.replace(".", r"\.")):
        world.submit(*specs)  # type: ignore[arg-type]
    assert len(world.scheduler.jobs) == 0


# --- cancel, retry, loss ------------------------------------------------------------------------------------------------


def test_cancelling_a_job_ends_queued_tasks_at_once_and_stops_running_ones() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=3))
    world.cancel("a")
    assert world.states("a") == ["CANCELED"] * 3
    assert world.state("a") == "CANCELED"


def test_cancelling_one_iteration_leaves_the_others() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=3))
    world.cancel("a", 1)
    world.run_to_end()
    assert world.states("a") == ["SUCCEED", "CANCELED", "SUCCEED"]
    assert world.state("a") == "FAILED"


def test_cancelling_one_running_iteration_stops_it() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=3))
    world.cancel("a", 1)
    assert world.states("a") == ["EXECUTING", "CANCELED", "EXECUTING"]
    assert world.running == ["a:0", "a:2"]


def test_a_job_that_ended_cannot_be_cancelled() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    world.finish("a")
    with pytest.raises(RefusedError, match="already finished"):
        world.cancel("a")


def test_a_failed_task_is_started_again_as_often_as_asked() -> None:
    world = World(node("n", 1))
    world.submit(job("a", retries=2))
    for _ in range(3):
        world.finish("a", exit_code=1)
    assert world.state("a") == "FAILED"
    assert world.scheduler.jobs.get("a").tasks.run(0) == 3


def test_attempts_count_starts_and_not_what_came_back_unstarted() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=200, retries=2))
    for _ in range(20):
        world.finish(world.running[0], took_s=0.001)
    world.pass_time(60)
    name = world.running[0]
    world.finish(name, exit_code=1, took_s=0.001)
    world.lose(0)
    world.revive(0)
    world.run_to_end()
    a = world.scheduler.jobs.get("a")
    attempts = [a.attempts(pos) for pos in range(200)]
    assert attempts[int(name.removeprefix("a:"))] >= 2
    assert sorted(attempts)[:198] == [1] * 198


def test_tasks_of_a_lost_node_run_again_elsewhere() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a"), job("b"))
    world.finish("b")
    world.lose(0)
    assert world.running == ["a"]
    world.finish("a")
    assert world.state("a") == "SUCCEED"


def test_a_node_that_leaves_for_good_gives_its_tasks_back_without_a_crash() -> None:
    world = World(node("n", 1), node("m", 1), crash_limit=1)
    world.submit(job("a"), job("b"))
    world.leave(0)
    assert world.running == ["b"]
    assert world.state("a") == "QUEUED"
    assert world.scheduler.nodes.total_cores == 1
    world.join(node("n", 1))
    assert sorted(world.running) == ["a", "b"]
    world.run_to_end()
    assert world.state("a") == "SUCCEED"


def test_what_only_a_node_that_left_could_serve_is_refused_afterwards() -> None:
    world = World(node("n", 4), node("m", 1))
    world.leave(0)
    with pytest.raises(NotEnoughResourcesError):
        world.submit(job("a", 2))


def test_a_task_that_loses_its_agent_too_often_has_failed_with_that_reason() -> None:
    world = World(node("n", 1), crash_limit=3)
    world.submit(job("a"))
    for _ in range(3):
        world.lose(0)
        world.revive(0)
    assert world.state("a") == "FAILED"
    assert world.scheduler.jobs.get("a").message == "its agent was lost 3 times while it ran; the limit is 3"


def test_a_task_over_two_nodes_is_stopped_and_run_again_when_one_is_lost() -> None:
    world = World(node("n", 1), node("m", 1))
    world.submit(job("a", 1, nodes=2))
    world.lose(1)
    assert world.running == []
    world.revive(1)
    assert world.running == ["a"]


# --- leases -------------------------------------------------------------------------------------------------------------


def test_short_tasks_are_lent_ahead() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=1000))
    world.finish("a:0", took_s=0.001)
    assert world.scheduler.jobs.tasks_in[1] > 100


def test_long_tasks_are_not_lent() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=1000))
    world.finish("a:0", took_s=5)
    assert world.scheduler.jobs.tasks_in[1] == 0


def test_lent_tasks_that_do_not_start_come_back() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=1000))
    world.finish("a:0", took_s=0.001)
    world.pass_time(2.0)
    assert world.scheduler.jobs.tasks_in[1] == 0
    world.run_to_end()
    assert world.state("a") == "SUCCEED"


def test_a_task_stopped_with_the_pilot_stays_queued() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    world.finish("a", -15, Cause.CANCELED)
    assert world.running == ["a"]
    assert world.scheduler.jobs.get("a").tasks.run(0) == 2


def test_lending_goes_on_after_tasks_that_were_asked_back_have_started_all_the_same() -> None:
    """The answer to a revoke may be that nothing was left to give back."""
    world = World(node("n", 1))
    world.submit(job("a", count=1000))
    world.finish("a:0", took_s=0.001)
    (pool,) = world.scheduler.dispatch.pools.values()
    world.scheduler.dispatch._revoke(pool)
    for _ in range(1000):
        if world.running:
            world.finish(world.running[0], took_s=0.001)
    assert world.state("a") == "SUCCEED"
    assert not pool.revoking


def test_a_broken_invariant_is_an_internal_error_that_names_the_rule() -> None:
    world = World(node("n", 2))
    world.scheduler.nodes.free_cores[0] = 0b1
    with pytest.raises(InternalError, match="an invariant is broken: core of n lost"):
        invariants.require(world.scheduler)


# --- the end of the allocation --------------------------------------------------------------------------------------------


def test_only_what_is_over_in_time_is_started_and_later_work_that_is_passes() -> None:
    world = World(node("n", 2))
    world.scheduler.ends_at(world.now + 100, margin_s=10)
    world.submit(job("long", wt_s=95), job("short", wt_s=80), job("unlimited"))
    assert sorted(world.running) == ["short", "unlimited"]
    assert world.state("long") == "QUEUED"


def test_a_limit_of_its_own_for_each_job_does_not_make_a_shape_for_each() -> None:
    world = World(node("n", 1))
    world.submit(*[job(f"j{number}", wt_s=3600 + number / 10) for number in range(1000)])
    assert len(world.scheduler.queue.heads()) <= 3


def test_work_that_can_only_be_done_elsewhere_stalls_once_the_rest_is_done() -> None:
    world = World(node("n", 1))
    world.scheduler.ends_at(world.now + 100, margin_s=10)
    world.submit(job("long", wt_s=95), job("short"))
    world.scheduler.replay_submitted([job("wide", 2)], world.now)
    assert not world.scheduler.stalled(world.now)
    world.finish("short")
    assert world.scheduler.stalled(world.now)


def test_nothing_is_started_or_lent_in_the_margin() -> None:
    world = World(node("n", 1))
    world.scheduler.ends_at(world.now + 100, margin_s=10)
    world.submit(job("a", count=200))
    for _ in range(5):
        world.finish(world.running[0], took_s=0.001)
    world.pass_time(91)
    states = world.states("a")
    while world.running:
        world.finish(world.running[0])
    assert world.states("a").count("SUCCEED") == len(states) - states.count("QUEUED")


def test_work_that_has_no_time_left_is_not_waited_for() -> None:
    """It is not reserved for: nobody else must wait for what will not come."""
    world = World(node("n", 2), reserve_after_s=1)
    world.scheduler.ends_at(world.now + 100, margin_s=10)
    world.submit(job("wide", 2, wt_s=95), *[job(f"s{number}") for number in range(4)])
    world.pass_time(5)
    world.finish(world.running[0])
    assert len(world.running) == 2
