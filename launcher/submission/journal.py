"""The journal of one submission: a line for each event, on disk before anything is done because of it.

A torn last line (the launcher or the machine died) is cut off when the journal is opened again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ...pilot import locks
from ...pilot.model.errors import JournalError, RefusedError
from ..job import event_lines
from . import events
from .events import Event


class InUseError(RefusedError):
    """Another launcher works on this submission."""

    code = "in-use"


class Journal:
    """Use as a context manager. Holds the submission: a second one is refused until this is closed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._lock: locks.Lock | None = None

    def open(self) -> list[Event]:
        """Take hold and give what was written so far. Raises InUseError, JournalError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what could not be written must not be tried again behind our back.
        self._file = open(self.path, "a+b", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o600))
        try:
            self._lock = locks.take(self._file.fileno(), self.path)
        except locks.HeldError as error:
            self.close()
            what = "another launcher works on this submission"
            remedy = "wait for it, or end it (Ctrl-C there)"
            if error.owner is not None and error.link is not None:
                what += f", {error.holder}"
                remedy += f"; if it is gone, remove {error.link}"
            raise InUseError(what, where=str(self.path), remedy=remedy) from None
        except OSError as error:
            self.close()
            raise JournalError(f"cannot be locked: {error.strerror}", where=str(self.path)) from error
        self._file.seek(0)
        found, whole = read(self._file.read(), str(self.path))
        self._file.truncate(whole)
        return found

    def write(self, *happened: Event) -> None:
        """On disk when this returns. Raises JournalError (a full disk); nothing may then be done."""
        assert self._file is not None
        lines = b"".join(event_lines.encode({"time_s": self._clock(), **events.to_dict(event)}) for event in happened)
        start = self._file.seek(0, os.SEEK_END)
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            raise JournalError(f"cannot be written: {error.strerror}", where=str(self.path)) from error

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


def read(content: bytes, where: str) -> tuple[list[Event], int]:
    """(events, length of the whole lines). Raises JournalError for a broken line that is not the last."""
    remedy = "move the file away to begin anew; results that are home already stay"
    return event_lines.decode(content, events.from_dict, where, remedy)
