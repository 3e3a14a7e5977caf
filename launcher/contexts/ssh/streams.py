"""Streams that count what passes, archives that are made while they are read, and sockets joined with channels."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO

from .. import archive
from ..base import LocalFile, Watch
from .session import Channel

BLOCK = 1 << 17


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


class Pumps:
    """Joins a socket with a channel, both ways, with a thread for each."""

    def __init__(self, ours: socket.socket, channel: Channel) -> None:
        self._socket = ours
        self._channel = channel
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._up, self._down)]
        self.up_bytes = self.down_bytes = 0
        self.errors = b""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def run(self) -> None:
        """Until either side has closed."""
        self.start()
        for thread in self._threads:
            thread.join()
        self.close()

    def close(self) -> None:
        shut(self._socket)
        with suppress(OSError):
            self._channel.close()
        for thread in self._threads:
            thread.join()

    def _up(self) -> None:
        with suppress(OSError):
            while block := self._socket.recv(BLOCK):
                self._channel.sendall(block)
                self.up_bytes += len(block)
            self._channel.shutdown_write()

    def _down(self) -> None:
        with suppress(OSError):
            while block := self._channel.recv(BLOCK):
                self._socket.sendall(block)
                self.down_bytes += len(block)
            self.errors = b"".join(iter(lambda: self._channel.recv_stderr(BLOCK), b""))
        shut(self._socket)


def shut(ours: socket.socket) -> None:
    """End a connection for whoever waits at either end of it."""
    with suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)
