"""The allocator as a process: at most one for a pilot, in a session of its own, started by whoever finds that it is missing.

It holds `alloc/allocator`, a file that is there for the lock alone and says who has it. Whoever starts one takes the lock first
and hands it over with the open file, so of any number of programs that find it free one starts an allocator, and it is never
free in between. What it prints is in `alloc/log`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ...pilot import locks, own_python
from ...pilot.files import open_private
from ...pilot.model.errors import PilotfishError, RefusedError
from .allocator import Allocator, Decide
from .batch_jobs import BatchJobs
from .journal import FOLDER, AllocationJournal
from .pilot_link import PilotLink

_LOCK, LOG = "allocator", "log"
_FIRST_PAUSE_S, _LAST_PAUSE_S, _SLOWER = 0.2, 2.0, 1.3
_GLANCE_S = 0.1
"""How often it is seen whether somebody has written something."""


class HeldError(RefusedError):
    """Another allocator works for this pilot."""

    code = "in-use"


def start(aux: Path) -> bool:
    """Start one unless there is one; whether one was started. It outlives whoever calls this, and is nobody's child."""
    folder = aux / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / _LOCK, "a+", opener=open_private) as file:
        try:
            lock = locks.take(file.fileno(), folder / _LOCK, takes_note=True)
        except locks.HeldError:
            return False
        if lock.weakness:  # a link names its process: the allocator makes its own
            lock.release()
        words = ("alloc", "serve", "--connect", str(aux), "--lock-fd", str(file.fileno()))
        with open(folder / LOG, "ab", opener=open_private) as log:
            subprocess.run(
                ["sh", "-c", '"$@" &', "sh", *own_python.pilotfish(sys.executable, *words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(file.fileno(),),
                cwd="/",
                check=True,
            )
    return True


@contextmanager
def _held(aux: Path, descriptor: int | None) -> Iterator[None]:
    """The lock, that of the file that was handed over if there is one. Raises HeldError."""
    path = aux / FOLDER / _LOCK
    if descriptor is None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.set_inheritable(descriptor, False)
    with open(descriptor, "r+") as file:
        try:
            lock = locks.take(file.fileno(), path, takes_note=True)
        except locks.HeldError as error:
            raise HeldError(f"another allocator works for it, {error.holder}", where=str(aux)) from None
        try:
            yield
        finally:
            lock.release()


class _Told(Exception):
    """To end, by a signal."""


def serve(aux: Path, decide: Decide, lock_fd: int | None = None) -> None:
    """Be the allocator of this pilot, until it has ended and nothing that was asked for is left.

    A signal ends it at once: everything is written down, and the next one goes on. Raises HeldError.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise _Told

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    journal, pilot = AllocationJournal(aux / FOLDER), PilotLink(aux)
    jobs = BatchJobs(aux, tell=_tell)
    allocator = Allocator(journal, jobs, pilot, decide, tell=_tell)
    allocator.remember()
    try:
        while True:
            with _held(aux, lock_fd):
                _tell(f"{_now()}  allocator {os.getpid()}: begins")
                _loop(allocator, journal)
                _note_end(aux)
            lock_fd = None
            if not journal.has_news:  # whoever has written since finds the lock free, and starts another
                _tell(f"{_now()}  allocator {os.getpid()}: ends, nothing is left to do")
                return
    except _Told:
        _tell(f"{_now()}  allocator {os.getpid()}: was told to end; the next one goes on")
    finally:
        pilot.close()
        jobs.close()


def _loop(allocator: Allocator, journal: AllocationJournal) -> None:
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            if not allocator.turn():
                return
        except (PilotfishError, OSError) as error:  # a full disk, say: nothing was done that is not written down
            _tell(f"{_now()}  allocator: {error}")
            if not journal.folder.is_dir():
                allocator.give_up()
                return
        pause_s = min(pause_s * _SLOWER, _LAST_PAUSE_S)
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and not journal.has_news:
            time.sleep(_GLANCE_S)
        if journal.has_news:
            pause_s = _FIRST_PAUSE_S


def _note_end(aux: Path) -> None:
    """Nobody need be missed: the manager starts another one only in the place of one that was killed."""
    os.truncate(aux / FOLDER / _LOCK, 0)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _tell(text: str) -> None:
    print(text, flush=True)
