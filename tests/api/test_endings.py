"""Which endings `Endings` reports, against a ring of events that the test fills by hand."""

from __future__ import annotations

from pilotfish.api.endings import Endings
from pilotfish.pilot.wire.events import IDLE, Event
from pilotfish.pilot.wire.replies import EventList


class Ring:
    """`ask` gives pages of two events, as a pilot gives pages of ten thousand."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.kept = 1_000_000

    def add(self, *names: str, state: str = "SUCCEED") -> None:
        for name in names:
            job, _, it = name.partition(":")
            self.events.append(Event(len(self.events) + 1, 0.0, "m", state, job, int(it) if it else None))

    def idle(self) -> None:
        self.events.append(Event(len(self.events) + 1, 0.0, "m", IDLE))

    def ask(self, after: int) -> EventList:
        newer = [event for event in self.events[-self.kept :] if event.seq > after]
        return EventList(newer[:2], len(self.events), missed=False)

    def rest(self, endings: Endings) -> list[str]:
        """All that is still to be reported."""
        names = []
        while (ending := endings.next(self.ask)) is not None:
            names.append(ending[0])
        return names


def test_each_ending_is_reported_once() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a", state="EXECUTING")
    ring.add("a", "i:0", "i:1", "i")
    assert ring.rest(endings) == ["a", "i:0", "i:1", "i"]
    assert ring.rest(endings) == []


def test_what_another_call_has_returned_is_left_out() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a", "b", "c", "d")
    endings.returned(["b", "d"])
    assert ring.rest(endings) == ["a", "c"]


def test_what_waits_to_be_reported_may_be_returned_by_another_call() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a", "b", "c")
    assert endings.next(ring.ask) == ("a", "SUCCEED")
    endings.returned(["b"])
    assert ring.rest(endings) == ["c"]


def test_a_returned_job_takes_its_iterations_along() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("i:0", "j:0", "i:1", "i", "j:1", "j")
    endings.returned(["i", "j:1"])
    assert ring.rest(endings) == ["j:0", "j"]


def test_a_name_that_is_used_again_is_reported_again() -> None:
    """Whether its first ending was still to be read, or had been read before it was returned."""
    ring, endings = Ring(), Endings(0)
    ring.add("a", "b")
    assert endings.next(ring.ask) == ("a", "SUCCEED")
    endings.returned(["a", "b"])
    endings.before_submit(["a", "b"], ring.ask)
    ring.add("a", "b", state="FAILED")
    assert [endings.next(ring.ask), endings.next(ring.ask)] == [("a", "FAILED"), ("b", "FAILED")]


def test_what_others_submit_is_kept_when_a_name_is_used_again() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a", "x", "y", "z")
    endings.returned(["a"])
    endings.before_submit(["a"], ring.ask)
    ring.add("a")
    assert ring.rest(endings) == ["x", "y", "z", "a"]


def test_a_mark_of_what_had_been_read_does_not_meet_a_later_job() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a")
    assert ring.rest(endings) == ["a"]
    endings.returned(["a"])
    assert ring.rest(endings) == []
    ring.add("a")  # by somebody else
    assert ring.rest(endings) == ["a"]


def test_after_all_have_ended_only_later_endings_are_reported() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a", "b")
    ring.idle()
    endings.all_returned(3)
    assert ring.rest(endings) == []
    ring.add("c")
    assert ring.rest(endings) == ["c"]


def test_endings_whose_events_had_no_number_yet_belong_to_those_that_all_ended() -> None:
    """The answer was given in the turn in which they ended; three more events than a page has came with it."""
    ring, endings = Ring(), Endings(0)
    ring.add("a")
    endings.all_returned(1)
    ring.add("b", "c", "d", "e")
    ring.idle()
    ring.add("later")
    assert ring.rest(endings) == ["later"]


def test_a_ring_that_has_lost_the_end_reports_all_it_has() -> None:
    ring, endings = Ring(), Endings(0)
    ring.add("a")
    ring.idle()
    endings.all_returned(2)
    ring.kept = 1
    ring.add("b", "c")
    assert ring.rest(endings) == ["c"]


def test_a_pilot_that_never_had_a_job_has_nothing_to_leave_out() -> None:
    ring, endings = Ring(), Endings(0)
    endings.all_returned(0)
    ring.add("a")
    assert ring.rest(endings) == ["a"]
