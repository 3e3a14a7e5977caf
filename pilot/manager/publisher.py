"""Events out. Nobody waits for a subscriber: a slow one loses messages, sees the gap in `seq` and asks `since`.

The sockets are XPUB, which show the subscriptions, so an event that nobody wants is one tuple in a ring and is never
encoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import zmq

from ..model.decisions import Change, Changes, Lent, Succeeded, each_change
from ..model.states import State
from ..wire import events
from ..wire.events import Event

RING_EVENTS = 65_536
_OF_TASKS = (events.TASK_STATE, events.TASK_FINISHED, events.EVENT)


class Idle(NamedTuple):
    """Nothing is queued and nothing runs any more."""

    time_s: float


class CatchUp(NamedTuple):
    """Events after the asked number, oldest first. `missed`: the ring no longer (or never) had all of them."""

    events: list[Event]
    last: int
    missed: bool


class Publisher:
    """Register each socket with the loop and call `read_subscriptions` when one is readable.

    Args:
        sockets: bound XPUB sockets; they stay the caller's.
        manager: name of this manager in every event.
        last_seq: the number before the first event's. A resumed manager gives one above everything an earlier life can
            have used (such as `int(epoch seconds) << 20`, which JSON numbers still hold), so that a client that waited
            through the restart is told that it missed something.
    """

    def __init__(self, sockets: Sequence[zmq.Socket[bytes]], manager: str, last_seq: int = 0) -> None:
        self.last_seq = last_seq
        self._sockets = sockets
        self._manager = manager
        # As they came, because there are many and few are ever read.
        self._ring: deque[Changes | Idle] = deque()
        self._kept = 0
        """How many events the ring has: all, or RING_EVENTS and what else its oldest entry has."""
        # Only counted, so that a stranger cannot make us remember a million subscriptions.
        self._subscribers = {topic: [0] * len(sockets) for topic in events.TOPICS}
        self._wanted: dict[bytes, tuple[zmq.Socket[bytes], ...]] = {}
        self._wants_tasks = False

    def read_subscriptions(self) -> None:
        """Take note of all waiting subscriptions and their ends; never blocks."""
        for place, socket in enumerate(self._sockets):
            with suppress(zmq.Again):
                while True:
                    self._note(place, socket.recv(zmq.NOBLOCK))
        self._wanted = {
            topic: tuple(socket for socket, count in zip(self._sockets, counts, strict=True) if count)
            for topic, counts in self._subscribers.items()
            if any(counts)
        }
        self._wants_tasks = any(topic in self._wanted for topic in _OF_TASKS)

    def _note(self, place: int, message: bytes) -> None:
        change = {b"\x01": 1, b"\x00": -1}.get(message[:1])
        if change is None:  # subscribers have nothing else to say
            return
        prefix = message[1:]
        for topic, counts in self._subscribers.items():
            if topic.startswith(prefix) or prefix.startswith(topic):
                counts[place] = max(0, counts[place] + change)

    def changed(self, changes: Sequence[Changes]) -> None:
        """Jobs and tasks have new states."""
        first = self.last_seq + 1
        self._keep(changes)
        if self._wanted:
            for seq, change in enumerate(each_change(changes), first):
                if change.pos is None or self._wants_tasks:
                    self._send_state(change)
                    self._send_event(seq, change)

    def _keep(self, entries: Sequence[Changes | Idle]) -> None:
        ring, count = self._ring, sum(map(_count, entries))
        ring.extend(entries)
        self.last_seq += count
        self._kept += count
        while ring and self._kept - _count(ring[0]) >= RING_EVENTS:
            self._kept -= _count(ring.popleft())

    def all_done(self, time_s: float) -> None:
        """Nothing is queued and nothing runs any more."""
        idle = Idle(time_s)
        self._keep([idle])
        if events.NO_JOBS in self._wanted:
            self._send(events.NO_JOBS, events.encode_no_jobs(self._manager))
        self._send_event(self.last_seq, idle)

    def since(self, after: int, most: int = RING_EVENTS) -> CatchUp:
        """What happened after event number `after`, at most so much; all the ring has when that is not known any more."""
        before_ring = self.last_seq - self._kept
        missed = not before_ring <= after <= self.last_seq
        begin = before_ring if missed else after
        newest = islice(self._entries_after(begin - before_ring), most)
        return CatchUp([self._event(begin + n, entry) for n, entry in enumerate(newest, 1)], self.last_seq, missed)

    def _entries_after(self, skip: int) -> Iterator[Change | Idle]:
        """What is in the ring, one by one, without its first `skip` events."""
        for entry in self._ring:
            count = _count(entry)
            if skip >= count:
                skip -= count
            elif isinstance(entry, Lent | Succeeded):
                yield from islice(entry, skip, None)
                skip = 0
            else:
                yield entry

    def _event(self, seq: int, entry: Change | Idle) -> Event:
        if isinstance(entry, Idle):
            return Event(seq, entry.time_s, self._manager, events.IDLE)
        spec, name = entry.job.spec, entry.state.name
        it = None if entry.pos is None else spec.index_of(entry.pos)
        return Event(seq, entry.time_s, self._manager, name, spec.name, it, entry.exit_code, entry.message)

    def _send_event(self, seq: int, entry: Change | Idle) -> None:
        if events.EVENT in self._wanted:
            self._send(events.EVENT, events.encode_event(self._event(seq, entry)))

    def _send_state(self, change: Change) -> None:
        state, spec = change.state, change.job.spec
        if state == State.QUEUED:  # the old system is silent about it
            return
        it = None if change.pos is None else spec.index_of(change.pos)
        changed, ended = (
            (events.JOB_STATE, events.JOB_FINISHED) if it is None else (events.TASK_STATE, events.TASK_FINISHED)
        )
        for topic in (changed, ended) if state.final else (changed,):
            if topic in self._wanted:
                self._send(topic, events.encode_state(topic, self._manager, spec.name, it, state))

    def _send(self, topic: bytes, frame: bytes) -> None:
        for socket in self._wanted[topic]:
            with suppress(zmq.Again):
                socket.send(frame, zmq.NOBLOCK)


def _count(entry: Changes | Idle) -> int:
    """How many events it is."""
    return entry.count if isinstance(entry, Lent | Succeeded) else 1
