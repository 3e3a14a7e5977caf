"""The states of tasks (and jobs), of attempts and of nodes, and the three tables of what may follow what."""

# How to read this file. Everything else in the core asks these tables; nothing else decides what may follow what.
#
# - A *task* is what users see: it waits, is sent to an agent, executes, and ends. It may go round several times.
# - An *attempt* is one start of a task, from the moment it goes to an agent. A task that goes round has several attempts
#   one after another, and, when an agent that was given up turns up again, two at a time: one in flight, one LOST.
# - A *node* is what its agent makes of it. Attempts are sent only to nodes that are READY.
#
# The tables of attempts and nodes have a row for each event and a column for each state; a cell says which state follows.
# An event that has no cell is refused with IllegalTransitionError, *before* anything is changed: it would be a mistake of
# ours, and believing it would make of one mistake two. The cell of an attempt also says what follows for its task (`Fate`),
# so that the rules of crashes, cancels and late ends stand here as a table and not as conditions in five methods.
#
# What was rejected:
#
# - Flags beside the state (`canceling`, `lost`, `in_doubt`, "started means that the time of the start is not 0"). Five
#   flags are 32 states, of which nobody could say which can occur; a stranger found the ones that nobody had thought of.
# - Methods per state, as in the textbook: eight classes with a method per event, to say what fits on one screen as a table.
# - One state for task and attempt together: a task has attempts that are over while others are not.
#
# Example. A task is started on n1 (attempt 1: SENT, then RUNNING). n1 is not heard of for too long: attempt 1 becomes LOST,
# which counts as a crash, and the task is QUEUED. It is sent to n2 (attempt 2: SENT). n1 comes back and has the result:
# nothing has crashed, so attempt 1 is EXCUSED; it ended with success, so its END decides the task, and attempt 2 is
# stopped.

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from .errors import IllegalTransitionError


class State(IntEnum):
    """State of a job or of one of its tasks. The member names are the spelling on the wire."""

    QUEUED = 0
    """It waits: for what it depends on, for resources, or to be tried again."""
    SCHEDULED = 1
    """It was sent to an agent, which has not reported its start."""
    EXECUTING = 2
    """It runs."""
    SUCCEED = 3
    """It ended with exit code 0."""
    FAILED = 4
    """It ended otherwise, and is not tried again."""
    CANCELED = 5
    """A client has cancelled it."""
    OMITTED = 6
    """It can never start: something it depends on did not succeed."""

    final: bool
    """Whether nothing can follow; an attribute, because it is asked a dozen times per task."""

    def __init__(self, number: int) -> None:
        self.final = number >= 3


class Cause(IntEnum):
    """Why one attempt at a task ended."""

    EXITED = 0  # by itself: exit code, or a signal nobody here sent
    NOT_STARTED = 1  # it could not be started: no such program, directory, stdin ...
    WALL_TIME = 2  # stopped by the agent at its `wt`
    MEMORY = 3  # stopped by the agent at its memory limit
    CANCELED = 4  # stopped (or dropped before its start) because the manager said so
    LOST = 5  # its agent or node went away


# --- tasks --------------------------------------------------------------------------------------------------------------

_Q, _S, _E = State.QUEUED, State.SCHEDULED, State.EXECUTING

# A task goes back to QUEUED when it is retried, revoked from an agent, or its node was lost.
# An iteration job skips SCHEDULED and EXECUTING: it is QUEUED until its last task has ended.
_FOLLOWS: dict[State, set[State]] = {
    _Q: {_S, State.SUCCEED, State.FAILED, State.CANCELED, State.OMITTED},
    _S: {_Q, _E, State.FAILED, State.CANCELED},
    _E: {_Q, State.SUCCEED, State.FAILED, State.CANCELED},
}

ALLOWED = tuple(tuple(after in _FOLLOWS.get(before, ()) for after in State) for before in State)
"""`ALLOWED[before][after]`: plain indexing, because hashing an enum member costs more than the rest of a state change."""


def illegal_transition(before: State, after: State, story: str) -> IllegalTransitionError:
    """The error for a change that ALLOWED does not have; `story` tells what was to change."""
    return IllegalTransitionError(f"{story}: {before.name} cannot become {after.name}", remedy="please report this")


