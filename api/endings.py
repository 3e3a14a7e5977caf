"""Endings of jobs and tasks, each reported once, from the ring of past events that a pilot keeps for its clients.

Nothing is subscribed to between calls, so a program that never asks costs the pilot nothing. What another call has returned
already is marked here and left out when the ring is read; a mark is good until the ring has been read to its end, because the
ending that it means had happened when it was made. (Numbers of events would be simpler, but the old events, by which other
calls learn of endings, have none.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ..pilot.wire.events import IDLE, Event
from ..pilot.wire.replies import FINAL, EventList

Ask = Callable[[int], EventList]
"""Gives the events after a number."""

_MOST_MARKS = 65_536
"""As many events as the ring has: of more endings than that it does not have all."""


class Endings:
    """
    Args:
        seq: number of the last event that is not of interest.
    """

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._waiting: deque[Event] = deque()
        self._returned: dict[str, None] = {}
        self._idle_at: int | None = None
        """Nothing up to the first IDLE from this event on is of interest."""

    def next(self, ask: Ask) -> tuple[str, str] | None:
        """(name, state) of the oldest ending not reported yet, None when there is none now; what the ring lost is skipped."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                if not self._is_returned(event):
                    return event.name, event.state
            if not self._read(ask):
                return None

    def returned(self, names: Iterable[str]) -> None:
        """Another call has returned the ends of these jobs (with all their tasks) or tasks."""
        self._returned.update(dict.fromkeys(names))
        while len(self._returned) > _MOST_MARKS:
            del self._returned[next(iter(self._returned))]

    def all_returned(self, seq: int) -> None:
        """Another call has seen that all jobs have ended, in a reply that gave `seq` as number of the last event.

        That reply may have been made in the turn in which the last jobs ended, before their events had numbers. So `seq` is
        either an IDLE event, or one follows that still belongs to it.
        """
        self._waiting.clear()
        self._returned.clear()
        self._seq, self._idle_at = seq - 1, seq

    def before_submit(self, names: Iterable[str], ask: Ask) -> None:
        """Names that were returned are about to be used again: their marks must not meet the new jobs."""
        if self._returned and not self._returned.keys().isdisjoint(names):
            waiting = deque(event for event in self._waiting if not self._is_returned(event))
            self._waiting.clear()
            while self._read(ask, keep_marks=True):
                waiting.extend(event for event in self._waiting if not self._is_returned(event))
                self._waiting.clear()
            self._waiting = waiting
            self._returned.clear()

    def _read(self, ask: Ask, *, keep_marks: bool = False) -> bool:
        """One page of the ring; False at its end."""
        page = ask(self._seq)
        if not page.events:
            self._seq = page.last
            if not keep_marks:
                self._returned.clear()
            return False
        self._seq = page.events[-1].seq
        self._waiting.extend(event for event in self._of_interest(page.events) if event.state in FINAL)
        return True

    def _of_interest(self, events: Sequence[Event]) -> Sequence[Event]:
        idle_at, self._idle_at = self._idle_at, None
        if events[0].seq != idle_at:  # nothing to leave out, or the ring has lost it
            return events
        for place, event in enumerate(events):
            if event.state == IDLE:
                return events[place + 1 :]
        self._idle_at = events[-1].seq + 1
        return ()

    def _is_returned(self, event: Event) -> bool:
        """A job's own ending comes after those of its tasks: then its mark has done its work."""
        if event.job in self._returned:
            if event.it is None:
                del self._returned[event.job]
            return True
        return event.it is not None and self._returned.pop(event.name, 0) is None
