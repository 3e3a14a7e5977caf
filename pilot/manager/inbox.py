"""What agents have sent: read a turn's share at a time.

A turn reads only as much as it can work off in some tens of milliseconds; the rest stays in the sockets until the next turn.
While frames wait there, it is not known who has spoken: `waits_unread` tells whoever would draw a conclusion from silence, or
from the end of a process whose last words may be among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import zmq

from ..wire import frames

MOST_PER_TURN = 1500
"""Things told (an end, a start, a message) after which one socket is left until the next turn: each costs the turn up to
10 us in all, and there are two sockets. What one frame tells is taken in whole; agents send one at least every 50 ms.
"""
LONGEST_ROUND_S = 30.0
"""In this time each agent has its turn to be read, however much others send: a socket takes from its peers by turns."""


class Inbox:
    """The sockets of the agents.

    Args:
        take: takes in one frame (socket, identity, frame), and returns how many things it told.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[bytes]],
        take: Callable[[zmq.Socket[bytes], bytes, bytes], int],
        clock: Callable[[], float],
    ) -> None:
        self._sockets = sockets
        self._take = take
        self._clock = clock
        self._unread: dict[zmq.Socket[bytes], float] = {}
        """Sockets in which frames were left for the next turn, and since when that has been so."""

    def read(self, socket: zmq.Socket[bytes]) -> None:
        """Take in the waiting frames of a socket, as many as a turn has time for."""
        left = MOST_PER_TURN
        with suppress(zmq.Again):
            while left > 0:
                identity, *parts = socket.recv_multipart(zmq.NOBLOCK)
                left -= self._take(socket, identity, parts[-1] if parts else b"")
        if left <= 0 and socket.poll(0):
            self._unread.setdefault(socket, self._clock())
        else:
            self._unread.pop(socket, None)

    @property
    def waits_unread(self) -> bool:
        """Whether frames wait that may be from anybody: then an agent's silence, or its end, tells nothing yet."""
        if not self._unread:
            return False
        now = self._clock()
        return any(now - since_s < LONGEST_ROUND_S for since_s in self._unread.values())

    def all_read(self) -> bool:
        """Take in what has just come; whether nothing is left to be read."""
        for socket in self._sockets:
            if not self.waits_unread:  # else this turn has had its share
                self.read(socket)
        return not self.waits_unread


def things_told(messages: Iterable[frames.ToManager]) -> int:
    """How much work these messages are, at least one."""
    told = 1
    for message in messages:
        if isinstance(message, frames.Report):
            told += len(message.started) + len(message.finished) + len(message.revoked) + len(message.returned)
            told += sum(len(ends.pos) for ends in message.succeeded)
        elif isinstance(message, frames.Hello):
            told += len(message.running) + len(message.grants) + sum(map(len, message.waiting.values()))
    return told