def illegal_event(state: IntEnum, event: IntEnum, story: str) -> IllegalTransitionError:
    """The error for an event that has no cell for this state; `story` tells to what it happened."""
    return IllegalTransitionError(f"{story}: {event.name} cannot happen in {state.name}", remedy="please report this")


_State = TypeVar("_State", bound=IntEnum)
_Event = TypeVar("_Event", bound=IntEnum)
_Cell = TypeVar("_Cell")


def _table(
    states: type[_State], events: type[_Event], rows: Mapping[_Event, Mapping[_State, _Cell]]
) -> tuple[tuple[_Cell | None, ...], ...]:
    """The rows as `table[event][state]`, None where the event is refused: two plain indexings per event."""
    return tuple(tuple(rows[event].get(state) for state in states) for event in events)


# --- attempts -----------------------------------------------------------------------------------------------------------


class AttemptState(IntEnum):
    """Where one start of a task stands. The first five are in flight: an agent has the attempt, or may have it."""

    SENT = 0
    """It has been sent to its agent, which has not reported its start."""
    IN_DOUBT = 1
    """An earlier life of the manager has sent it, or an agent that comes back has it: it may run, or never have arrived."""
    RUNNING = 2
    """Its agent has started it."""
    CANCELING = 3
    """A client has cancelled it, running or not; its agent has been told to stop it."""
    BROKEN = 4
    """It runs on several nodes and one of the others was lost: its agent has been told to stop it."""
    LOST = 5
    """Its agent is not heard of any more. It may have run, so this counts as a crash of its task."""
    EXCUSED = 6
    """As LOST, but no crash: it was not known to have started, or its agent has come back, so nothing took that down."""
    ENDED = 7
    """Its end is known, or does not matter any more."""


class AttemptEvent(IntEnum):
    """What can happen to an attempt."""

    START = 0
    """Its agent reports that it runs."""
    CANCEL = 1
    """A client cancels its task."""
    BREAK = 2
    """A node is lost that it uses beside its own."""
    END = 3
    """Its agent reports its end."""
    RETURN = 4
    """Its agent gives it back unstarted, or does not know of it, or leaves in good order."""
    LOSE = 5
    """Its agent is gone, or has not been heard of for too long."""
    EXCUSE = 6
    """The agent that had it is heard again."""
    FIND = 7
    """The agent that is heard again still has it, and nothing has taken its place."""
    SUPERSEDE = 8
    """The attempt before it, which had counted as lost, turns out to have succeeded."""
    FORGET = 9
    """Nobody can report it any more, or its task has ended otherwise."""
    EVICT = 10
    """Its node is not heard of any more, and is one that a batch system may take back: that is nobody's failure."""


class Fate(IntEnum):
    """What an event means for the task of the attempt."""

    NOTHING = 0
    BEGIN = 1
    """It executes, if it does not yet."""
    STOP = 2
    """Its agent is to stop it; what becomes of it follows from its end."""
    BY_END = 3
    """Its end decides: success, failure, another try."""
    BY_SUCCESS = 4
    """If it succeeded, it has; otherwise that was our doing, and counts as a crash."""
    REQUEUE = 5
    """It waits again, and nothing is counted."""
    CRASH = 6
    """It waits again, which is counted; FAILED when it was counted too often."""
    UNCOUNT = 7
    """The crash that was counted was none."""
    CANCELED = 8
    """It is CANCELED."""


_SENT, _DOUBT, _RUNNING, _CANCELING, _BROKEN, _LOST, _EXCUSED, _ENDED = AttemptState

