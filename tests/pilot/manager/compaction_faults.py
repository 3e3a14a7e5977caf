"""A journal that is compacted while it is written to, and what happens when a call to the system is the last one, or fails.

    python compaction_faults.py FOLDER HOW

HOW is `kill` (the process is killed before the call), `crash` (the machine falls over: of each file only that is left which
has been synced, and a name that has not been synced may be the old one or the new one) or `full` (the call fails as on a full
disk). One scenario after another is played, each with the fault at the next call, until one comes to its end without it. What
is wrong afterwards is printed, then how many there were.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager import compacting
from pilotfish.pilot.manager.compacting import Compacting
from pilotfish.pilot.manager.resume import replay
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.errors import TransientError
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution, JobSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.wire.records import Canceled, Record, Removed, Submitted

KEPT, REMOVED = 3, 400
MOST_RECORDS = 100
"""Then a busy machine has time for the thread."""
LAST_TURNS = 6
FAILING = ("pwrite", "pread", "fsync", "fdatasync", "replace")
CALLS = (*FAILING, "close", "unlink")


def job(name: str) -> JobSpec:
    return JobSpec(name, Execution(exec="/bin/true"))


def beginning() -> list[Record]:
    names = [f"kept{n}" for n in range(KEPT)] + [f"removed{n}" for n in range(REMOVED)]
    numbers = [JobNo(n + 1) for n in range(KEPT, KEPT + REMOVED)]
    canceled: list[Record] = [Canceled(number, None, 1.0) for number in numbers]
    return [Submitted(JobNo(1), 1.0, [job(name) for name in names]), *canceled, Removed(numbers)]


def scheduler_after(records: list[Record]) -> Scheduler:
    scheduler = Scheduler()
    replay(records, scheduler, lambda changes: None, lambda size: None)
    return scheduler


class Faults:
    """Counts the calls to the system; before call number `at` the fault happens, and the process tells what it knows."""

    def __init__(self, folder: Path, how: str, at: int) -> None:
        self.written = self.acknowledged = 0
        self._folder, self._how, self._at = folder, how, at
        self._count = -(1 << 30)
        self._is_dying = False
        self._synced: dict[int, int] = {}
        self._before: int | None = None
        """The file that had the journal's name before, while that may be so again."""
        self.happened = False
        for name in FAILING if how == "full" else CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def begin(self) -> None:
        """Count from now on."""
        self._count = 0

    def end(self) -> None:
        """Do no harm any more."""
        self._at = -1

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self._count += 1
            while self._is_dying:
                threading.Event().wait()
            if self._count == self._at:
                self.happened = True
                if self._how == "full":
                    raise OSError(errno.ENOSPC, "No space left on device")
                self._die()
            if name == "replace":
                journal = args[1]
                os.link(journal, self._folder / "before")
                self._before = os.stat(journal).st_ino
            if name not in ("fsync", "fdatasync"):
                return call(*args)
            status = os.fstat(args[0])  # which stands for the disk here, and is faster
            self._synced[status.st_ino] = status.st_size
            if stat.S_ISDIR(status.st_mode):
                self._before = None
            return None

        return counted

    def _die(self) -> NoReturn:
        self._is_dying = True  # the other thread does nothing more
        known = {
            "written": self.written,
            "acknowledged": self.acknowledged,
            "synced": self._synced,
            "before": self._before,
        }
        (self._folder / "known.json").write_text(json.dumps(known))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def play(folder: Path, how: str, at: int) -> Faults:
    """Turns of a manager: each writes a record, and syncs follow each other, while the journal is compacted."""
    for name, value in {"_PAUSE_S": 0.0, "_LOOK_S": 0.0, "_LITTLE_BYTES": 200}.items():
        setattr(compacting, name, value)
    faults = Faults(folder, how, at)
    store, loop = Store.create(folder / "j"), Loop()
    for record in beginning():
        store.append(record)
    store.write()
    store.sync()
    work = Compacting(store, None, scheduler_after(beginning()).jobs, loop)
    syncing: list[int] = []

    def end_sync() -> None:
        if noted % 2 and noted < MOST_RECORDS:
            return  # so that something is written between the end of a sync and what follows from it
        count = syncing.pop()
        with suppress(TransientError):
            store.end_sync()
            faults.acknowledged = count

    def end_of_turn() -> None:
        with suppress(TransientError):
            store.write()
            faults.written = noted
        if store.begin_sync():
            syncing.append(faults.written)

    loop.on_readable(store.sync_ended, end_sync)
    noted, left = 0, LAST_TURNS
    assert work.is_due
    faults.begin()
    work.begin()
    while left:
        if noted < MOST_RECORDS:
            noted += 1
            store.append(Submitted(JobNo(KEPT + REMOVED + noted), 2.0, [job(f"new{noted}")]))
        loop.call_after(0 if noted < MOST_RECORDS else 0.001, lambda: None)
        loop.turn(end_of_turn)
        left -= work.is_idle
    faults.end()
    with suppress(TransientError):  # of a sync that had begun
        store.sync()
    store.sync()
    faults.written = faults.acknowledged = noted
    store.close()
    return faults


