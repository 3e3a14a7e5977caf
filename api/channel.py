"""One conversation with a manager: requests out, replies in, with a time limit on each."""

from __future__ import annotations

import math
import os
import socket as network
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from ..pilot.model.errors import PilotfishError
from ..pilot.wire import codec
from ..pilot.wire.connection import FILE_NAME, ConnectionFile, best_address, read, why_ended
from ..pilot.wire.names import why_unknown
from ..pilot.wire.room import check_room_for_sockets
from ..pilot.wire.security import unlock_client, wants_keys
from .errors import ConnectionError
from .forking import renew_in_children

_LINGER_MS = 500
_DESCRIPTORS = 12
"""Of a context with two sockets."""
_LOOK_S = 0.5
"""How often a waiting request asks whether the peer is still there."""


_left_to_the_parent: list[object] = []
"""Contexts and sockets that a child has inherited: kept, because neither closing nor forgetting them is for the child to do."""


class NoAnswerError(ConnectionError):
    """Nothing came in the time that there was; the request may have been carried out all the same."""


class Channel:
    """A DEALER socket, because a REQ socket is of no use any more once a reply has been missed. May be used by any thread,
    and in a child that is forked, which gets a connection of its own.

    Args:
        target: a connection file's content, or a bare ZeroMQ address, which is spoken to without keys.
        timeout_s: how long to wait for one reply.
    """

    def __init__(self, target: ConnectionFile | str, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._closed = False
        self._notices_cuts = False
        self._begin()
        renew_in_children(self)
        self.why_gone: Callable[[], str] = lambda: "" if isinstance(target, str) else why_ended(target)
        """Why no answer will come any more, empty while one may. Who has started the pilot knows better than its file."""
        if isinstance(target, str):
            self.transport, self.address = "plain", target
        else:
            self.transport, self.address = best_address(target.request_addresses, target.host)

    def _begin(self) -> None:
        check_room_for_sockets(_DESCRIPTORS)
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._cuts: zmq.Socket[bytes] | None = None
        # A context that the garbage collector finds together with its sockets waits for them for ever. This is asked first,
        # and keeps them out of its hands.
        self._finalizer = weakref.finalize(self, _end, self._context, self._sockets)

    def after_fork(self) -> None:
        self._finalizer.detach()
        _left_to_the_parent.extend((self._context, self._sockets))
        self._begin()

    def another(self) -> Channel:
        """To the same manager."""
        other = Channel(self._target, self._timeout_s)
        other.why_gone, other._notices_cuts = self.why_gone, self._notices_cuts
        return other

    def notice_when_replaced(self) -> None:
        """Whoever waits for a reply learns that the manager has been killed here, or has a successor, or that the connection
        was cut: then the request is lost, or its reply.
        """
        with self._lock:
            self._notices_cuts = True
            if self._socket is not None:
                self._watch(self._socket)
        if isinstance(self._target, ConnectionFile):
            self.why_gone = partial(_why_replaced, self._target)

    @property
    def where(self) -> str:
        """What another process needs in order to connect: the connection file, never the keys; or a bare address.

        Raises ConnectionError when this one has been closed.
        """
        if self._closed:
            raise self._closed_error()
        return self._target if isinstance(self._target, str) else str(Path(self._target.aux_dir) / FILE_NAME)

    def _closed_error(self) -> ConnectionError:
        return ConnectionError("this connection was closed", where=self.address, remedy="make a new Manager")

    @property
    def timeout_s(self) -> float:
        """How long a request waits for its reply when nothing else is said."""
        return self._timeout_s

    def request(self, message: Mapping[str, Any], timeout_s: float | None = None) -> bytes:
        """Send one request and return the reply. The time limit is for all of it, other threads' turns included.

        Raises:
            NoAnswerError: no reply in time (the request may have been carried out all the same).
            ConnectionError: the pilot has ended, or the channel is closed.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        no_answer = NoAnswerError(
            f"no answer to {message.get('request')!r} in {limit_s:g} s",
            where=self.address,
            remedy="is the pilot still running?",
        )
        lock = self._lock
        if not lock.acquire(timeout=limit_s):
            raise no_answer
        try:
            socket = self._socket or self._connect()
            try:
                socket.send_multipart([b"", codec.dump(message)])
                if not self._answered(socket, deadline):
                    raise no_answer
                return socket.recv_multipart()[-1]
            except BaseException:
                # A late reply must not be taken for the answer to the next request.
                self._drop()
                raise
        finally:
            lock.release()

    def _answered(self, socket: zmq.Socket[bytes], deadline: float) -> bool:
        """Each look counts by its length: while we are stopped, mostly together with the manager, the limit stands still."""
        left_s = max(0.0, deadline - time.monotonic())
        asked = False
        while not socket.poll(math.ceil(1000 * min(_LOOK_S, left_s))):
            why = self.why_gone() or self._why_cut()
            if why:
                raise ConnectionError(why, where=self.address)
            if not asked and isinstance(self._target, str):
                asked = True
                if wants_keys(self.address):
                    raise ConnectionError(
                        "this endpoint wants keys",
                        where=self.address,
                        remedy="name the pilot's connection file, or a folder with it, instead of its address",
                    )
            left_s -= _LOOK_S
            if left_s <= 0.0:
                return False
        return True

    def _watch(self, socket: zmq.Socket[bytes]) -> None:
        self._cuts = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._sockets.append(self._cuts)

    def _why_cut(self) -> str:
        return "the connection was cut" if self._cuts is not None and self._cuts.poll(0) else ""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._socket = self._cuts = None
            self._finalizer()

    def subscriber(self, address: str) -> zmq.Socket[bytes]:
        """A SUB socket to an event address, with this channel's keys. Raises ConnectionError when the channel is closed."""
        if self._closed:
            raise self._closed_error()
        socket = self._context.socket(zmq.SUB)
        self._sockets.append(socket)
        transport, target = self.transport, address
        if isinstance(self._target, ConnectionFile):
            transport, target = best_address(self._target.event_addresses, self._target.host)
            unlock_client(socket, self._target, transport)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.connect(target)
        return socket

    def _connect(self) -> zmq.Socket[bytes]:
        if self._closed:
            raise self._closed_error()
        _check_host(self.address)
        socket = self._context.socket(zmq.DEALER)
        self._sockets.append(socket)
        if isinstance(self._target, ConnectionFile):
            unlock_client(socket, self._target, self.transport)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            self._sockets.remove(socket)
            socket.close()
            raise ConnectionError(f"not an address: {error.strerror}", where=self.address) from error
        self._socket = socket
        if self._notices_cuts:
            self._watch(socket)
        return socket

    def _drop(self) -> None:
        if self._cuts is not None and self._socket is not None:
            self._sockets.remove(self._cuts)
            self._socket.disable_monitor()
            self._cuts.close()
            self._cuts = None
        if self._socket is not None:
            self._sockets.remove(self._socket)
            self._socket.close()
            self._socket = None


def _why_replaced(info: ConnectionFile) -> str:
    """Empty as long as the manager of this connection file may be there."""
    with suppress(PilotfishError, OSError, ValueError):
        now = read(Path(info.aux_dir) / FILE_NAME)
        if now.ended:
            return "the pilot has ended"
        if (now.pid, now.started_s) != (info.pid, info.started_s):
            return "the pilot has another manager now"
    if info.host == network.gethostname():
        try:
            os.kill(info.pid, 0)
        except ProcessLookupError:
            return "the manager of the pilot is gone"
        except PermissionError:
            pass
    return ""


def _check_host(address: str) -> None:
    """ZeroMQ goes on trying a name that nobody knows, without a word."""
    transport, _, rest = address.partition("://")
    host = rest.rpartition(":")[0].rpartition(";")[2].strip("[]")
    reason = why_unknown(host) if transport == "tcp" and host else ""
    if reason:
        raise ConnectionError(
            f"the host name {host!r} cannot be looked up here: {reason}",
            where=address,
            remedy="start the pilot with --net-interface and a number that can be reached from here",
        )


def _end(context: zmq.Context[zmq.Socket[bytes]], sockets: list[zmq.Socket[bytes]]) -> None:
    for socket in sockets:
        socket.close()
    context.term()
