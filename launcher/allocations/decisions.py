"""The values of decide.py: what is known of allocations, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .spec import NodeSize


class AllocationState(Enum):
    """Where an allocation stands, by the batch system's listing and the agents that have come."""

    WAITING = "waiting"
    """Asked for; the batch system has not started it. Also from before the submit until it is known to have failed."""
    RUNNING = "running"
    UNKNOWN = "unknown"
    """The batch system gives no answer: it counts as what it was, and nothing is asked for in its place."""
    ENDED = "ended"


@dataclass(frozen=True)
class KnownAllocation:
    """One allocation that was asked for. Moments are seconds since the epoch.

    Attributes:
        id: what its agents give as `--allocation`.
        spec: the name of its AllocationSpec, which may have been removed since.
        submitted_s: when it was asked for.
        started_s: when it was first seen running; None: it was not.
        ended_s: when it was first known to be over.
        agents_seen: whether any agent of it has joined.
        releasing: it was released, or is being cancelled: it does not count as supply.
        failed: it has ended without having been of use (refused, ended at once, came up without agents), and nobody has
            resumed the spec since.
        ended_reason: how it ended; of one that failed with its last lines.
        node: what its nodes have, once one has joined.
    """

    id: str
    spec: str
    nodes: int
    walltime_s: float
    state: AllocationState
    submitted_s: float
    started_s: float | None = None
    ended_s: float | None = None
    agents_seen: bool = False
    releasing: bool = False
    failed: bool = False
    ended_reason: str = ""
    node: NodeSize | None = None


@dataclass(frozen=True)
class Submit:
    """Ask for an allocation."""

    spec: str
    nodes: int
    walltime_s: float
    reason: str


@dataclass(frozen=True)
class Cancel:
    """Cancel an allocation that still waits in the batch system."""

    id: str
    reason: str


@dataclass(frozen=True)
class Release:
    """Let an allocation that runs end: its nodes drain, and its agents leave."""

    id: str
    reason: str


@dataclass(frozen=True)
class Pause:
    """Stop asking for this spec until somebody resumes it."""

    spec: str
    reason: str


@dataclass(frozen=True)
class Quiet:
    """Nothing is asked for by this spec now."""

    spec: str
    reason: str


@dataclass(frozen=True)
class Decisions:
    """What to do now, in the order: pause, release, cancel, submit."""

    submit: tuple[Submit, ...] = ()
    cancel: tuple[Cancel, ...] = ()
    release: tuple[Release, ...] = ()
    pause: tuple[Pause, ...] = ()
    quiet: tuple[Quiet, ...] = ()
    """One for each spec without a submit."""
