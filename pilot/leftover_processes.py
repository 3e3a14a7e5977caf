"""Processes that got away: found by a mark in their environment, wherever they have gone in the process tree.

Command lines can be read by everybody, so anybody can start a process that shows the name of our agent. Only processes that
we have started count, by their real user: the effective one of `passwd` and its like is root's, whoever runs it. (What a
task of root runs as another user is that user's business, and stays.)
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from . import cgroups, variable_names

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
    while any(_is_command_of(pid, agent_id) and _is_ours(pid) for pid in _others()):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    return False


def living(agent_ids: Collection[str]) -> dict[str, int]:
    """Which of these agents there are on this host, with their processes: also those that are about to become one.

    (A shell that runs the commands which come first has the agent's command as its text.)
    """
    found: dict[str, set[int]] = {}
    parents: dict[int, int] = {}
    for pid in _others() if agent_ids else ():
        words = b" ".join(_strings(pid, "cmdline"))
        if _OPTION not in words or not _is_ours(pid):
            continue
        for agent_id in agent_ids:
            if any(_OPTION + spelling + b" " in words + b" " for spelling in _spellings(agent_id)):
                found.setdefault(agent_id, set()).add(pid)
                parents[pid] = _parent(pid)
    # An agent's worker processes have its command line; it is their parent.
    tops = {agent_id: [pid for pid in pids if parents[pid] not in pids] for agent_id, pids in found.items()}
    return {agent_id: min(pids) for agent_id, pids in tops.items() if pids}


_OPTION = b"--agent-id "


def _spellings(agent_id: str) -> tuple[bytes, bytes]:
    return os.fsencode(agent_id), os.fsencode(shlex.quote(agent_id))


def _is_ours(pid: int) -> bool:
    """Whether its real user is us."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return int(file.read().partition(b"\nUid:")[2].split(None, 1)[0]) == os.geteuid()
    except (OSError, IndexError):  # it has just ended
        return False


def _parent(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def clear_after(agent_id: str) -> int:
    """Kill what a dead agent has left behind; returns how many processes there were.

    Between vfork and exec a task still looks like its agent, so processes with the agent's command line count too. That
    includes the agent itself, should it live: it has been replaced.
    """
    mark = os.fsencode(f"{variable_names.AGENT_ID}={agent_id}")
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
        found = {pid for pid in _others() - killed if wanted(pid) and _is_ours(pid)}
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
