"""pilot/model/states.py: what the three tables allow, refuse, and mean."""

from __future__ import annotations

import pytest
from world import World, job, node

from pilotfish.pilot.model.errors import IllegalTransitionError
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.states import (
    ATTEMPT_TABLE,
    NODE_TABLE,
    SERVED,
    AttemptEvent,
    AttemptState,
    Fate,
    NodeEvent,
    NodeState,
)


def _fates(event: AttemptEvent) -> dict[str, str]:
    """What follows for the task, by the state of its attempt."""
    cells = {state: ATTEMPT_TABLE[event][state] for state in AttemptState}
    return {state.name: cell[1].name for state, cell in cells.items() if cell is not None}


def test_only_what_may_have_run_counts_as_a_crash_when_its_agent_is_lost() -> None:
    crash = dict.fromkeys(("IN_DOUBT", "RUNNING", "BROKEN"), "CRASH")
    assert _fates(AttemptEvent.LOSE) == {"SENT": "REQUEUE", "CANCELING": "CANCELED", **crash}


def test_what_was_cancelled_ends_cancelled_however_it_ends() -> None:
    ends = [AttemptEvent.END, AttemptEvent.RETURN, AttemptEvent.LOSE]
    assert [ATTEMPT_TABLE[event][AttemptState.CANCELING] for event in ends] == [(AttemptState.ENDED, Fate.CANCELED)] * 3


def test_nothing_can_happen_to_what_has_ended() -> None:
    assert all(row[AttemptState.ENDED] is None for row in ATTEMPT_TABLE)
    assert all(row[NodeState.LEFT] is None for row in NODE_TABLE)


def test_what_is_lost_is_in_flight_again_only_when_it_is_found() -> None:
    lost = AttemptState.LOST, AttemptState.EXCUSED
    over = {*lost, AttemptState.ENDED}
    cells = {(event, ATTEMPT_TABLE[event][state]) for event in AttemptEvent for state in lost}
    assert {event for event, cell in cells if cell is not None and cell[0] not in over} == {AttemptEvent.FIND}


def test_a_node_has_an_agent_only_after_one_has_reported_or_was_turned_away() -> None:
    ways = {
        event
        for event in NodeEvent
        for state in NodeState
        if state not in SERVED and NODE_TABLE[event][state] in SERVED
    }
    assert ways == {NodeEvent.REPORT, NodeEvent.DISMISS}


def test_an_event_that_cannot_happen_to_an_attempt_changes_nothing_and_tells_the_story() -> None:
    world = World(node("n", 1))
    world.submit(job("a"))
    (attempt,) = world.scheduler.dispatch.attempts.values()
    with pytest.raises(IllegalTransitionError, match="a #1 RUNNING on node 0>: FIND cannot happen in RUNNING"):
        attempt.after(AttemptEvent.FIND)
    assert attempt.state is AttemptState.RUNNING


def test_an_event_that_cannot_happen_to_a_node_changes_nothing_and_tells_the_story() -> None:
    world = World(node("n", 1))
    with pytest.raises(IllegalTransitionError, match="node n: START cannot happen in READY"):
        world.scheduler.nodes.move(NodeNo(0), NodeEvent.START)
    assert world.scheduler.nodes[NodeNo(0)].state is NodeState.READY
    assert world.scheduler.nodes.usable == 1
