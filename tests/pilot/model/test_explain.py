"""Why a task is not running: one test for each kind of reason."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.explain import why_not_running
from pilotfish.pilot.model.ids import NodeNo


def why(world: World, name: str, pos: int | None = None) -> list[str]:
    return why_not_running(world.scheduler, world.scheduler.jobs.get(name), pos, world.now)


def test_what_has_ended_or_runs_says_so() -> None:
    world = World(node("n", 1))
    world.submit(job("a"), job("b", count=1))
    assert why(world, "a") == ["it has been running on n for 0 s"]
    world.finish("a")
    assert why(world, "a") == ["it has ended: SUCCEED"]
    assert why(world, "b") == ["all its tasks have been started"]


def test_a_dependency_is_named_with_its_state() -> None:
    world = World(node("n", 2))
    world.submit(job("a", count=2), job("b", after=["a"]), job("c", count=2, after=["a:*"]), job("d", after=["a:1"]))
    assert why(world, "b") == ["it waits for a, which is QUEUED"]
    assert why(world, "c", 1) == ["it waits for a:1, which is EXECUTING"]
    assert why(world, "d") == ["it waits for a:1, which is EXECUTING"]


def test_too_few_free_cores_are_counted() -> None:
    world = World(node("n", 4), node("m", 2))
    world.submit(job("a", 3), job("b", 4, nodes=1))
    assert why(world, "b") == [
        "it needs 4 cores, on 1 node; "
        "not enough cores are free: at most 2 on one node (the largest has 4), 3 of 6 in all"
    ]


def test_gpus_and_memory_are_counted_too() -> None:
    world = World(node("n", 4, gpus=1, mem=2**30))
    world.submit(job("a", gpus=1, mem=2**29), job("b", gpus=1, mem=2**30))
    assert why(world, "b") == [
        "it needs 1 core, 1 GPU, 1024 MiB of memory; "
        "not enough GPUs are free: at most 0 on one node (the largest has 1), 0 of 1 in all; "
        "not enough memory is free: at most 512 MiB on one node (the largest has 1024 MiB), 512 MiB of 1024 MiB in all"
    ]


def test_what_is_free_but_not_together_is_told() -> None:
    world = World(node("n", 2, gpus=1), node("m", 2))
    world.submit(job("a", 1, nodes=1), job("c", 2, gpus=1))
    assert why(world, "c") == ["it needs 2 cores, 1 GPU; each of these is free, but not together on a node"]


def test_whole_nodes_are_counted_as_such() -> None:
    world = World(node("n", 2), node("m", 2))
    world.submit(job("a"), job("w", None, nodes=2))
    assert why(world, "w") == ["it needs all cores, on each of 2 nodes; only 1 of 2 nodes is idle"]


def test_the_work_in_front_with_the_same_need_is_named() -> None:
    world = World(node("n", 1))
    world.submit(job("a"), job("b"), job("c"))
    assert why(world, "c")[-1] == "b needs the same and comes first"


def test_a_reservation_is_told_to_both_sides() -> None:
    world = World(node("n", 2), reserve_after_s=10)
    world.submit(job("one"), job("wide", 2), *[job(f"s{number}") for number in range(9)])
    world.finish("s0")
    assert why(world, "wide")[1] == "later work has been passing it for 0 s"
    world.pass_time(11)
    world.finish(world.running[-1])
    assert why(world, "wide")[1] == "held for it: n"
    assert why(world, "s8")[1] == "held for wide, which comes first: n"


def test_without_agents_nothing_can_start() -> None:
    world = World(node("n", 1))
    world.lose(0)
    world.submit(job("a"))
    assert why(world, "a") == ["no agent is ready yet"]


def test_a_reason_why_no_agent_could_be_started_is_told_once() -> None:
    world = World(node("n", 1), node("m", 1))
    for number in range(2):
        world.lose(number)
        world.scheduler.nodes[NodeNo(number)].reason = "it said: No module named pilotfish"
    world.submit(job("a"))
    said = "node n has no agent: it said: No module named pilotfish"
    assert why(world, "a") == ["no agent is ready yet", said]


def test_a_task_lent_ahead_says_where_it_waits() -> None:
    world = World(node("n", 1))
    world.submit(job("a", count=50))
    for _ in range(5):
        world.finish(world.running[0], took_s=0.001)
    lent = next(pos for pos in range(50) if world.scheduler.jobs.get("a").tasks.state(pos).name == "SCHEDULED")
    assert why(world, "a", lent) == ["it was sent to n and starts there when one of the tasks before it ends"]


def test_a_job_larger_than_the_pilot_that_was_resumed_can_never_start() -> None:
    world = World(node("n", 1))
    world.scheduler.replay_submitted([job("a", 4)], world.now)
    assert why(world, "a") == ["it can never start on this pilot: 4 cores are needed, the pilot has 1"]


def test_too_little_time_is_told() -> None:
    world = World(node("n", 1))
    world.scheduler.ends_at(world.now + 100, margin_s=10)
    world.submit(job("a", wt_s=600))
    assert why(world, "a") == ["it may take 600 s, and 90 s are left for tasks in this allocation"]
