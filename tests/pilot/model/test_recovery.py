"""pilot/model/recovery.py: what an earlier life left, and agents that come back with what they have."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.ids import GrantId, JobNo, NodeNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import JobSpec
from pilotfish.pilot.model.resources import Grant, Share
from pilotfish.pilot.model.results import Result
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import AttemptState, Cause, NodeState, State

HERE = NodeNo(0)
KEY = TaskKey(JobNo(1), 0, 1)


def resumed(*specs: JobSpec, sent: int = 1) -> Scheduler:
    """A scheduler that has read of these jobs, and that the first tasks of the first one were sent to its node."""
    scheduler = Scheduler([node("n", 4)], crash_limit=2)
    scheduler.replay_submitted(specs, 1000.0)
    for pos in range(sent):
        scheduler.recovery.replay_sent(HERE, KEY._replace(pos=pos), 1000.0)
    return scheduler


def result(key: TaskKey, state: State, cause: Cause = Cause.EXITED, pid: int = 7, exit_code: int = 0) -> Result:
    return Result(*key, state, cause, exit_code, pid, 1000.0, 1000.0, 1001.0, 0.0, 0, "", ())


def state_of(scheduler: Scheduler, name: str, pos: int = 0) -> str:
    return scheduler.jobs.get(name).tasks.state(pos).name


def reports(scheduler: Scheduler, agent_id: str) -> None:
    """The agent says Hello and holds nothing."""
    scheduler.on_agent(HERE, agent_id)
    scheduler.on_node_up(HERE)
    scheduler.recovery.drop_unnamed(HERE, set(), 1002.0)


def test_what_was_sent_is_in_doubt_until_its_agent_has_told() -> None:
    scheduler = resumed(job("a"))
    assert scheduler.dispatch.attempts[KEY].state is AttemptState.IN_DOUBT
    scheduler.on_started(KEY, GrantId(5), 7, 1001.0)
    assert (scheduler.dispatch.attempts[KEY].state, state_of(scheduler, "a")) == (AttemptState.RUNNING, "EXECUTING")


def test_a_result_is_applied_although_no_start_is_on_record() -> None:
    scheduler = resumed(job("a"))
    scheduler.recovery.replay_result(result(KEY, State.SUCCEED))
    assert state_of(scheduler, "a") == "SUCCEED"


def test_a_result_of_what_was_never_sent_changes_nothing() -> None:
    scheduler = resumed(job("a"), sent=0)
    scheduler.recovery.replay_result(result(KEY, State.SUCCEED))
    scheduler.recovery.replay_taken(KEY)
    assert state_of(scheduler, "a") == "QUEUED"


def test_what_was_taken_back_waits_again_and_its_next_attempt_has_the_next_number() -> None:
    scheduler = resumed(job("a"))
    scheduler.recovery.replay_taken(KEY)
    assert state_of(scheduler, "a") == "QUEUED"
    scheduler.on_node_up(HERE)
    scheduler.plan(1002.0)
    assert list(scheduler.dispatch.attempts) == [KEY._replace(run=2)]


def test_what_waits_for_a_task_that_was_cancelled_and_taken_back_is_omitted_at_once() -> None:
    scheduler = resumed(job("a"), job("b", after=["a"]))
    scheduler.cancel(scheduler.jobs.get("a"), 1001.0)
    scheduler.recovery.replay_taken(KEY)
    assert (state_of(scheduler, "a"), state_of(scheduler, "b")) == ("CANCELED", "OMITTED")


def test_failures_and_losses_on_record_count_as_they_did() -> None:
    scheduler = resumed(job("a", retries=1))
    scheduler.recovery.replay_result(result(KEY, State.QUEUED, exit_code=1))
    scheduler.recovery.replay_sent(HERE, KEY._replace(run=2), 1002.0)
    scheduler.recovery.replay_result(result(KEY._replace(run=2), State.QUEUED, Cause.LOST))
    assert (scheduler.jobs.get("a").failures, scheduler.jobs.get("a").crashes) == ({0: 1}, {0: 1})


def test_a_loss_on_record_was_no_crash_when_the_same_agent_reported_again() -> None:
    """The manager that wrote it counted it so: its agent had only been silent."""
    scheduler = resumed(job("a"))
    scheduler.on_agent(HERE, "x")
    scheduler.recovery.replay_result(result(KEY, State.QUEUED, Cause.LOST))
    assert scheduler.jobs.get("a").crashes == {0: 1}
    scheduler.on_agent(HERE, "x")
    assert scheduler.jobs.get("a").crashes == {0: 0}


def test_a_loss_on_record_was_a_crash_when_another_agent_reported() -> None:
    scheduler = resumed(job("a"))
    scheduler.on_agent(HERE, "x")
    scheduler.recovery.replay_result(result(KEY, State.QUEUED, Cause.LOST))
    scheduler.on_agent(HERE, "y")
    assert scheduler.jobs.get("a").crashes == {0: 1}
    assert len(scheduler.lost) == 0


def test_an_agent_that_is_known_to_have_ended_tells_nothing_more() -> None:
    scheduler = resumed(job("a"))
    scheduler.recovery.replay_result(result(KEY, State.QUEUED, Cause.LOST))
    assert len(scheduler.lost) == 1
    scheduler.recovery.replay_agent_gone(HERE)
    assert len(scheduler.lost) == 0


@pytest.mark.parametrize("state", [State.QUEUED, State.FAILED])
def test_a_cancel_on_record_holds_whatever_the_end(state: State) -> None:
    scheduler = resumed(job("a"))
    scheduler.cancel(scheduler.jobs.get("a"), 1001.0)
    scheduler.recovery.replay_result(result(KEY, state, exit_code=1))
    assert scheduler.jobs.get("a").state.final
    invariants.check(scheduler)


def test_what_the_agent_does_not_name_never_reached_it() -> None:
    scheduler = resumed(job("a"))
    reports(scheduler, "x")
    assert state_of(scheduler, "a") == "QUEUED"
    assert scheduler.jobs.get("a").crashes is None


def test_what_waits_at_the_agent_goes_on_there_in_the_pool_both_know() -> None:
    scheduler = resumed(job("a", count=2), sent=2)
    first, second = KEY, KEY._replace(pos=1)
    scheduler.on_agent(HERE, "x")
    grant = Grant(GrantId(5), PoolId(6), (Share(HERE, 1, 0, 0),))
    scheduler.recovery.adopt(HERE, [grant], {PoolId(6): [second]}, 1001.0)
    scheduler.on_started(first, GrantId(5), 7, 1001.0)
    scheduler.on_node_up(HERE)
    scheduler.recovery.drop_unnamed(HERE, {first, second}, 1001.0)
    assert scheduler.dispatch.attempts[second].pool_id == PoolId(6)
    assert list(scheduler.dispatch.pools[PoolId(6)].unstarted) == [second]
    assert (state_of(scheduler, "a", 0), state_of(scheduler, "a", 1)) == ("EXECUTING", "SCHEDULED")


def test_what_waits_at_the_agent_without_a_pool_is_taken_from_it() -> None:
    """It holds no grant for it, and none would ever be given to a pool that the manager does not know."""
    scheduler = resumed(job("a"))
    scheduler.on_agent(HERE, "x")
    scheduler.recovery.adopt(HERE, [], {PoolId(6): [KEY]}, 1001.0)
    scheduler.on_node_up(HERE)
    scheduler.recovery.drop_unnamed(HERE, {KEY}, 1001.0)
    assert state_of(scheduler, "a") == "QUEUED"
    assert scheduler.take_decisions().orders[HERE].kills == [KEY]


def test_a_grant_without_anything_that_waits_for_it_is_kept_until_it_comes_back() -> None:
    """It needs no pool, and makes no shape: nothing will be added to it."""
    scheduler = resumed(job("a"))
    scheduler.on_agent(HERE, "x")
    scheduler.recovery.adopt(HERE, [Grant(GrantId(5), PoolId(6), (Share(HERE, 0b11, 0, 0),))], {}, 1001.0)
    scheduler.on_node_up(HERE)
    assert (scheduler.nodes.free_count, len(scheduler.dispatch.pools), len(scheduler.queue)) == (2, 0, 1)
    scheduler.on_returned(GrantId(5))
    assert scheduler.nodes.free_count == 4


def test_what_is_to_be_stopped_is_stopped_when_its_agent_is_back() -> None:
    scheduler = resumed(job("a"))
    scheduler.cancel(scheduler.jobs.get("a"), 1001.0)
    scheduler.take_decisions()
    scheduler.on_agent(HERE, "x")
    scheduler.on_started(KEY, GrantId(5), 7, 1001.0)
    scheduler.on_node_up(HERE)
    scheduler.recovery.drop_unnamed(HERE, {KEY}, 1001.0)
    assert scheduler.take_decisions().orders[HERE].kills == [KEY]


def test_grants_that_the_agent_does_not_name_never_reached_it() -> None:
    world = World(node("n", 2))
    world.submit(job("a"))
    (grant,) = world.scheduler.dispatch.grants.values()
    world.scheduler.recovery.drop_grants(HERE, set())
    assert (world.scheduler.dispatch.grants, world.scheduler.nodes.free_count) == ({}, 2)
    assert grant.shares[0].cores.bit_count() == 1


def test_nothing_is_in_flight_on_a_node_that_had_left_when_it_was_sent_there() -> None:
    """In one turn a node left and something was sent there; the journal tells of the leaving first."""
    scheduler = resumed(job("a"), sent=0)
    scheduler.on_node_left(HERE, 1000.0)
    scheduler.recovery.replay_sent(HERE, KEY, 1000.0)
    scheduler.recovery.drop_left(1001.0)
    assert state_of(scheduler, "a") == "QUEUED"
    assert scheduler.take_decisions().taken == [KEY]


def test_a_joined_node_that_was_silent_and_comes_again_as_another_node_still_tells_what_it_ended() -> None:
    world = World(node("n", 1))
    joined = world.join(node("g", 1, joined=True))
    world.submit(job("a", count=2))
    world.cut(joined)
    world.scheduler.on_node_left(NodeNo(joined), world.now)
    again = world.join(node("g", 1, joined=True))
    assert world.scheduler.nodes[NodeNo(joined)].state is NodeState.LEFT
    assert world.running_on(again) != []
    assert len(world.scheduler.lost) == 0, "it has told all it has"
