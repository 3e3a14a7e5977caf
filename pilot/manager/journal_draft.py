"""A journal in the making, which is to take the place of the present one.

It has another name until all it needs is in it and on the disk; killed before that, the present one is there, and the draft
is cleared away when that is opened. Nothing here is called by two threads at once, but any of it by one beside the loop:
the disk may take seconds for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..wire import journal
from ..wire.records import Record

_CHUNK_BYTES = 1 << 20


def draft_path(path: Path) -> Path:
    """Of the draft for the journal `path`."""
    return path.with_name(path.name + ".new")


class Draft:
    """Begins empty. `size`: how many bytes are in the file."""

    def __init__(self, path: Path) -> None:
        """`path` is that of the journal. Raises OSError, as all here does."""
        self._target, self._path = path, draft_path(path)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.error: OSError | None = None
        """Why `finish` could not."""
        self._waiting = bytearray(journal.HEADER)

    def append(self, record: Record) -> None:
        """Note a record."""
        self._waiting += journal.encode(record)

    @property
    def is_full(self) -> bool:
        """Whether what is noted should be written before more is."""
        return len(self._waiting) >= _CHUNK_BYTES

    def write(self) -> None:
        """Put what was noted into the file."""
        self.add(self._waiting)
        self._waiting.clear()

    def add(self, data: bytes | bytearray) -> None:
        """Put these bytes of the present journal at the end."""
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], self.size + done)
        self.size += len(data)

    def copy(self, descriptor: int, start: int, stop: int) -> None:
        """The same with what stands there in the file of the present journal, and put all onto the disk."""
        while start < stop:
            data = os.pread(descriptor, min(_CHUNK_BYTES, stop - start), start)
            if not data:
                raise OSError(5, "the journal is shorter than it was")
            self.add(data)
            start += len(data)
        os.fsync(self.descriptor)

    def finish(self, descriptor: int, start: int, stop: int) -> None:
        """As `copy`, for a caller to whom the draft matters least: what goes wrong is only noted."""
        try:
            self.copy(descriptor, start, stop)
        except OSError as error:
            self.error = error

    def publish(self) -> None:
        """Take the place of the present journal. That survives a crash of the machine when the folder has been synced."""
        os.replace(self._path, self._target)

    def discard(self) -> None:
        """Do without it: the present journal stays."""
        os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self._path)
