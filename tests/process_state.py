"""How tests look at processes of others, each of which may end at any moment: an answer, never an exception."""

from __future__ import annotations

import psutil


def has_ended(process: int | psutil.Process) -> bool:
    """Also if nobody has reaped it: the first process of a container may not do that."""
    try:
        if isinstance(process, int):
            process = psutil.Process(process)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_line(process: psutil.Process) -> list[str]:
    """Its words; none when it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def parent_of(process: int | psutil.Process) -> int:
    """The number of its parent; 0 when it has ended, which is nobody's number."""
    try:
        return (psutil.Process(process) if isinstance(process, int) else process).ppid()
    except psutil.NoSuchProcess:
        return 0


def children_of(pid: int, recursive: bool = False) -> list[psutil.Process]:
    """Those that have not ended; parents before their children. None when it has ended itself."""
    try:
        return [each for each in psutil.Process(pid).children(recursive=recursive) if not has_ended(each)]
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> bool:
    """Whether it was still there to be killed. The processes of a pilot end with each other."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
