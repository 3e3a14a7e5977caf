"""The journal of a submission outlives what happens to its file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

from pilotfish.launcher.job.record import TaskResult
from pilotfish.launcher.submission import events
from pilotfish.launcher.submission.events import Canceled, Event, Fetched, Intent, Submitted
from pilotfish.launcher.submission.journal import InUseError, Journal
from pilotfish.pilot.model.errors import JournalError

EVENTS: list[Event] = [Intent("j", 0), Submitted("j", 0, "7"), Fetched("j")]


@pytest.fixture
def path(wd: Path) -> Path:
    with Journal(wd / "journal", lambda: 1.0) as journal:
        assert journal.open() == []
        for event in EVENTS:
            journal.write(event)
    return wd / "journal"


def read(path: Path) -> list[object]:
    with Journal(path) as journal:
        return list(journal.open())


def test_what_was_written_is_read(path: Path) -> None:
    assert read(path) == EVENTS
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_cancelled_is_read_from_journals_of_all_versions() -> None:
    """The class has another spelling than the word in the file."""
    event = Canceled("j", "asked for", (TaskResult("t", 0),))
    written = json.loads(json.dumps(events.to_dict(event)))
    assert written["event"] == "Cancelled"
    assert events.from_dict(written) == event


def test_a_torn_last_line_is_cut_off_at_every_place(path: Path) -> None:
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for cut in range(len(content) - len(lines[-1]), len(content)):
        path.write_bytes(content[:cut])
        assert read(path) == EVENTS[:2]
        with Journal(path) as journal:
            journal.open()
            journal.write(EVENTS[2])
        assert read(path) == EVENTS


def test_a_broken_line_before_others_is_an_error_that_names_it(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(JournalError, match="byte 0: line 1 is broken"):
        read(path)


def test_two_launchers_do_not_work_on_one_submission(path: Path) -> None:
    with Journal(path) as first:
        first.open()
        with pytest.raises(InUseError, match="another launcher works on this submission"):
            Journal(path).open()
    assert read(path) == EVENTS


def test_nor_where_the_file_system_knows_no_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Journal(path) as first:
        first.open()
        with pytest.raises(InUseError, match=f"process {os.getpid()}.*if it is gone, remove {path}.held"):
            Journal(path).open()
    assert read(path) == EVENTS
    assert sorted(os.listdir(path.parent)) == [path.name]


def test_a_full_disk_is_told_and_loses_nothing(wd: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    disk = wd / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=True)
    try:
        with Journal(disk / "journal") as journal:
            journal.open()
            journal.write(EVENTS[0])
            with pytest.raises(JournalError, match="No space left"):
                for _ in range(1000):
                    journal.write(EVENTS[1])
        found = read(disk / "journal")
        assert found[0] == EVENTS[0]
        assert set(found[1:]) == {EVENTS[1]}
    finally:
        subprocess.run(["umount", disk], check=True)
