"""Streams that count what passes, and archives that are made while they are read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import IO

from . import archive
from .base import LocalFile, Watch


class Counter:
    """Bytes done, told to whoever watches."""

    def __init__(self, watch: Watch | None, whole: int) -> None:
        self.done = 0
        self.whole = whole
        self._watch = watch

    def add(self, count: int) -> None:
        self.done += count
        if self._watch is not None:
            self._watch(min(self.done, self.whole), self.whole)


class Counted:
    """A file whose reads are counted."""

    def __init__(self, file: IO[bytes], counter: Counter) -> None:
        self._content = file
        self._counter = counter

    def read(self, size: int, /) -> bytes:
        block = self._content.read(size)
        self._counter.add(len(block))
        return block


class Packed:
    """An archive that is made while it is read, through a pipe, so that it never lies anywhere whole."""

    def __init__(self, files: Sequence[LocalFile], compress: bool, counter: Counter) -> None:
        read_end, write_end = os.pipe()
        self._read_end = os.fdopen(read_end, "rb")
        self._problem: Exception | None = None
        self._counter = counter

        def write() -> None:
            try:
                with os.fdopen(write_end, "wb") as stream:
                    archive.pack(self._counting(files), stream, compress=compress)
            except BrokenPipeError:
                pass  # the reader has stopped, and says why
            except Exception as error:  # the edge of the thread: whoever reads raises it
                self._problem = error

        self._writer = threading.Thread(target=write, daemon=True)
        self._writer.start()

    def _counting(self, files: Sequence[LocalFile]) -> Iterable[LocalFile]:
        for file in files:
            yield file
            self._counter.add(file.size)

    def read(self, size: int, /) -> bytes:
        block = self._read_end.read(size)
        if not block:
            self._writer.join()
            if self._problem is not None:
                raise self._problem
        return block

    def close(self) -> None:
        self._read_end.close()
        self._writer.join()