_ATTEMPT_ROWS: dict[AttemptEvent, dict[AttemptState, tuple[AttemptState, Fate]]] = {
    # A start is told more than once: when a connection is made anew the agent names all it runs.
    AttemptEvent.START: {
        _SENT: (_RUNNING, Fate.BEGIN),
        _DOUBT: (_RUNNING, Fate.BEGIN),
        _RUNNING: (_RUNNING, Fate.NOTHING),
        _CANCELING: (_CANCELING, Fate.BEGIN),
        _BROKEN: (_BROKEN, Fate.NOTHING),
    },
    AttemptEvent.CANCEL: {
        _SENT: (_CANCELING, Fate.STOP),
        _DOUBT: (_CANCELING, Fate.STOP),
        _RUNNING: (_CANCELING, Fate.STOP),
        _CANCELING: (_CANCELING, Fate.NOTHING),
        _BROKEN: (_CANCELING, Fate.STOP),
    },
    # Only of those that run is it known which other nodes they use.
    AttemptEvent.BREAK: {
        _RUNNING: (_BROKEN, Fate.STOP),
        _CANCELING: (_CANCELING, Fate.NOTHING),
        _BROKEN: (_BROKEN, Fate.NOTHING),
    },
    AttemptEvent.END: {
        _SENT: (_ENDED, Fate.BY_END),
        _DOUBT: (_ENDED, Fate.BY_END),
        _RUNNING: (_ENDED, Fate.BY_END),
        _CANCELING: (_ENDED, Fate.CANCELED),
        _BROKEN: (_ENDED, Fate.BY_SUCCESS),
        _LOST: (_ENDED, Fate.BY_END),
        _EXCUSED: (_ENDED, Fate.BY_END),
    },
    AttemptEvent.RETURN: {
        _SENT: (_ENDED, Fate.REQUEUE),
        _DOUBT: (_ENDED, Fate.REQUEUE),
        _RUNNING: (_ENDED, Fate.REQUEUE),
        _CANCELING: (_ENDED, Fate.CANCELED),
        _BROKEN: (_ENDED, Fate.REQUEUE),
    },
    # What was in doubt may have run, and may be what took the agent down: it counts.
    AttemptEvent.LOSE: {
        _SENT: (_EXCUSED, Fate.REQUEUE),
        _DOUBT: (_LOST, Fate.CRASH),
        _RUNNING: (_LOST, Fate.CRASH),
        _CANCELING: (_ENDED, Fate.CANCELED),
        _BROKEN: (_LOST, Fate.CRASH),
    },
    AttemptEvent.EVICT: {
        _SENT: (_EXCUSED, Fate.REQUEUE),
        _DOUBT: (_EXCUSED, Fate.REQUEUE),
        _RUNNING: (_EXCUSED, Fate.REQUEUE),
        _CANCELING: (_ENDED, Fate.CANCELED),
        _BROKEN: (_EXCUSED, Fate.REQUEUE),
    },
    AttemptEvent.EXCUSE: {_LOST: (_EXCUSED, Fate.UNCOUNT), _EXCUSED: (_EXCUSED, Fate.NOTHING)},
    AttemptEvent.FIND: {_LOST: (_DOUBT, Fate.UNCOUNT), _EXCUSED: (_DOUBT, Fate.NOTHING)},
    # A task that a client has cancelled since ends as cancelled, whatever an earlier attempt did.
    AttemptEvent.SUPERSEDE: {
        _SENT: (_ENDED, Fate.NOTHING),
        _DOUBT: (_ENDED, Fate.NOTHING),
        _RUNNING: (_ENDED, Fate.NOTHING),
        _BROKEN: (_ENDED, Fate.NOTHING),
    },
    AttemptEvent.FORGET: {_LOST: (_ENDED, Fate.NOTHING), _EXCUSED: (_ENDED, Fate.NOTHING)},
}

ATTEMPT_TABLE = _table(AttemptState, AttemptEvent, _ATTEMPT_ROWS)
"""`ATTEMPT_TABLE[event][state]`: (state that follows, what that means for the task), or None: refused."""


# --- nodes --------------------------------------------------------------------------------------------------------------


class NodeState(IntEnum):
    """What can be done with a node. Work is sent to those that are READY, and to no others."""

    EXPECTED = 0
    """It has no agent yet: one is about to be started, or is given time to come by itself."""
    STARTING = 1
    """Its first agent has been started and has not reported."""
    READY = 2
    """Its agent takes work."""
    DRAINING = 3
    """Its agent takes nothing new and brings to an end what it has."""
    SILENT = 4
    """Its agent is known to live but has not been heard of for too long: it gets nothing new and keeps what it has."""
    DISMISSED = 5
    """Its agent was told to end, because it does not speak as one. What it has is its own until it has ended, or is given
    up for its silence."""
    LOST = 6
    """Its agent is gone, or has not been heard of for so long that this is assumed. What it had waits again."""
    RESTARTING = 7
    """LOST, and another agent has been started."""
    GIVEN_UP = 8
    """Agents were started again and again and did not report; none is started any more. One that comes is welcome."""
    LEFT = 9
    """It is no longer part of the pilot. Its number is never given again."""


