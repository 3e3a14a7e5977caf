"""pilot/model/dispatch.py: who runs where, and what is held, lent and taken back for it."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.ids import NodeNo, TaskKey
from pilotfish.pilot.model.states import AttemptState, Cause


def _two_held_for_wide() -> World:
    """`wide` has been passed for long, and both cores are held for its first task."""
    world = World(node("n", 2), reserve_after_s=5.0)
    world.submit(job("long"), job("wide", 2, count=2), job("small"))
    world.pass_time(6.0)
    assert (world.scheduler.dispatch.held, world.running) == (1, ["long", "small"])
    return world


def test_nodes_are_used_in_order_and_of_each_its_lowest_free_cores_first() -> None:
    """What has been freed in between is used again before anything behind it."""
    world = World(node("n0", 3), node("n1", 3))
    world.submit(*[job(name) for name in "abcd"])
    world.finish("b")
    world.submit(job("e"), job("f", 2))
    places = {
        attempt.job.spec.name: [(share.node, f"{share.cores:b}") for share in attempt.grant.shares]
        for attempt in world.scheduler.dispatch.attempts.values()
        if attempt.grant is not None
    }
    assert places == {
        "a": [(0, "1")],
        "c": [(0, "100")],
        "d": [(1, "1")],
        "e": [(0, "10")],
        "f": [(1, "110")],
    }


def test_a_reservation_ends_when_the_work_it_is_for_starts() -> None:
    """... also when there is more of the same: that has not been passed yet."""
    world = _two_held_for_wide()
    world.finish("long")
    world.finish("small")
    assert world.running == ["wide:0"]
    assert (world.scheduler.dispatch.reserved, world.scheduler.dispatch.held) == (None, 0)


def test_nothing_later_starts_on_a_node_that_is_held() -> None:
    world = _two_held_for_wide()
    world.submit(job("later"))
    world.finish("small")
    assert world.running == ["long"]


def test_a_reservation_ends_when_its_work_is_cancelled() -> None:
    world = _two_held_for_wide()
    world.finish("small")
    world.submit(job("later"))
    world.cancel("wide")
    assert world.running == ["long", "later"]


def test_a_reservation_ends_when_its_node_is_lost_or_takes_nothing_new() -> None:
    world = _two_held_for_wide()
    world.drain(0)
    assert (world.scheduler.dispatch.reserved, world.scheduler.dispatch.held) == (None, 0)


def _revoked(world: World) -> list[TaskKey]:
    """What was asked back since the last call; the agent does not hear of it."""
    return [key for orders in world.scheduler.take_decisions().orders.values() for key in orders.revokes]


def test_what_was_lent_and_does_not_start_is_asked_back_once() -> None:
    world = World(node("n", 1))
    world.submit(job("short", count=2000))
    world.finish("short:0", took_s=0.001)
    (pool,) = world.scheduler.dispatch.pools.values()
    lent = list(pool.unstarted)
    assert len(lent) > 1
    world.scheduler.on_time(world.now + 2.0)
    assert (_revoked(world), pool.revoking) == (lent, set(lent))
    world.scheduler.on_time(world.now + 4.0)
    assert _revoked(world) == []


def test_what_is_lent_on_a_node_that_becomes_held_is_asked_back() -> None:
    """Else the node would never be free for what has waited too long."""
    world = World(node("n", 2), reserve_after_s=0.5)
    world.submit(job("short", count=2000))
    world.submit(job("wide", 2, priority=1))
    world.finish("short:0", took_s=0.001)
    (pool,) = world.scheduler.dispatch.pools.values()
    lent = list(pool.unstarted)
    assert len(lent) > 1
    world.scheduler.plan(world.now + 0.8)
    assert world.scheduler.dispatch.held == 1
    assert _revoked(world) == lent


def test_a_task_that_has_started_waits_in_its_pool_no_more() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    (pool,) = world.scheduler.dispatch.pools.values()
    assert (list(pool.unstarted), world.running) == ([], ["a"])


def test_a_grant_that_comes_back_without_a_result_is_free_again() -> None:
    world = World(node("n", 2))
    scheduler = world.scheduler
    scheduler.submit([job("a", 2)], world.now)
    scheduler.plan(world.now)
    (grant,) = scheduler.take_decisions().orders[NodeNo(0)].grants
    assert scheduler.nodes.free_count == 0
    (key,) = scheduler.dispatch.attempts
    scheduler.on_revoked(key, world.now)
    scheduler.on_returned(grant.grant_id)
    assert (scheduler.nodes.free_count, scheduler.dispatch.grants) == (2, {})
    scheduler.on_returned(grant.grant_id)
    assert scheduler.nodes.free_count == 2, "once is enough"


def test_a_task_over_two_nodes_is_broken_when_its_second_node_is_lost() -> None:
    """It is stopped, and when it has ended it waits again: that counts as a crash."""
    world = World(node("n", 1), node("m", 1))
    world.submit(job("both", 1, nodes=2))
    (attempt,) = world.scheduler.dispatch.attempts.values()
    world.scheduler.on_node_lost(NodeNo(1), world.now)
    assert attempt.state is AttemptState.BROKEN
    assert world.scheduler.take_decisions().orders[NodeNo(0)].kills == [attempt.key]
    world.finish("both", -9, Cause.EXITED)
    assert (world.state("both"), world.scheduler.jobs.get("both").crashes) == ("QUEUED", {0: 1})
