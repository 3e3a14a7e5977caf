"""What happens to the allocations of a pilot, as it is written down: what is known of them is what these say, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from .spec import AllocationSpec, NodeSize


@dataclass(frozen=True)
class SpecAdded:
    """From now on these allocations may be asked for."""

    spec: AllocationSpec


@dataclass(frozen=True)
class SpecPaused:
    """Nothing is asked for until somebody resumes it. `by_user`: a person has said so, not the allocator."""

    spec: str
    reason: str = ""
    by_user: bool = False


@dataclass(frozen=True)
class SpecResumed:
    """Failures before this do not count any more."""

    spec: str


@dataclass(frozen=True)
class SpecRemoved:
    """Its name is free again when its last allocation has ended. `kill`: also what runs is cancelled at once."""

    spec: str
    kill: bool = False


@dataclass(frozen=True)
class NothingAsked:
    """Why nothing is asked for now."""

    spec: str
    reason: str


@dataclass(frozen=True)
class Asked:
    """An allocation is about to be asked for: from here on the batch system may have it. `id` is the hash of its batch job."""

    id: str
    spec: str
    nodes: int
    walltime_s: float
    reason: str


@dataclass(frozen=True)
class Placed:
    """The batch system has it under this id."""

    id: str
    job_id: str


@dataclass(frozen=True)
class Started:
    """The batch system was first seen to run it. `where`: its list of nodes, as far as it tells."""

    id: str
    where: str = ""


@dataclass(frozen=True)
class Said:
    """What it says although it runs, and no agent of it has joined yet."""

    id: str
    lines: str


@dataclass(frozen=True)
class Joined:
    """The first of its agents has joined the pilot; `node`: what that has."""

    id: str
    node: NodeSize


@dataclass(frozen=True)
class Leaving:
    """It is about to be cancelled, or released: `how` is `cancel` or `release`. `failed`: because it is of no use."""

    id: str
    how: str
    reason: str
    failed: bool = False


@dataclass(frozen=True)
class Over:
    """It is over. `failed`: it was of no use, for a reason that may well hold for the next one; `lines`: its last words."""

    id: str
    reason: str
    failed: bool = False
    lines: str = ""


EventOfSpec = SpecAdded | SpecPaused | SpecResumed | SpecRemoved | NothingAsked
EventOfAllocation = Placed | Started | Said | Joined | Leaving | Over
Event = EventOfSpec | Asked | EventOfAllocation

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


def to_dict(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}


def from_dict(found: Mapping[str, Any]) -> Event:
    """Raises KeyError or TypeError for what is no event."""
    fields = {name: value for name, value in found.items() if name not in ("event", "time_s")}
    kind = _KINDS[found["event"]]
    if kind is SpecAdded:
        fields["spec"] = _spec(fields["spec"])
    if kind is Joined:
        fields["node"] = _node(fields["node"])
    event: Event = kind(**fields)
    return event


def _spec(found: Mapping[str, Any]) -> AllocationSpec:
    fields = {**found, "nodes": tuple(found["nodes"]), "tags": tuple(found["tags"])}
    fields["node"] = None if found["node"] is None else _node(found["node"])
    return AllocationSpec(**fields)


def _node(found: Mapping[str, Any]) -> NodeSize:
    """JSON has lists in the place of tuples."""
    named = tuple((name, amount) for name, amount in found.get("named", ()))
    return NodeSize(**{**found, "tags": tuple(found["tags"]), "named": named})
