"""The clients' endpoints: one request in, one reply out, for REQ and pipelining DEALER clients alike.

Requests are worked off in slices (model/steps.py), those of different clients in turn: a turn of the loop spends at most
`_TURN_S` on all of them and `_SLICE_S` on one before the next has its share. What a client asks while its last request is
worked on waits, so that the replies to one client keep the order of its requests; nothing but that order tells which reply
belongs to which. Nearly all requests are done in their first slice, as they are read.

Replies leave at the end of the turn, when what they tell of is in the journal, the events and the report. Those that promise
durability, and all that follow to the same client, wait until a sync that began after that has ended.

What a client can cost is bounded. Of its requests `_MOST_WAITING` wait, or those that are not larger together than one may be;
what it sends beyond is refused, and when it goes on with that it is not even told. Replies that it does not read count until
libzmq has passed them on: above `_MOST_UNREAD_BYTES` no other request of it is begun. (libzmq bounds their number, and drops
what is too much.) A message is refused by its whole size; libzmq's own limit is one of each frame.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import zmq

from ..loop import Loop
from ..model.errors import InternalError, InvalidRequestError, PilotfishError, RefusedError
from ..model.steps import Pause, Steps
from ..wire import reply_bytes

log = logging.getLogger(__name__)

_MOST_PER_TURN = 1000
"""Requests read from one endpoint in one turn, so that a flood of them cannot keep results and events waiting."""
_TURN_S, _SLICE_S = 0.008, 0.004
_MOST_WAITING = 1000
_MOST_REFUSED = 1000
_MOST_UNREAD_BYTES = 64 << 20
_TRACKED_BYTES = 64 << 10
"""Smaller replies are not worth watching: libzmq keeps at most 1,000 of them for a client."""
_LOOK_S = 0.05
"""How often it is looked whether a client has read."""
_FRAMES = 3
"""Identity, an empty frame (of REQ), request."""


class Reply(NamedTuple):
    body: reply_bytes.Body
    durable: bool = False
    """The reply tells of something that must be on disk before it is sent."""


class Asked:
    """One request on its way to its reply."""

    __slots__ = ("body", "envelope", "number", "refusal")

    def __init__(self, envelope: list[bytes], body: bytes, refusal: PilotfishError | None = None) -> None:
        self.envelope = envelope
        self.body = body
        self.refusal = refusal
        """Why it is not worked on; then `body` is only as much of it as tells its `id`."""
        self.number: list[object] = []
        """The `id` of a large request, once it has been read."""

    def note_id(self, number: object) -> None:
        self.number = [number]

    def reply(self, body: reply_bytes.Body) -> list[reply_bytes.Body]:
        with_id = (
            reply_bytes.with_id_value(body, self.number[0]) if self.number else reply_bytes.with_id(body, self.body)
        )
        return [*self.envelope, with_id]


class _Held(NamedTuple):
    """A reply that waits, and for which sync; None: for the turn to be written."""

    sync: int | None
    message: list[reply_bytes.Body]


class _Client:
    """A client of which something waits, is worked on, or was not read."""

    __slots__ = ("asked", "held", "identity", "refused", "socket", "unread", "waiting", "waiting_bytes", "work")

    def __init__(self, socket: zmq.Socket[bytes], identity: bytes) -> None:
        self.socket = socket
        self.identity = identity
        self.asked: Asked | None = None
        self.work: Steps[Reply] | None = None
        self.waiting: deque[Asked] = deque()
        self.waiting_bytes = 0
        self.refused = 0
        self.held: deque[_Held] = deque()
        self.unread: deque[tuple[zmq.MessageTracker, int]] = deque()

    @property
    def unread_bytes(self) -> int:
        """Of large replies, what libzmq still has."""
        while self.unread and self.unread[0][0].done:
            self.unread.popleft()
        return sum(size for _, size in self.unread)

    @property
    def is_idle(self) -> bool:
        return not (self.work or self.waiting or self.held or self.unread)


class RequestServer:
    """Serves the clients of `sockets`.

    Args:
        answer: works on a request; may raise PilotfishError.
        most_bytes: the largest message.
        next_sync: tells the number of the next sync of the journal that will begin.
    """

    def __init__(
        self,
        sockets: list[zmq.Socket[bytes]],
        loop: Loop,
        answer: Callable[[Asked], Steps[Reply]],
        most_bytes: int,
        next_sync: Callable[[], int],
    ) -> None:
        self._sockets = sockets
        self._loop = loop
        self._answer = answer
        self._most_bytes = most_bytes
        self._next_sync = next_sync
        self._clients: dict[tuple[zmq.Socket[bytes], bytes], _Client] = {}
        self._busy: deque[_Client] = deque()
        """Those with something to do, in the order of their turn."""
        self._ready: list[tuple[_Client, list[reply_bytes.Body]]] = []
        self._idle: dict[_Client, None] = {}
        """Those whose request waits for something that may take long."""
        self._is_called = False
        self._looks = False

    def start(self) -> None:
        for socket in self._sockets:
            self._loop.on_readable(socket, partial(self._read, socket))

    # --- in -------------------------------------------------------------------------------------------------------------

    def _read(self, socket: zmq.Socket[bytes]) -> None:
        until = self._loop.clock() + _TURN_S
        with suppress(zmq.Again):
            for _ in range(_MOST_PER_TURN):
                self._take(socket, until)
                if self._loop.clock() >= until:
                    break

    def _take(self, socket: zmq.Socket[bytes], until: float) -> None:
        identity, *parts = self._receive(socket)
        client = self._clients.get((socket, identity)) or _Client(socket, identity)
        asked = _asked(parts, self._most_bytes)
        if client.work is not None or client.waiting:
            self._let_wait(client, asked)
            return
        if asked.refusal is None and client.unread_bytes > _MOST_UNREAD_BYTES:
            self._let_wait(client, asked)
            self._look_later()
            return
        client.asked, client.work = asked, self._answer(asked)
        if not self._advance(client, until):
            self._clients[socket, identity] = client
            if client not in self._idle:
                self._enter(client)

    def _receive(self, socket: zmq.Socket[bytes]) -> list[bytes]:
        """All frames of a message, but of one with too many only the first."""
        parts = [socket.recv(zmq.NOBLOCK)]
        while len(parts) < _FRAMES and socket.getsockopt(zmq.RCVMORE):
            parts.append(socket.recv(zmq.NOBLOCK))
        if socket.getsockopt(zmq.RCVMORE):
            size = 0
            while socket.getsockopt(zmq.RCVMORE):
                size += len(socket.recv(zmq.NOBLOCK, copy=False))
                parts[_FRAMES - 1 :] = [b"", b""]
            if size > _TRACKED_BYTES:
                _return_memory()
        return parts

    def _let_wait(self, client: _Client, asked: Asked) -> None:
        self._clients[client.socket, client.identity] = client
        too_many = len(client.waiting) >= _MOST_WAITING
        if asked.refusal is None and (too_many or client.waiting_bytes + len(asked.body) > self._most_bytes):
            client.refused += 1
            if client.refused > _MOST_REFUSED:
                if client.refused == _MOST_REFUSED + 1:
                    log.warning("client.ignored", extra={"waiting": len(client.waiting)})
                return
            asked = _refused(asked, _too_much(len(client.waiting), client.waiting_bytes))
        client.waiting.append(asked)
        client.waiting_bytes += len(asked.body)

    # --- work -----------------------------------------------------------------------------------------------------------

    def _enter(self, client: _Client) -> None:
        self._busy.append(client)
        self._call()

    def _call(self) -> None:
        if self._busy and not self._is_called:
            self._is_called = True
            self._loop.call_after(0, self._work)

    def _work(self) -> None:
        """Give each client that waits its slice, as long as the turn has time."""
        self._is_called = False
        until = self._loop.clock() + _TURN_S
        for _ in range(len(self._busy)):
            client = self._busy.popleft()
            if not self._serve(client, min(until, self._loop.clock() + _SLICE_S)) and client not in self._idle:
                self._busy.append(client)
            if self._loop.clock() >= until:
                break
        self._call()

    def call_idle(self) -> None:
        """Look again at requests that wait for something that may take long."""
        idle, self._idle = self._idle, {}
        until = self._loop.clock() + _TURN_S
        for client in idle:
            if not self._serve(client, until) and client not in self._idle:
                self._enter(client)

    def _serve(self, client: _Client, until: float) -> bool:
        """Work on the requests of one client; whether there is nothing more to do for it now."""
        while True:
            if client.work is not None and not self._advance(client, until):
                return False
            if not client.waiting:
                client.refused = 0
                self._forget_idle(client)
                return True
            if client.unread_bytes > _MOST_UNREAD_BYTES and client.waiting[0].refusal is None:
                self._look_later()
                return True
            asked = client.waiting.popleft()
            client.waiting_bytes -= len(asked.body)
            client.asked, client.work = asked, self._answer(asked)

    def _advance(self, client: _Client, until: float) -> bool:
        """Go on with the request of this client until it is done (then True), the time is over, or it waits for others."""
        asked, work = client.asked, client.work
        assert asked is not None
        assert work is not None
        try:
            if asked.refusal is not None:
                raise asked.refusal
            while True:
                pause = next(work)
                if pause is Pause.IDLE:
                    self._idle[client] = None
                if pause is not Pause.MORE or self._loop.clock() >= until:
                    return False
        except StopIteration as end:
            reply: Reply = end.value
        except PilotfishError as error:
            reply = Reply(reply_bytes.error_reply(error))
        except Exception as error:
            # The one place between a client and the core: a bug must cost this request, not the pilot.
            log.exception("request.failed", extra={"request": asked.body[:200]})
            bug = InternalError(
                f"Failed to process request: {type(error).__name__}: {error}", remedy="please report this"
            )
            reply = Reply(reply_bytes.error_reply(bug))
        client.asked = client.work = None
        message = [client.identity, *asked.reply(reply.body)]
        if reply.durable or client.held:
            self._clients[client.socket, client.identity] = client
            client.held.append(_Held(None, message))
        else:
            self._ready.append((client, message))
        return True

    # --- out ------------------------------------------------------------------------------------------------------------

    @property
    def holds_replies(self) -> bool:
        """Whether replies wait for the journal."""
        return any(client.held for client in self._clients.values())

    def written(self) -> None:
        """The turn is in the journal file: the replies that were made in it wait for the next sync."""
        sync = self._next_sync()
        for client in self._clients.values():
            if client.held and client.held[-1].sync is None:
                client.held = deque(
                    held if held.sync is not None else _Held(sync, held.message) for held in client.held
                )

    def release(self, sync: int) -> None:
        """The journal is on disk as it was when sync number `sync` began: the replies that waited for it leave with `send`."""
        for client in self._clients.values():
            while client.held and client.held[0].sync is not None and client.held[0].sync <= sync:
                self._ready.append((client, client.held.popleft().message))

    def send(self) -> None:
        """The turn is over: send the replies that do not wait for the disk."""
        ready, self._ready = self._ready, []
        for client, message in ready:
            size = len(message[-1])
            with suppress(zmq.ZMQError):
                if size < _TRACKED_BYTES:
                    client.socket.send_multipart(message, zmq.NOBLOCK)
                else:
                    tracker = client.socket.send_multipart(message, zmq.NOBLOCK, copy=False, track=True)
                    assert tracker is not None
                    # It may have asked again since, and be known by now.
                    self._clients.setdefault((client.socket, client.identity), client).unread.append((tracker, size))
                    self._look_later()
            self._forget_idle(client)

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            self._loop.call_after(_LOOK_S, self._look)

    def _look(self) -> None:
        """Go on with those that have read meanwhile."""
        self._looks = False
        for client in list(self._clients.values()):
            if client.unread_bytes > _MOST_UNREAD_BYTES:
                self._look_later()
            elif client.waiting and client.work is None and client not in self._busy:
                self._enter(client)
            elif client.unread:
                self._look_later()
            self._forget_idle(client)

    def _forget_idle(self, client: _Client) -> None:
        key = client.socket, client.identity
        if client.is_idle and self._clients.get(key) is client:
            del self._clients[key]


def _asked(parts: list[bytes], most_bytes: int) -> Asked:
    """REQ (and DEALER in its manner) puts an empty frame before the request; a bare DEALER does not."""
    envelope = [b""] if parts and not parts[0] else []
    if not 1 <= len(parts) - len(envelope) <= 1:
        return Asked(envelope, b"", InvalidRequestError("Invalid request: a request is one frame"))
    asked = Asked(envelope, parts[-1])
    return asked if len(asked.body) <= most_bytes else _refused(asked, _too_large(len(asked.body), most_bytes))


def _refused(asked: Asked, error: PilotfishError) -> Asked:
    """The request itself is let go."""
    return Asked(asked.envelope, asked.body if len(asked.body) < _TRACKED_BYTES else b"", error)


def _too_large(size: int, most: int) -> RefusedError:
    return RefusedError(f"the request has {size} bytes; at most {most} are taken", remedy="send it in parts")


def _too_much(count: int, size: int) -> RefusedError:
    return RefusedError(
        f"{count} requests of {size} bytes wait for their replies; this one is not taken",
        remedy="read the replies, then send it again",
    )


def _return_memory() -> None:
    """Give what libzmq has freed back to the system: its threads would keep it for the next message of that size."""
    with suppress(AttributeError, OSError):  # not of every C library
        ctypes.CDLL(None).malloc_trim(0)
