"""The journal of a pilot's allocations, `alloc/journal` in its auxiliary folder, and what follows from it.

Two kinds of programs write it: the commands (`pilotfish alloc add`, `pause`, `remove` …) say what may be asked for, the
allocator says what it is about to do and what has become of it. Each line is on disk before anything is done because of it. All
append, so a writer holds a lock for as long as that takes, and no longer; a torn line of one that was killed is cut off by the
next. Readers hold nothing: they stop at the last whole line.

Rejected: a journal for each writer (the order of `remove` and of what was asked for just before it would not be known), and
telling the allocator over a socket (it may be dead, and then the wish would be lost).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...pilot import locks
from ...pilot.files import open_private
from ...pilot.model.errors import JournalError
from ..job import event_lines
from . import events
from .events import Event
from .state import State

FOLDER = "alloc"
"""Below the auxiliary folder of the pilot."""
_FILE, _LOCK = "journal", ".journal-lock"
_REMEDY = "move the file away to begin anew; batch jobs that were asked for are in `pilotfish job list`"


@dataclass(frozen=True)
class Entry:
    """An event, and when it was written (seconds since the epoch)."""

    time_s: float
    event: Event


class AllocationJournal:
    """`state` is what has been read so far."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.path = folder / _FILE
        self.state = State()
        self._clock = clock
        self._read_bytes = 0

    def read(self) -> list[Entry]:
        """What was written since the last look. Raises JournalError."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read_bytes)
                content = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"cannot be read: {error.strerror}", where=str(self.path)) from error
        found, length = event_lines.decode(content, _entry, str(self.path), _REMEDY, self._read_bytes)
        self._read_bytes += length
        for entry in found:
            self.state.take(entry.event, entry.time_s)
        return found

    @property
    def has_news(self) -> bool:
        """Whether somebody has written more than was read; costs hardly anything."""
        try:
            return self.path.stat().st_size > self._read_bytes
        except OSError:
            return False

    def write(self, *happened: Event) -> None:
        """On disk when this returns. Raises JournalError (a full disk); nothing may then be done."""
        lines = b"".join(event_lines.encode({"time_s": self._clock(), **events.to_dict(each)}) for each in happened)
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with locks.held(self.folder / _LOCK), open(self.path, "a+b", buffering=0, opener=open_private) as file:
                start = self._whole_bytes(file.fileno())
                try:
                    while lines:
                        lines = lines[file.write(lines) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(start)
                    raise
        except OSError as error:
            raise JournalError(f"cannot be written: {error.strerror}", where=str(self.path)) from error

    @staticmethod
    def _whole_bytes(descriptor: int) -> int:
        """The length of the file, after what a writer left that was killed has been cut off."""
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, 1, size - 1) if size else b"\n"
        if tail == b"\n":
            return size
        whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, whole)
        return whole


def _entry(found: dict[str, object]) -> Entry:
    return Entry(float(str(found["time_s"])), events.from_dict(found))
