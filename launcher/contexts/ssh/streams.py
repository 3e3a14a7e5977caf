"""Streams that count what passes, archives that are made while they are read, and sockets joined with channels."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import IO

from .. import archive
from ..archive import Readable
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
        self.is_at(self.done + count)

    def is_at(self, done: int) -> None:
        """What was cut off does not count; what is there already does."""
        self.done = done
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


class Ahead:
    """A stream with some bytes before it."""

    def __init__(self, head: bytes, rest: archive.Readable) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int, /) -> bytes:
        found, self._head = self._head[:size], self._head[size:]
        return found or self._rest.read(size)


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


class Fed:
    """The output of a command that is fed from a thread meanwhile: one that answers as it reads waits for neither.

    A command that ends without having read all has its reason for it in its output.

    Args:
        alive: whether the connection is.
    """

    def __init__(self, channel: Channel, stdin: Readable, alive: Callable[[], bool]) -> None:
        self._channel = channel
        self._stdin = stdin
        self._alive = alive
        self._problem: Exception | None = None
        self._sent = 0
        self._thread: threading.Thread | None = None
        first = stdin.read(BLOCK)
        second = stdin.read(BLOCK) if first else b""
        if second:
            self._thread = threading.Thread(target=self._feed, args=(first, second), daemon=True)
            self._thread.start()
        else:  # which there is room for on the way
            self._feed(first)
            self._raise_problem()

    def recv(self, size: int = BLOCK) -> bytes:
        """The next bytes; empty at the end. Raises what the channel raises, and what the input does."""
        while True:
            sent = self._sent
            try:
                block = self._channel.recv(size)
            except TimeoutError:
                if self._sent > sent:  # it is only waiting for its input
                    continue
                raise
            except OSError:
                self._raise_problem()
                raise
            if not block:
                self._finish()
            return block

    def _feed(self, *first: bytes) -> None:
        try:
            for block in chain(first, iter(lambda: self._stdin.read(BLOCK), b"")):
                self._channel.sendall(block)
                self._sent += len(block)
            self._channel.shutdown_write()
        except Exception as error:  # the edge of the thread: whoever reads raises it
            if isinstance(error, OSError) and not isinstance(error, TimeoutError) and self._alive():
                return
            self._problem = error
            self._channel.close()

    def _finish(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._raise_problem()

    def _raise_problem(self) -> None:
        if self._problem is not None:
            raise self._problem


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
