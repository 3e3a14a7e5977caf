"""The clients' endpoints: one request in, one reply out, for REQ and pipelining DEALER clients alike.

Replies leave at the end of the turn, when what they tell of is in the journal, the events and the report; those that promise
durability wait until the journal is on disk. The replies to one client keep the order of its requests, because nothing else
tells which reply belongs to which request: what a client asks while a reply to it waits for the disk waits too, and only
that. A client that does not read its replies loses them once its queue is full; nobody waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import zmq

from ..model.errors import InternalError, InvalidRequestError, PilotfishError
from ..wire import replies

log = logging.getLogger(__name__)

MOST_PER_TURN = 1000
"""Requests read from one endpoint in one turn, so that a flood of them cannot keep results and events waiting."""


class Reply(NamedTuple):
    body: bytes
    durable: bool = False
    """The reply tells of something that must be on disk before it is sent."""


class RequestServer:
    """`answer` turns the bytes of a request into a Reply; it may raise PilotfishError."""

    def __init__(self, sockets: list[zmq.Socket[bytes]], answer: Callable[[bytes], Reply]) -> None:
        self._sockets = sockets
        self._answer = answer
        self._ready: list[tuple[zmq.Socket[bytes], list[bytes]]] = []
        self._held: dict[tuple[zmq.Socket[bytes], bytes], list[list[bytes]]] = {}
        """By client, the first of its replies that waits for the disk and all that follow."""

    def read(self) -> None:
        """Make the answers to what has come in."""
        for socket in self._sockets:
            with suppress(zmq.Again):
                for _ in range(MOST_PER_TURN):
                    self._serve(socket, socket.recv_multipart(zmq.NOBLOCK))

    def send(self) -> None:
        """The turn is over: send the replies that do not wait for the disk."""
        ready, self._ready = self._ready, []
        for socket, message in ready:
            with suppress(zmq.ZMQError):
                socket.send_multipart(message, zmq.NOBLOCK)

    @property
    def holds_replies(self) -> bool:
        """Whether replies wait for the journal."""
        return bool(self._held)

    def release(self) -> None:
        """The journal is on disk, with all that was answered: the replies that waited for it leave with `send`."""
        held, self._held = self._held, {}
        for (socket, _), messages in held.items():
            self._ready += [(socket, message) for message in messages]

    def _serve(self, socket: zmq.Socket[bytes], message: list[bytes]) -> None:
        identity, *parts = message
        envelope, body = self._split(parts)
        reply = self._reply(body)
        answer = [identity, *envelope, replies.with_id(reply.body, body or b"")]
        client = (socket, identity)
        if reply.durable or client in self._held:
            self._held.setdefault(client, []).append(answer)
        else:
            self._ready.append((socket, answer))

    @staticmethod
    def _split(parts: list[bytes]) -> tuple[list[bytes], bytes | None]:
        """REQ (and DEALER in its manner) puts an empty frame before the request; a bare DEALER does not."""
        if len(parts) == 2 and not parts[0]:
            return [b""], parts[1]
        if len(parts) == 1:
            return [], parts[0]
        return ([b""] if parts and not parts[0] else []), None

    def _reply(self, body: bytes | None) -> Reply:
        try:
            if body is None:
                raise InvalidRequestError("Invalid request: a request is one frame")
            return self._answer(body)
        except PilotfishError as error:
            return Reply(replies.error_reply(error))
        except Exception as error:
            # The one place between a client and the core: a bug must cost this request, not the pilot.
            log.exception("request.failed", extra={"request": (body or b"")[:200]})
            bug = InternalError(
                f"Failed to process request: {type(error).__name__}: {error}", remedy="please report this"
            )
            return Reply(replies.error_reply(bug))
