"""Start a process by a fork, for what posix_spawn cannot do.

* A member of a control group: a process that is moved once it runs may have started others by then, so the child enters the
  group before it becomes the program. Tasks with a memory limit pay for that (docs/performance.md).
* The leader of a session, with a Python that was built for systems older than glibc 2.26, as those of Miniforge and uv are:
  it has no `setsid` for posix_spawn.
"""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from .launch import FileAction, Launch, close_all, open_streams

_BAD_VALUE = b"V"


class GroupError(Exception):
    """The process could not enter its group; nothing was started."""


@cache
def can_lead_sessions() -> bool:
    """Whether this Python's posix_spawn can make the process lead a session."""
    try:
        os.posix_spawn("/", ["/"], {}, setsid=True)
    except NotImplementedError:
        return False
    except OSError:  # a folder is no program
        pass
    return True


def plain_start() -> Callable[[Launch], int]:
    """Launch.spawn, or with a Python that cannot do that the same by a fork."""
    return Launch.spawn if can_lead_sessions() else _start


def spawn_in_group(launch: Launch, procs: Path) -> int:
    """As Launch.spawn, in the group of which `procs` is the file cgroup.procs. Raises OSError as that does, and GroupError."""
    return _start(launch, procs)


def _start(launch: Launch, procs: Path | None = None) -> int:
    actions, opened = open_streams(launch.streams)
    try:
        return _fork(launch, procs, [*actions, *launch.kept])
    finally:
        close_all(opened)


def _fork(launch: Launch, procs: Path | None, actions: list[FileAction]) -> int:
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        with warnings.catch_warnings():
            # Python warns of threads. Those of ZeroMQ are the only ones, and the child does not touch what is theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become(launch, procs, actions, write)
    finally:
        os.close(write)
        with open(read, "rb") as file:
            failure = file.read()  # ends with the pipe, which the program does not inherit
    if not failure:
        return pid
    os.waitpid(pid, 0)
    if failure == _BAD_VALUE:
        raise ValueError("embedded null byte")
    number = int(failure[1:])
    error = OSError(number, os.strerror(number))
    raise GroupError(str(error)) if failure[:1] == b"G" else error


def _become(launch: Launch, procs: Path | None, actions: list[FileAction], write: int) -> None:
    """In the child: never returns. What fails goes through the pipe, with G in front when it was about the group."""
    of = b"G"
    try:
        if procs is not None:
            _write(procs, b"0")
        of = b"P"
        os.setsid()
        for number in launch.signals.default:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, launch.signals.blocked)
        for action in actions:
            _act(action)
        if launch.open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, launch.open_files.of_task)
        os.execve(launch.program, launch.argv, launch.env)
    except OSError as error:
        os.write(write, of + b"%d" % (error.errno or 0))
    except ValueError:
        os.write(write, _BAD_VALUE)
    finally:
        os._exit(127)


def _write(path: Path, text: bytes) -> None:
    number = os.open(path, os.O_WRONLY)
    os.write(number, text)
    os.close(number)


def _act(action: FileAction) -> None:
    """One of posix_spawn's file actions, of the two kinds that launch.py uses."""
    kind, first, second, *rest = action
    assert isinstance(first, int)
    if kind == os.POSIX_SPAWN_DUP2:
        assert isinstance(second, int)
        os.dup2(first, second)
        return
    flags, mode = rest
    assert isinstance(second, str)
    assert isinstance(flags, int)
    assert isinstance(mode, int)
    number = os.open(second, flags, mode)
    os.dup2(number, first)
    os.close(number)
