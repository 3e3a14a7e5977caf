"""Frames between the processes of one agent, over a pair of sockets. Neither end ever waits for the other."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from ..loop import Loop

_HEAD = struct.Struct("<I")
_MOST_READ = 1 << 20
_TRY_AGAIN_S = 0.001


class Channel:
    """One end. `on_frame` gets what the other end sends, `on_end` is called once when that is gone."""

    def __init__(
        self, end: socket.socket, loop: Loop, on_frame: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        end.setblocking(False)
        self._end = end
        self._loop = loop
        self._on_frame = on_frame
        self._on_end = on_end
        self._unsent = bytearray()
        self._unread = bytearray()
        loop.on_readable(end.fileno(), self._read)

    def send(self, frame: bytes) -> None:
        waits = bool(self._unsent)
        self._unsent += _HEAD.pack(len(frame)) + frame
        if not waits:
            self._push()

    def _push(self) -> None:
        try:
            del self._unsent[: self._end.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the other end is gone, as reading will tell
        if self._unsent:
            self._loop.call_after(_TRY_AGAIN_S, self._push)

    def _read(self) -> None:
        found = b""
        with suppress(ConnectionError):
            found = self._end.recv(_MOST_READ)
        if not found:
            self._loop.forget(self._end.fileno())
            self._on_end()
            return
        self._unread += found
        while len(self._unread) >= _HEAD.size:
            after = _HEAD.size + _HEAD.unpack_from(self._unread)[0]
            if len(self._unread) < after:
                break
            frame = bytes(self._unread[_HEAD.size : after])
            del self._unread[:after]
            self._on_frame(frame)

    def close(self) -> None:
        """Tell the other end that this one is gone."""
        self._end.close()
