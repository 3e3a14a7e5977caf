"""What came of a run, from its `jobs.report`: counts of all its tasks, and the failures with the last lines of their stderr."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..pilot.console import echo
from ..pilot.model.states import State
from ..pilot.wire import codec
from ..pilot.wire.replies import Status, TaskCounts
from ..pilot.wire.report import ReadEntry, decode_json
from .ledger import Ledger

MOST_FAILURES = 10
STDERR_LINES = 5
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Failure:
    name: str
    state: str
    exit_code: str | None
    message: str
    stderr: str
    """The last lines, if they went to a file."""


@dataclass(frozen=True)
class Outcome:
    """Each accepted task is in one of succeeded, failed (it ended otherwise), stopped (it ran when the pilot ended), not_run.

    The last two are still queued.
    """

    tasks: int
    succeeded: int
    failed: int
    stopped: int
    not_run: int
    seconds: float
    report: Path
    failures: list[Failure]
    """The first MOST_FAILURES."""
    problem: str = ""
    """Why the counts may be too small."""

    @property
    def left(self) -> int:
        """Tasks that are still queued."""
        return self.stopped + self.not_run

    def with_not_run(self, count: int) -> Outcome:
        """With tasks that the pilot has never heard of."""
        return replace(self, tasks=self.tasks + count, not_run=self.not_run + count)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "tasks": self.tasks,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "stopped": self.stopped,
            "not_run": self.not_run,
            "seconds": round(self.seconds, 3),
            "report": str(self.report),
            "failures": [vars(failure) for failure in self.failures],
        } | ({"problem": self.problem} if self.problem else {})

    def show(self) -> None:
        """For people, on stderr."""
        ended = self.succeeded + self.failed
        rate = ended / self.seconds if self.seconds else 0.0
        parts = [f"{self.succeeded} succeeded", f"{self.failed} failed"]
        parts += [f"{count} {word}" for count, word in ((self.stopped, "stopped"), (self.not_run, "not run")) if count]
        colour = "red" if self.failed else "yellow" if self.left else "green"
        echo(f"{self.tasks} tasks: {', '.join(parts)} in {self.seconds:.1f} s ({rate:.0f}/s)", err=True, fg=colour)
        for failure in self.failures:
            code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
            echo(f"  {failure.name}: {failure.state}{code} {failure.message}".rstrip(), err=True)
            for line in failure.stderr.splitlines():
                echo(f"    | {line}", err=True)
        if self.failed > len(self.failures):
            echo(f"  ... and {self.failed - len(self.failures)} more", err=True)
        if self.problem:
            echo(self.problem, err=True)
        echo(f"report: {self.report}", err=True)


@dataclass
class _Ended:
    """Counts from a report of what counts in `ledger`. `bad` has the first entries of failures."""

    ledger: Ledger
    tasks: int = 0
    failed: int = 0
    bad: list[ReadEntry] = field(default_factory=list)
    executions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _iterations: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, entry: ReadEntry) -> None:
        """Entries of iterations come before that of their job."""
        if not self.ledger.counts(entry.name):
            return
        if entry.execution is not None:
            self.executions[entry.name] = entry.execution
        job, _, index = entry.name.partition(":")
        count = 1
        if index:
            self._iterations[job] += 1
        elif entry.iterations is not None:  # those that never started have no entry of their own
            entry_of_job = self.ledger.get(job)
            all_of_them = entry.iterations if entry_of_job is None else entry_of_job.wanted_count
            count = max(0, all_of_them - self._iterations.pop(job, 0))
        self.tasks += count
        if entry.state != State.SUCCEED.name and count:
            self.failed += count
            if len(self.bad) < MOST_FAILURES:
                self.bad.append(entry)


def read_outcome(aux: Path, seconds: float, ledger: Ledger, seen: TaskCounts | None) -> Outcome:
    """What the report in an auxiliary folder tells of the tasks that count; those it does not tell of have not ended.

    What cannot be read is passed over, and said in `problem`; then `seen` helps, the last counts that the pilot told.
    """
    report, final = aux / "jobs.report", _final_status(aux)
    ended, problem = _Ended(ledger), ""
    for entry in report_entries(report):
        if isinstance(entry, str):
            problem = f"{report.name} is not complete ({entry}; is the disk full?): the counts are what the pilot told"
        else:
            ended.add(entry)
    failures = [_failure(entry, ended.executions) for entry in ended.bad]
    if problem and seen is not None:
        ended.failed = max(ended.failed, seen.failed)
        ended.tasks = max(ended.tasks, ended.failed + seen.finished)
    of_others = max(0, final.total - ledger.task_count)
    tasks = max(ledger.wanted_count + of_others, ended.tasks)
    left = tasks - ended.tasks
    stopped = min(left, final.interrupted)
    succeeded = ended.tasks - ended.failed
    return Outcome(tasks, succeeded, ended.failed, stopped, left - stopped, seconds, report, failures, problem)


def final_states(aux: Path) -> dict[str, str]:
    """The final states of all tasks (`JOB` or `JOB:INDEX`) that have ended, and of all whole jobs."""
    entries = report_entries(aux / "jobs.report")
    return {entry.name: entry.state for entry in entries if isinstance(entry, ReadEntry)}


class Retry(NamedTuple):
    """Which tasks that have failed run again: all, or those with one of these exit codes, or with these words as reason."""

    failed: bool = False
    codes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    def wants(self, entry: ReadEntry) -> bool:
        if not self.codes and not self.reasons:
            return True
        code = entry.runtime.exit_code
        return (code is not None and int(code) in self.codes) or any(
            reason.lower() in entry.messages.lower() for reason in self.reasons
        )


def failed_tasks(aux: Path, retry: Retry) -> set[str]:
    """The tasks (`JOB` or `JOB:INDEX`) that have failed and are to run again."""
    failed: set[str] = set()
    for entry in report_entries(aux / "jobs.report"):
        if isinstance(entry, ReadEntry) and entry.state == State.FAILED.name and retry.wants(entry):
            failed.add(entry.name)
    return failed


def report_entries(report: Path) -> Iterator[ReadEntry | str]:
    """The entries of a report; a text where one cannot be read: a full disk tears the last line."""
    try:
        with open(report, "rb") as file:
            for line in file:
                try:
                    entry = decode_json(line)
                except ValueError:
                    yield "a line is torn"
                else:
                    yield entry
    except OSError as error:
        yield str(error.strerror)


class _Final(NamedTuple):
    """What a pilot said last: how many tasks it had, and how many it had to stop."""

    total: int = 0
    interrupted: int = 0


def final_status(aux: Path) -> Status | None:
    """The status with which the pilot of an auxiliary folder has ended; None when it was killed, or lives."""
    try:
        return codec.load((aux / "final_status.json").read_bytes(), Status)
    except (OSError, msgspec.DecodeError):
        return None


def _final_status(aux: Path) -> _Final:
    status = final_status(aux)
    return _Final() if status is None else _Final(status.tasks.total, status.system.interrupted or 0)


def _failure(entry: ReadEntry, executions: Mapping[str, Mapping[str, Any]]) -> Failure:
    job, _, it = entry.name.partition(":")
    stderr, wd = executions.get(job, {}).get("stderr"), entry.runtime.wd
    text = tail_of(Path(wd) / stderr.replace("${it}", it), STDERR_LINES) if stderr and wd is not None else ""
    return Failure(entry.name, entry.state, entry.runtime.exit_code, entry.messages, text)


def tail_of(path: Path | None, lines: int) -> str:
    """The last lines of a file, without those that are further than some KiB from its end; empty when there is none."""
    if path is None or not lines:
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES * max(1, lines // STDERR_LINES)))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
