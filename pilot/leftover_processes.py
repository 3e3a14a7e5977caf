"""Processes that got away: found by a mark in their environment, wherever they have gone in the process tree, and by their
place in the tree where they have shed the mark (`env -i setsid daemon`).

Whose parent has ended becomes a child of the worker process that started its task, and of the agent if that has gone too. So
at the end of a pilot all that is below its agents can be found. Which task such a child came from is known only if it was seen
below that task before, or is still in its session, or no other task of the worker can have started it.

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
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from . import cgroups, variable_names

_PR_SET_CHILD_SUBREAPER = 36
_QUIET_SCANS = 2
_MOST_SCANS = 100
_LONGEST_SPAWN_S = 1.0
_LONGEST_STOP_S = 0.2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def become_subreaper() -> None:
    """Orphans of our tasks become our children, so they are reaped here. Where the kernel cannot, nothing is lost."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Process(NamedTuple):
    """One process: its number, which another may get later, with the time at which it began, in clock ticks since boot."""

    pid: int
    began: int


def below(pid: int) -> set[Process]:
    """All living processes that descend from `pid`, without itself."""
    found: set[Process] = set()
    parents = [pid]
    while parents:
        for child in _children(parents.pop()):
            stat = _stat(child)
            if stat is not None and Process(child, stat.began) not in found:
                found.add(Process(child, stat.began))
                parents.append(child)
    return found


def orphans_of(leader: int, alone_since_s: float | None) -> set[Process]:
    """Children of this process, but `leader`, that `leader` or a process below it must have started.

    These are those in its session; and all of them, if nothing else can have started one since that time (by
    `time.clock_gettime(CLOCK_BOOTTIME)`): not so if one is older, which may have left another behind.
    """
    found = {child: stat for child in _children(os.getpid()) if child != leader and (stat := _stat(child)) is not None}
    is_alone = alone_since_s is not None and all(
        stat.began >= alone_since_s * _TICKS_PER_S - 1 for stat in found.values() if stat.session != leader
    )
    return {Process(child, stat.began) for child, stat in found.items() if is_alone or stat.session == leader}


def kill_trees(roots: Iterable[Process]) -> int:
    """Kill these processes, as far as they still are the same, and all that is below them; returns how many there were.

    They are stopped first, so that none can start another unseen.
    """
    frozen: set[Process] = set()
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        if process in frozen or not _freeze(process):
            continue
        frozen.add(process)
        waiting += below(process.pid)
    for pid, _ in frozen:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(frozen)


def kill_all_below(spared: Collection[Process] = ()) -> None:
    """Kill and reap everything that descends from this process, but `spared`: whatever its parents leave comes to us."""
    for _ in range(_MOST_SCANS):
        if kill_trees(below(os.getpid()).difference(spared)) == 0:
            return
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _freeze(process: Process) -> bool:
    """Stop it, and wait until it is; False when it has ended, or is not ours to kill."""
    stat = _stat(process.pid)
    if stat is None or stat.began != process.began or not _is_ours(process.pid):
        return False
    try:
        os.kill(process.pid, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        return False
    deadline = time.monotonic() + _LONGEST_STOP_S
    while (stat := _stat(process.pid)) is not None and stat.state in b"RS" and time.monotonic() < deadline:
        time.sleep(0.0005)
    return stat is not None


class _Stat(NamedTuple):
    state: bytes
    session: int
    began: int


def _stat(pid: int) -> _Stat | None:
    """None for a process that has ended, also if nobody has reaped it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the name, which is in parentheses and may hold anything: state ppid pgrp session; the start is the 22nd.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else _Stat(fields[0], int(fields[3]), int(fields[19]))


def _children(pid: int) -> list[int]:
    """Of all its threads. Kernels without these files are those that were built without CONFIG_PROC_CHILDREN: none then."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


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


def clear_after(*agent_ids: str) -> int:
    """Kill what dead agents have left behind; returns how many processes there were.

    Between vfork and exec a task still looks like its agent, so processes with the agent's command line count too. That
    includes the agent itself, should it live: it has been replaced.
    """
    marks = {os.fsencode(f"{variable_names.AGENT_ID}={agent_id}") for agent_id in agent_ids}
    killed = _kill_all(lambda pid: not marks.isdisjoint(_strings(pid, "environ")) or _is_command_of(pid, *agent_ids))
    for agent_id in agent_ids:
        cgroups.clear_after(agent_id)
    return killed


def _is_command_of(pid: int, *agent_ids: str) -> bool:
    arguments = _strings(pid, "cmdline")
    named = {after for word, after in pairwise(arguments) if word == b"--agent-id"}
    return not named.isdisjoint(map(os.fsencode, agent_ids))


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
