"""Words that fyrd has for states and kinds of queues, and ours."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from ...job.states import JobState, Reason, Status


def short_name(command: str | Callable[..., Any]) -> str:
    if callable(command):
        return getattr(command, "__name__", "function").strip("<>")
    words = command.split()
    return posixpath.basename(words[0]) if words else "job"


def file_name(name: str) -> str:
    """A name as part of the name of a file, and of a job in a queue of ours."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".-")[:100] or "job"


_ALIVE = {
    JobState.unsubmitted: "submitted",
    JobState.running: "running",
    JobState.completing: "completing",
    JobState.unknown: "running",
}


def state_word(found: Status) -> str:
    if found.state is JobState.finished:
        return "completed"
    if found.state.ended:
        return {Reason.CANCELED: "cancelled", Reason.VANISHED: "vanished"}.get(found.reason, "failed")
    return _ALIVE.get(found.state, "pending")
