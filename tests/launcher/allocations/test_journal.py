"""What is written down of allocations is read again as it was, by any number of programs that write in turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.launcher.allocations.events import (
    Asked,
    Event,
    Joined,
    Leaving,
    NothingAsked,
    Over,
    Placed,
    Said,
    SpecAdded,
    SpecPaused,
    SpecRemoved,
    SpecResumed,
    Started,
)
from pilotfish.launcher.allocations.journal import AllocationJournal
from pilotfish.launcher.allocations.spec import AllocationSpec, NodeSize
from pilotfish.pilot.model.errors import JournalError

NODE = NodeSize(4, 1, 1 << 30, ("fast",), (("nvme", 2.0),))
SPEC = AllocationSpec("m", "m.json", {"queue_name": "q"}, (1, 8), node=NODE, tags=("fast",), budget_node_s=5.0)
STORY: tuple[Event, ...] = (
    SpecAdded(SPEC),
    NothingAsked("m", "nothing waits"),
    Asked("a", "m", 2, 60.0, "it waits"),
    Placed("a", "4711"),
    Started("a", "n[1-2]"),
    Said("a", "hello"),
    Joined("a", NODE),
    SpecPaused("m", "enough", True),
    SpecResumed("m"),
    Leaving("a", "release", "idle"),
    Over("a", "idle", False, "bye"),
    SpecRemoved("m", True),
)


def test_every_event_is_read_as_it_was_written(wd: Path) -> None:
    AllocationJournal(wd / "alloc", lambda: 7.0).write(*STORY)
    read = AllocationJournal(wd / "alloc").read()
    assert [(entry.time_s, entry.event) for entry in read] == [(7.0, event) for event in STORY]


def test_a_spec_that_was_removed_is_gone_when_its_last_allocation_has_ended(wd: Path) -> None:
    journal = AllocationJournal(wd / "alloc")
    journal.write(*STORY[:4], SpecRemoved("m"))
    journal.read()
    assert (list(journal.state.specs), journal.state.asking) == (["m"], [])
    journal.write(Over("a", "cancelled"))
    assert journal.has_news
    journal.read()
    assert (journal.state.specs, journal.has_news) == ({}, False)


def test_a_torn_line_of_a_writer_that_was_killed_is_cut_off_by_the_next(wd: Path) -> None:
    first, second = AllocationJournal(wd / "alloc"), AllocationJournal(wd / "alloc")
    first.write(STORY[0])
    with open(first.path, "ab") as file:
        file.write(b'00000000 {"event": "Pau')
    assert [entry.event for entry in second.read()] == [STORY[0]]
    first.write(STORY[1])
    assert [entry.event for entry in second.read()] == [STORY[1]]


def test_a_line_that_was_changed_is_an_error_and_names_the_place(wd: Path) -> None:
    journal = AllocationJournal(wd / "alloc")
    journal.write(STORY[0])
    journal.path.write_bytes(journal.path.read_bytes().replace(b"m.json", b"n.json"))
    journal.write(STORY[1])
    with pytest.raises(JournalError, match="line 1 is broken"):
        journal.read()
