"""Events of allocations as lines for people: in the log, in `alloc info` and `alloc explain`."""

from __future__ import annotations

import time

from ...pilot.model import walltime
from .events import (
    Asked,
    Event,
    EventOfSpec,
    Joined,
    Leaving,
    NothingAsked,
    Over,
    Placed,
    Said,
    SpecAdded,
    SpecPaused,
    SpecRemoved,
    SpecResumed,
    Started,
)
from .journal import Entry


def text_of(entry: Entry) -> str:
    """`2026-11-28 13:20:01  cluster  asked for 4 nodes …`, with the last words of what ended badly below."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time_s))
    lines = entry.event.lines if isinstance(entry.event, Over | Said) else ""
    more = "".join(f"\n    | {line}" for line in lines.splitlines())
    return f"{when}  {about(entry.event)}: {what(entry.event)}{more}"


def about(event: Event) -> str:
    """The spec, or the beginning of the id of an allocation."""
    match event:
        case SpecAdded():
            return event.spec.name
        case SpecPaused() | SpecResumed() | SpecRemoved() | NothingAsked():
            return event.spec
        case Asked():
            return f"{event.spec} {event.id[:10]}"
    return event.id[:10]


def what(event: Event) -> str:
    """What has happened, and why."""
    if isinstance(event, SpecAdded | SpecPaused | SpecResumed | SpecRemoved | NothingAsked):
        return _of_spec(event)
    match event:
        case Asked():
            text = f"asks for {_nodes(event.nodes)} for {walltime.form(event.walltime_s)}: {event.reason}"
        case Placed():
            text = f"waits as batch job {event.job_id}"
        case Started():
            text = f"runs{f' on {event.where}' if event.where else ''}"
        case Said():
            text = "no agent of it has joined yet; it says"
        case Joined():
            text = f"its first agent has joined, with {event.node.cores} cores"
        case Leaving():
            text = f"{'released' if event.how == 'release' else 'cancelled'}: {event.reason}"
        case Over():
            text = f"over: {event.reason}"
    return text


def _of_spec(event: EventOfSpec) -> str:
    match event:
        case SpecAdded():
            least, most = event.spec.nodes
            sizes = str(most) if least == most else f"{least}-{most}"
            text = f"added: {sizes} nodes of {event.spec.machine} for {walltime.form(event.spec.walltime_s)}"
        case SpecPaused():
            text = f"paused{f': {event.reason}' if event.reason else ''}"
        case SpecResumed():
            text = "resumed"
        case SpecRemoved():
            text = "removed"
        case NothingAsked():
            text = f"asks for nothing: {event.reason}"
    return text


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
