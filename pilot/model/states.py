"""States of jobs and tasks and the one table of what may follow what (spec 9.1)."""

from __future__ import annotations

from enum import IntEnum

from .errors import IllegalTransitionError


class State(IntEnum):
    """State of a job or of one of its tasks. The member names are the spelling on the wire."""

    QUEUED = 0
    SCHEDULED = 1
    EXECUTING = 2
    SUCCEED = 3
    FAILED = 4
    CANCELED = 5
    OMITTED = 6

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
