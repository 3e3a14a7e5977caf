"""Processes that got away: found by a mark in their environment, wherever they have gone in the process tree."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36
_QUIET_SCANS = 2
_MOST_SCANS = 100
"""A process that hangs in the kernel does not die at once; it must not hold us up for ever."""


def become_subreaper() -> None:
    """Orphans of our tasks become our children, so they are reaped here. Where the kernel cannot, nothing is lost."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def marked(mark: bytes) -> list[int]:
    """Ids of our user's processes whose environment has the line `mark` (`NAME=value`)."""
    found = []
    me = os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == me:
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(entry))
        except OSError:  # ended meanwhile, or not ours
            continue
    return found


def kill_marked(mark: bytes) -> int:
    """Kill all processes with the mark, until none is found twice in a row; returns how many there were.

    Twice, because a process between vfork and exec still shows its parent's environment.
    """
    killed = 0
    quiet = 0
    for _ in range(_MOST_SCANS):
        found = marked(mark)
        quiet = 0 if found else quiet + 1
        if quiet == _QUIET_SCANS:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed
