"""The controller's socket: whole messages in, whole messages out, and nobody can make it wait."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from .client import _LENGTH as LENGTH

_MOST_BYTES = 64 << 20
_CREDENTIALS = struct.Struct("3i")


class Connection:
    """One client. `request` is what it has asked, as long as it waits for its answer."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.stream = stream
        self._in = bytearray()
        self._out = bytearray()
        self.request: dict[str, Any] | None = None
        self.is_open = True
        self.closes_after = False

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def read(self) -> list[dict[str, Any]]:
        """The messages that are complete now."""
        try:
            data = self.stream.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.is_open = False
            return []
        self._in += data
        found = []
        while len(self._in) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._in)
            if size > _MOST_BYTES:
                self.is_open = False
                return []
            if len(self._in) < LENGTH.size + size:
                break
            found.append(json.loads(bytes(self._in[LENGTH.size : LENGTH.size + size])))
            del self._in[: LENGTH.size + size]
        return [message for message in found if isinstance(message, dict)]

    def send(self, message: dict[str, Any], last: bool = False) -> None:
        data = json.dumps(message).encode()
        self._out += LENGTH.pack(len(data)) + data
        self.closes_after = self.closes_after or last
        self.write()

    def write(self) -> None:
        try:
            while self._out:
                del self._out[: self.stream.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self.is_open = False
        if self.closes_after and not self._out:
            self.is_open = False

    def close(self) -> None:
        with suppress(OSError):
            self.stream.close()


def listen(path: str) -> socket.socket:
    """`path` is in a folder that only this user may enter."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(512)
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket) -> Connection | None:
    """None where nobody is there any more, or somebody else's process has called."""
    try:
        stream, _ = listener.accept()
    except OSError:
        return None
    credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid != os.getuid():
        stream.close()
        return None
    return Connection(stream)
