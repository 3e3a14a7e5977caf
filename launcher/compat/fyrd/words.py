"""Words that fyrd has for states and kinds of queues, and ours."""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from ....pilot.model.errors import UsageError
from ...description.machine import MachineDescription
from ...description.schema import nearest
from ...job.states import JobState, Reason, Status
from ...machines import registry
from ...machines.dialect import View
from .options import qtypes

_ANSWERS_IN_S = 20.0
GOOD = ("completed",)
ACTIVE = ("submitted", "pending", "running", "completing", "suspended")
BAD = ("failed", "cancelled", "vanished", "timeout", "out_of_memory", "node_fail", "boot_fail", "deadline", "preempted")


def views() -> dict[str, tuple[View, ...]]:
    """Kinds of queues that can be seen as a whole, with the commands for it."""
    found = {kind: registry.system(name).views for kind, name in qtypes().items()}
    return {kind: commands for kind, commands in found.items() if commands}


def get_cluster_environment() -> str:
    """The kind of queue here: one whose commands are there and answer; `local` without any."""
    return next((kind for kind in views() if _is_here(kind)), "local")


def _is_here(kind: str) -> bool:
    system = registry.system(qtypes()[kind])
    asked = [view.command("", False) for view in views()[kind]]
    return shutil.which(system.commands[0]) is not None and all(
        _answers(command) for command in asked if command[0] not in system.helpful_commands
    )


def _answers(command: Sequence[str]) -> bool:
    """Commands of a batch system may be installed on a host that belongs to none."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ANSWERS_IN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def kind_of_queue(qtype: str | None, machine: MachineDescription | None) -> str:
    if machine is not None:
        return next((kind for kind, name in qtypes().items() if name == machine.batch_type), "local")
    wanted = qtype or get_cluster_environment()
    known = qtypes()
    if wanted != "local" and wanted not in known:
        remedy = nearest(wanted, [*known, "local"]) or f"known are local, {', '.join(known)}"
        raise UsageError(f"no kind of queue is called {wanted!r}", where="qtype", remedy=remedy)
    return wanted


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
