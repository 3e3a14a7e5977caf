"""The journal of a running manager is compacted between other work, and nothing that was promised depends on how that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager import compacting
from pilotfish.pilot.manager.compacting import Compacting
from pilotfish.pilot.manager.reporter import Reporter
from pilotfish.pilot.manager.resume import replay
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution, JobSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire.records import Canceled, Closed, Compacted, Record, Removed, Submitted
from pilotfish.pilot.wire.report import ReportEntry

FAULTS = Path(__file__).parent / "compaction_faults.py"
FEWEST_CALLS = 12
"""Of the system, in a scenario without faults: writes and syncs of turns, those of the draft, and the change of names."""


@pytest.mark.parametrize("how", ["kill", "crash", "full"])
def test_whatever_happens_at_whatever_call_all_that_was_written_or_acknowledged_is_there(
    how: str, tmp_path: Path
) -> None:
    """`kill`: what was written; `crash`, of the machine: what was synced; `full`, a disk: all, and it goes on."""
    command = [sys.executable, str(FAULTS), str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    *wrong, count = done.stdout.splitlines()
    assert wrong == []
    assert int(count) >= FEWEST_CALLS


class Running:
    """A journal of a manager with `count` cancelled and removed jobs beside one that is kept, whose clock goes on by 1 ms
    each time it is asked.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.now = 0.0
        self.loop = Loop(self._clock)
        self.store = Store.create(folder / "j")
        self.reporter = Reporter(folder / "jobs.report", "json")
        specs = [JobSpec(f"job{number}", Execution(exec="true")) for number in range(count + 1)]
        gone = [JobNo(number) for number in range(2, count + 2)]
        canceled = [Canceled(number, None, 1.0) for number in gone]
        records: list[Record] = [Submitted(JobNo(1), 1.0, specs), *canceled, Removed(gone)]
        for record in records:
            self.store.append(record)
        self.store.write()
        self.store.sync()
        scheduler = Scheduler()
        replay(self.store.records(), scheduler, lambda changes: None, lambda size: None)
        self.told = 0
        self.tell()
        self.compacting = Compacting(self.store, self.reporter, scheduler.jobs, self.loop)
        self.loop.on_readable(self.store.sync_ended, self._end_sync)

    def _clock(self) -> float:
        self.now += 0.001
        return self.now

    def _end_sync(self) -> None:
        self.store.end_sync()

    def tell(self) -> None:
        """An ending gets into the report."""
        self.told += 1
        self.reporter.add(ReportEntry(f"told{self.told}", State.OMITTED, [], None))
        self.reporter.write()

    def close(self) -> None:
        self.loop.close()
        self.store.close()
        self.reporter.close()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(compacting, "_PAUSE_S", 0)
    running = Running(tmp_path, 2000)
    yield running
    running.close()


def test_a_journal_is_rewritten_in_many_turns_and_what_came_meanwhile_follows_it(running: Running) -> None:
    """The report counts as told up to where it was when that began: what is told later is told again at a resume."""
    told, first = running.reporter.size, running.store.size
    running.compacting.begin()
    turns = 0
    while not running.compacting.is_idle:
        turns += 1
        if turns == 1:
            running.store.append(Closed(1.0, True))
            running.tell()
        running.store.write()
        if not turns % 100:
            running.store.begin_sync()
        running.loop.turn(lambda: None)
    kept = Submitted(JobNo(1), 1.0, [JobSpec("job0", Execution(exec="true"))], [JobNo(1)])
    assert list(running.store.records()) == [kept, Compacted(JobNo(2002), told), Closed(1.0, True)]
    assert running.store.size == running.store.path.stat().st_size < first / 10
    assert turns >= 2 * 2000 / 5, "two readings of so many records, of which 5 ms are 5 slices of this clock"


def test_it_waits_until_the_disk_has_what_it_would_read(running: Running) -> None:
    """After a failed sync the file may not have what was written."""
    running.store.append(Closed(1.0, True))
    running.store.write()
    running.compacting.begin()
    for _ in range(10):
        running.loop.turn(lambda: None)
    assert not running.compacting.is_idle
    assert sorted(os.listdir(running.store.path.parent)) == ["j", "j.lock", "jobs.report"], "no draft has been begun"


def test_it_is_not_begun_while_the_report_lacks_something(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        running.tell()
    running.compacting.begin()
    assert running.compacting.is_idle
    assert running.compacting.is_due