def resumed(path: Path) -> tuple[list[str], int]:
    """The names of the jobs after a resume, and how many records of removed ones are left."""
    store = Store.open(path)
    records = list(store.replay())
    store.close()
    count = sum(isinstance(record, Canceled) for record in records)
    return [job.spec.name for job in scheduler_after(records).jobs], count


def expected(count: int) -> list[str]:
    return [f"kept{n}" for n in range(KEPT)] + [f"new{n}" for n in range(1, count + 1)]


def check(folder: Path, least: int, most: int) -> str:
    """What is wrong with what is found, of which the first `least` new jobs must be there; empty: nothing."""
    names, _ = resumed(folder / "j")
    if names not in [expected(count) for count in range(least, most + 1)]:
        return f"{least} to {most} new jobs were to be there: {names}"
    left = sorted(set(os.listdir(folder)) - {"j", "j.lock", "known.json", "before"})
    return f"left behind: {left}" if left else ""


def after_crash(folder: Path, known: dict[str, Any]) -> str:
    """As `check`, for each journal that may have the name after the machine has fallen over."""
    images = ["j"] + ["before"] * (known["before"] is not None)
    wrong = []
    for image in images:
        there = folder.with_name(f"{folder.name}-{image}")
        there.mkdir()
        shutil.copy(folder / image, there / "j")
        os.truncate(there / "j", known["synced"].get(str((folder / image).stat().st_ino), 0))
        wrong.append(check(there, known["acknowledged"], MOST_RECORDS))
        shutil.rmtree(there)
    return "; ".join(filter(None, wrong))


WELL, FAULTY, BROKEN = range(3)


def played_to_the_end(folder: Path, how: str, at: int) -> int:
    """The exit code of a scenario that survives: without a fault the journal is compacted, with one at least whole."""
    faults = play(folder, how, at)
    (folder / "before").unlink(missing_ok=True)
    wrong = check(folder, faults.written, faults.written)
    if not faults.happened and resumed(folder / "j")[1]:
        wrong = "it is not compacted"
    if wrong:
        print(wrong, flush=True)
        return BROKEN
    return FAULTY if faults.happened else WELL


def one(folder: Path, how: str, at: int) -> tuple[str, bool]:
    """(what is wrong after a fault at that call, whether there was one)."""
    folder.mkdir()
    child = os.fork()
    if not child:
        code = BROKEN
        try:
            code = played_to_the_end(folder, how, at)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGKILL:
        return "" if code in (FAULTY, WELL) else f"it ended with {code}", code != WELL
    known = json.loads((folder / "known.json").read_text())
    if how == "crash":
        return after_crash(folder, known), True
    return check(folder, known["written"], known["written"] + 1), True


def main(folder: Path, how: str) -> None:
    at, is_faulty = 0, True
    while is_faulty:
        at += 1
        wrong, is_faulty = one(folder / str(at), how, at)
        if wrong:
            print(f"{how} at call {at}: {wrong}")
    print(at - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
