"""Processes that got away: found by a mark in their environment, wherever they have gone in the process tree."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from . import cgroups

_PR_SET_CHILD_SUBREAPER = 36
_QUIET_SCANS = 2
_MOST_SCANS = 100
_LONGEST_SPAWN_S = 1.0


def become_subreaper() -> None:
    """Orphans of our tasks become our children, so they are reaped here. Where the kernel cannot, nothing is lost."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_marked(marks: Collection[bytes]) -> int:
    """Kill all processes whose environment has one of the lines `marks` (`NAME=value`); returns how many there were."""
    wanted = frozenset(marks)
    return _kill_all(lambda pid: not wanted.isdisjoint(_strings(pid, "environ")))


def is_alive(agent_id: str) -> bool:
    """Whether the agent of that name runs on this host.

    A task of it between vfork and exec looks the same, so only what is seen for `_LONGEST_SPAWN_S` counts.
    """
    deadline = time.monotonic() + _LONGEST_SPAWN_S
    while any(_is_command_of(pid, agent_id) for pid in _others()):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    return False


def clear_after(agent_id: str) -> int:
    """Kill what a dead agent has left behind; returns how many processes there were.

    Between vfork and exec a task still looks like its agent, so processes with the agent's command line count too. That
    includes the agent itself, should it live: it has been replaced.
    """
    mark = b"PILOTFISH_AGENT_ID=" + os.fsencode(agent_id)
    killed = _kill_all(lambda pid: mark in _strings(pid, "environ") or _is_command_of(pid, agent_id))
    cgroups.clear_after(agent_id)
    return killed


def _is_command_of(pid: int, agent_id: str) -> bool:
    arguments = _strings(pid, "cmdline")
    option = [b"--agent-id", os.fsencode(agent_id)]
    return option in [arguments[place : place + 2] for place in range(len(arguments))]


def _kill_all(wanted: Callable[[int], bool]) -> int:
    """Kill until two scans in a row find nothing new: one may miss what a process starts while it is being read."""
    killed: set[int] = set()
    quiet = 0
    for _ in range(_MOST_SCANS):
        found = {pid for pid in _others() - killed if wanted(pid)}
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        quiet = 0 if found else quiet + 1
        if quiet == _QUIET_SCANS:
            break
    return len(killed)


def _others() -> set[int]:
    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - {os.getpid()}


def _strings(pid: int, name: str) -> list[bytes]:
    """A file of NUL-terminated strings in /proc; empty for a process that has ended or is not ours."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []
