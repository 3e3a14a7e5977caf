"""What agents have sent: read a turn's share at a time.

A turn reads only as much as it can work off in some tens of milliseconds; the rest stays in the sockets until the next turn. A
frame may tell more than a turn has time for, as a node with many cores ends thousands of tasks in 50 ms, and an agent keeps all
ends while there is no manager. So it is worked off in shares, too, and nothing else is read from its socket before its end.

While frames wait there, it is not known who has spoken: `waits_unread` tells whoever would draw a conclusion from silence, or
from the end of a process whose last words may be among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import zmq

from ..wire import frames

_T = TypeVar("_T")

MOST_PER_TURN = 1500
"""Things told (an end, a start, a message) after which one socket is left until the next turn: each costs the turn up to
10 us in all, and there are two sockets.
"""
_OF_A_LEAVING = 50
"""What follows from an agent's goodbye is as much work as so many ends, besides what it had."""
_SHARE = 500
"""Things in one share of a report."""
LONGEST_ROUND_S = 30.0
"""In this time each agent has its turn to be read, however much others send: a socket takes from its peers by turns."""


class Inbox:
    """The sockets of the agents.

    Args:
        take: takes in one frame (socket, identity, frame) in shares, and yields how many things each has told.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[bytes]],
        take: Callable[[zmq.Socket[bytes], bytes, bytes], Iterator[int]],
        clock: Callable[[], float],
    ) -> None:
        self._sockets = sockets
        self._take = take
        self._clock = clock
        self._begun: dict[zmq.Socket[bytes], Iterator[int]] = {}
        """The frame of a socket that is being taken in."""
        self._unread: dict[zmq.Socket[bytes], float] = {}
        """Sockets in which frames, or a part of one, were left for the next turn, and since when that has been so."""
        self._left: dict[zmq.Socket[bytes], int] = {}
        """What is left of this turn's share, for those that have been read."""

    def read(self, socket: zmq.Socket[bytes]) -> None:
        """Take in the waiting frames of a socket, as many as a turn has time for, however often it is called in it."""
        left = self._go_on(socket, self._left.get(socket, MOST_PER_TURN))
        with suppress(zmq.Again):
            while left > 0:
                identity, *parts = socket.recv_multipart(zmq.NOBLOCK)
                self._begun[socket] = self._take(socket, identity, parts[-1] if parts else b"")
                left = self._go_on(socket, left - 1)
        self._left[socket] = left
        if socket in self._begun or (left <= 0 and socket.poll(0)):
            self._unread.setdefault(socket, self._clock())
        else:
            self._unread.pop(socket, None)

    def _go_on(self, socket: zmq.Socket[bytes], left: int) -> int:
        """Take in what has been begun, as much as there is time for; returns how much of that is left."""
        begun = self._begun.get(socket)
        if begun is not None:
            for told in begun:
                left -= told
                if left <= 0:
                    return left
            del self._begun[socket]
        return left

    def end_of_turn(self) -> None:
        """The next turn has a share of its own."""
        self._left.clear()

    @property
    def begun(self) -> list[zmq.Socket[bytes]]:
        """Those of which a frame has been taken in partly: they have to be read though nothing may come."""
        return list(self._begun)

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


def shares_of(report: frames.Report) -> list[frames.Report]:
    """A report in shares that are worked off in a moment, in its order: what has started, ended, come back, been returned."""
    if things_in(report) <= _SHARE:
        return [report]
    seq, shares = report.seq, []
    shares += [frames.Report(seq, [], [], [], [], [], [some]) for some in report.values]
    shares += [frames.Report(seq, some, [], [], []) for some in _stretches(report.started)]
    columns = [frames.Report(seq, [], [], [], [], [some]) for ends in report.succeeded for some in _parts(ends)]
    shares += [share for share in columns if not share.succeeded[0].returns_grants]
    shares += [frames.Report(seq, [], some, [], []) for some in _stretches(report.finished)]
    shares += [share for share in columns if share.succeeded[0].returns_grants]
    shares += [frames.Report(seq, [], [], some, []) for some in _stretches(report.revoked)]
    shares += [frames.Report(seq, [], [], [], some) for some in _stretches(report.returned)]
    return shares


def _parts(ends: frames.Succeeded) -> Iterator[frames.Succeeded]:
    """Columns that do not belong together still do not, somewhere."""
    columns: list[Any] = list(ends[3:])
    for start in range(0, max(map(len, columns)), _SHARE):
        share = (column[start : start + _SHARE] for column in columns)
        yield frames.Succeeded(ends.job_no, ends.run, ends.returns_grants, *share)


def _stretches(things: list[_T]) -> Iterator[list[_T]]:
    return (things[start : start + _SHARE] for start in range(0, len(things), _SHARE))


def things_in(message: frames.ToManager) -> int:
    """How much work this message is besides being one."""
    if isinstance(message, frames.Report):
        ends = len(message.finished) + sum(len(ends.pos) for ends in message.succeeded)
        return len(message.started) + ends + len(message.revoked) + len(message.returned)
    if isinstance(message, frames.Hello):
        return len(message.running) + len(message.grants) + sum(map(len, message.waiting.values()))
    return _OF_A_LEAVING if isinstance(message, frames.Bye | frames.Gone) else 0
