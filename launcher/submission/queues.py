"""Kinds of queues: batch systems in the small letters that the old interfaces have for them, and which of them is here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from ...pilot.model.errors import UsageError
from ..description.machine import MachineDescription
from ..description.schema import nearest
from ..machines import registry
from ..machines.dialect import View

_ANSWERS_IN_S = 20.0
GOOD = ("completed",)
ACTIVE = ("submitted", "pending", "running", "completing", "suspended")
BAD = ("failed", "cancelled", "vanished", "timeout", "out_of_memory", "node_fail", "boot_fail", "deadline", "preempted")


def qtypes() -> dict[str, str]:
    """Kinds of queues that are batch systems -> our machines. `local` is a pilot on this machine."""
    systems = {name: registry.build_machine(name) for name in registry.names()}
    return {each.aliases[0]: name for name, each in systems.items() if each.aliases and each.directives is not None}


DEFAULT = next(iter(qtypes()))


def views() -> dict[str, tuple[View, ...]]:
    """Kinds of queues that can be seen as a whole, with the commands for it."""
    found = {kind: registry.system(name).views for kind, name in qtypes().items()}
    return {kind: commands for kind, commands in found.items() if commands}


def get_cluster_environment() -> str:
    """The kind of queue here: one whose commands are there and answer; `local` without any."""
    return next((kind for kind in views() if is_here(kind)), "local")


def is_here(kind: str) -> bool:
    """Whether the commands of this batch system are on this host, and answer."""
    system = registry.system(qtypes()[kind])
    asked_for_name, named = system.answers
    if asked_for_name and not re.search(named, _told_by(asked_for_name), re.MULTILINE):
        return False
    asked = [view.command("", False) for view in views()[kind]]
    return shutil.which(system.commands[0]) is not None and all(
        _answers(command) for command in asked if command[0] not in system.helpful_commands
    )


def _told_by(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_IN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


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
