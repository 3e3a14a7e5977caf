"""The control socket of a running `ssh` (OpenSSH's PROTOCOL.mux, version 4): commands and connections over its one login.

`ssh -S SOCKET HOST COMMAND` would do the same with a process for each command. It would also log in anew where the master has
gone, and could not tell a session that was refused from a command that failed. Here streams are ends of socket pairs whose
other ends the master gets; a control connection is one command, and closing it ends the command's session.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress

from .session import BrokenError

_VERSION = 4
_HELLO = 0x00000001
NEW_SESSION, STDIO_FORWARD = 0x10000002, 0x10000008
_ALIVE_CHECK, _TERMINATE = 0x10000004, 0x10000005
_DENIED, _FAILURE, _EXIT, _ALIVE, _OPENED = 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006
_NO_ESCAPE = 0xFFFFFFFF
_LONGEST = 1 << 18
_ID = 0
"""Of each request: there is one per connection, or they take turns."""


class DeniedError(Exception):
    """The master, or the host, does not do it."""


class Control:
    """A connection to the socket of a master. All methods raise OSError when the master has gone or does not answer in time."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path)
            self._send(_HELLO, _VERSION)
            kind, said = self._receive()
            if kind != _HELLO or struct.unpack(">I", said[:4])[0] != _VERSION:
                raise OSError(f"no control socket of a version that is known: {path}")
        except BaseException:
            self._socket.close()
            raise

    def settimeout(self, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)

    def is_alive(self) -> bool:
        """Whether the master answers. One that is about to end because its connection broke does not."""
        with self._lock:
            try:
                self._send(_ALIVE_CHECK, _ID)
                return self._receive()[0] == _ALIVE
            except OSError:
                return False

    def terminate(self) -> None:
        """End the master, and wait until it has gone."""
        with suppress(OSError):
            self._send(_TERMINATE, _ID)
            while True:
                self._receive()

    def ask(self, kind: int, *fields: int | bytes, descriptors: Sequence[int]) -> None:
        """Ask for a session. Raises DeniedError."""
        self._send(kind, _ID, *fields)
        for descriptor in descriptors:
            socket.send_fds(self._socket, [b"\0"], [descriptor])
        answer, said = self._receive()
        if answer in (_DENIED, _FAILURE):
            length = struct.unpack(">I", said[4:8])[0]
            raise DeniedError(said[8 : 8 + length].decode(errors="replace"))
        if answer != _OPENED:
            raise OSError(f"the master answers {answer:#x} to {kind:#x}")

    def exit_status(self) -> int:
        """Wait for the end of the session: its exit code, -1 when none came."""
        code = -1
        with suppress(ConnectionError):
            while True:
                kind, said = self._receive()
                if kind == _EXIT:
                    code = struct.unpack(">I", said[4:8])[0]
        return code

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close_copy(self) -> None:
        """In a forked child: the parent's connection goes on."""
        self._socket.close()

    def _send(self, *fields: int | bytes) -> None:
        packed = b"".join(
            struct.pack(">I", each) if isinstance(each, int) else struct.pack(">I", len(each)) + each for each in fields
        )
        self._socket.sendall(struct.pack(">I", len(packed)) + packed)

    def _receive(self) -> tuple[int, bytes]:
        """(kind of the message, what follows it)."""
        length = struct.unpack(">I", self._read(4))[0]
        if not 4 <= length <= _LONGEST:
            raise OSError(f"a message of {length} bytes on a control socket")
        message = self._read(length)
        return struct.unpack(">I", message[:4])[0], message[4:]

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            block = self._socket.recv(size - len(read))
            if not block:
                raise ConnectionResetError("the master has gone")
            read += block
        return read


class MuxChannel:
    """A command, or a connection to a port, over a control connection of its own."""

    def __init__(self, control: Control, kind: int, *fields: int | bytes, timeout_s: float | None) -> None:
        """Ask for it. `timeout_s` is for each step later. Raises DeniedError, OSError, and closes the control connection."""
        self._control = control
        self._code: int | None = None
        self._input, far_input = socket.socketpair()
        self._output, far_output = socket.socketpair()
        self._errors = tempfile.TemporaryFile(buffering=0)  # no pipe: nobody reads it while the output comes
        self._errors_read = 0
        given = (far_input.fileno(), far_output.fileno(), self._errors.fileno())
        try:
            with far_input, far_output:
                control.ask(kind, *fields, descriptors=given if kind == NEW_SESSION else given[:2])
        except BaseException:
            self.close()
            raise
        for each in (self._input, self._output):
            each.settimeout(timeout_s)
        if timeout_s is not None:
            control.settimeout(timeout_s)

    def sendall(self, data: bytes, /) -> None:
        self._input.sendall(data)

    def shutdown_write(self) -> None:
        with suppress(OSError):  # whoever read it has ended
            self._input.shutdown(socket.SHUT_WR)

    def recv(self, size: int, /) -> bytes:
        return self._output.recv(size)

    def recv_stderr(self, size: int, /) -> bytes:
        self.recv_exit_status()  # then all has been written
        block = os.pread(self._errors.fileno(), size, self._errors_read)
        self._errors_read += len(block)
        return block

    def recv_exit_status(self) -> int:
        if self._code is None:
            self._code = self._control.exit_status()
        return self._code

    def close(self) -> None:
        self._control.close()
        for each in (self._input, self._output):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes who reads it in another thread
            each.close()
        self._errors.close()


def run(path: str, command: bytes, *, timeout_s: float, open_timeout_s: float) -> MuxChannel:
    """A command of the master at `path`. Raises OSError when it was not asked for, BrokenError when it may run, DeniedError."""
    control = Control(path, open_timeout_s)
    # No terminal, no X11, no agent, no subsystem; no sign to escape from it, no name of a terminal.
    fields = (b"", 0, 0, 0, 0, _NO_ESCAPE, b"", command)
    try:
        return MuxChannel(control, NEW_SESSION, *fields, timeout_s=timeout_s)
    except OSError as error:
        raise BrokenError(str(error) or type(error).__name__) from error


def forward(path: str, host: str, port: int, *, open_timeout_s: float) -> MuxChannel:
    """A connection from the machine to a port. Raises OSError, DeniedError."""
    control = Control(path, open_timeout_s)
    return MuxChannel(control, STDIO_FORWARD, b"", host.encode(), port, timeout_s=None)