class NodeEvent(IntEnum):
    """What can happen to a node."""

    START = 0
    """An agent is started for it."""
    LATE = 1
    """The agent that was started should have reported by now; it still may."""
    REPORT = 2
    """An agent that is expected there reports, for the first time or again."""
    DRAIN = 3
    """Its agent takes nothing new from now on."""
    FALL_SILENT = 4
    """Its agent is not heard of, and is known to live."""
    HEAR = 5
    """The agent that was silent is heard again, and is asked what it holds."""
    DISMISS = 6
    """Its agent is told to end."""
    LOSE = 7
    """Its agent is known to have ended, or has not been heard of for too long."""
    EXPECT = 8
    """Nothing is wrong with the node: it has no agent because none has been started yet, or because the pilot ends."""
    GIVE_UP = 9
    """Its agents have failed too often."""
    LEAVE = 10
    """It is taken out of the pilot."""


_EXPECTED, _STARTING, _READY, _DRAINING, _SILENT, _DISMISSED, _GONE, _RESTARTING, _GIVEN_UP, _LEFT = NodeState

SERVED = frozenset({_READY, _DRAINING, _SILENT, _DISMISSED})
"""States of a node that has an agent."""
AWAITED = frozenset({_EXPECTED, _STARTING})
"""States of a node whose first agent is on its way: what is free there counts as free, though nothing can start there yet."""

_NODE_ROWS: dict[NodeEvent, dict[NodeState, NodeState]] = {
    NodeEvent.START: {
        _EXPECTED: _STARTING,
        _STARTING: _STARTING,
        _GONE: _RESTARTING,
        _RESTARTING: _RESTARTING,
    },
    NodeEvent.LATE: {_STARTING: _EXPECTED, _RESTARTING: _GONE},
    NodeEvent.REPORT: {
        _EXPECTED: _READY,
        _STARTING: _READY,
        _READY: _READY,
        _DRAINING: _READY,  # it says again that it drains, if it does
        _SILENT: _READY,
        _GONE: _READY,
        _RESTARTING: _READY,
        _GIVEN_UP: _READY,
    },
    NodeEvent.DRAIN: {_READY: _DRAINING, _DRAINING: _DRAINING, _SILENT: _DRAINING},
    NodeEvent.FALL_SILENT: {_READY: _SILENT, _DRAINING: _SILENT, _SILENT: _SILENT, _DISMISSED: _DISMISSED},
    NodeEvent.HEAR: {_SILENT: _DRAINING},
    # Also before it counts as there: its very first words may be what is wrong.
    NodeEvent.DISMISS: {state: _DISMISSED for state in NodeState if state is not _LEFT},
    NodeEvent.LOSE: {
        _EXPECTED: _GONE,
        _STARTING: _GONE,
        _READY: _GONE,
        _DRAINING: _GONE,
        _SILENT: _GONE,
        _DISMISSED: _GONE,
        _GONE: _GONE,
        _RESTARTING: _GONE,
        _GIVEN_UP: _GIVEN_UP,
    },
    NodeEvent.EXPECT: {_EXPECTED: _EXPECTED, _GONE: _EXPECTED, _RESTARTING: _STARTING, _GIVEN_UP: _GIVEN_UP},
    NodeEvent.GIVE_UP: {
        _EXPECTED: _GIVEN_UP,
        _STARTING: _GIVEN_UP,
        _GONE: _GIVEN_UP,
        _RESTARTING: _GIVEN_UP,
        _GIVEN_UP: _GIVEN_UP,
    },
    NodeEvent.LEAVE: {state: _LEFT for state in NodeState if state is not _LEFT},
}

NODE_TABLE = _table(NodeState, NodeEvent, _NODE_ROWS)
"""`NODE_TABLE[event][state]`: the state that follows, or None: refused."""
