"""What came of a run, from its folder: counts of all its tasks, and the failures with the last lines of their stderr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..pilot.console import echo
from ..pilot.model.states import State
from ..pilot.wire import codec
from ..pilot.wire.replies import Status, TaskCounts
from .ledger import Ledger
from .run_overview import overview_of
from .task_output import last_lines
from .task_records import NOT_ENDED, REPORT, TaskRecords, TaskRow

MOST_FAILURES = 10
STDERR_LINES = 5


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
    more: int = 0
    """How many others have failed."""
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
        tasks = "1 task" if self.tasks == 1 else f"{self.tasks} tasks"
        echo(f"{tasks}: {', '.join(parts)} in {self.seconds:.1f} s ({rate:.0f}/s)", err=True, fg=colour)
        for failure in self.failures:
            code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
            echo(f"  {failure.name}: {failure.state}{code} {failure.message}".rstrip(), err=True)
            for line in failure.stderr.splitlines():
                echo(f"    | {line}", err=True)
        if self.more:
            echo(f"  ... and {self.more} more", err=True)
        if self.problem:
            echo(self.problem, err=True)
        echo(f"report: {self.report}", err=True)


def read_outcome(aux: Path, seconds: float, seen: TaskCounts | None) -> Outcome:
    """What the folder of a pilot tells of the tasks that count.

    What cannot be read is passed over, and said in `problem`; then `seen` helps, the last counts that the pilot told.
    """
    report, task_records = aux / REPORT, TaskRecords(aux)
    overview = overview_of(task_records, MOST_FAILURES)
    counts, problem = overview.summary, ""
    tasks, failed, ended = counts.tasks, counts.failed, counts.succeeded + counts.failed
    if task_records.problem:
        why = f"{task_records.problem}; is the disk full?"
        problem = f"{report.name} is not complete ({why}): the counts are what the pilot told"
        if seen is not None:
            failed = max(failed, seen.failed)
            ended = max(ended, failed + seen.finished)
            tasks = max(tasks, ended)
    final = final_status(aux)
    stopped = min(tasks - ended, 0 if final is None else final.system.interrupted or 0)
    failures = [_failure(aux, row) for row in overview.failures]
    left = tasks - ended - stopped
    return Outcome(tasks, ended - failed, failed, stopped, left, seconds, report, failures, overview.more, problem)


def final_states(aux: Path) -> dict[str, str]:
    """The final states of all tasks (`JOB` or `JOB:INDEX`) that have ended, whether they still count or not."""
    states: dict[str, str] = {}
    for batch in TaskRecords(aux, Ledger()).batches():
        if batch.state[0] != NOT_ENDED:
            states.update((batch.task(at), batch.state[at]) for at in range(len(batch)))
    return states


class Retry(NamedTuple):
    """Which tasks that have failed run again: all, or those with one of these exit codes, or with these words as reason."""

    failed: bool = False
    codes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    def wants(self, exit_code: int | None, reason: str) -> bool:
        if not self.codes and not self.reasons:
            return True
        return exit_code in self.codes or any(text.lower() in reason.lower() for text in self.reasons)


def failed_tasks(aux: Path, retry: Retry, wants: Callable[[TaskRow], bool] | None = None) -> set[str]:
    """The tasks (`JOB` or `JOB:INDEX`) that have failed and are to run again."""
    task_records = TaskRecords(aux, Ledger())
    failed = [
        (batch, at)
        for batch in task_records.batches()
        for at, state in enumerate(batch.state)
        if state == State.FAILED.name and retry.wants(batch.exit_code[at], batch.reason[at])
    ]
    return {batch.task(at) for batch, at in failed if wants is None or wants(task_records.row(batch, at))}


def final_status(aux: Path) -> Status | None:
    """The status with which the pilot of an auxiliary folder has ended; None when it was killed, or lives."""
    try:
        return codec.load((aux / "final_status.json").read_bytes(), Status)
    except (OSError, msgspec.DecodeError):
        return None


def _failure(aux: Path, row: TaskRow) -> Failure:
    code = None if row.exit_code is None else str(row.exit_code)
    message = "" if row.reason == f"exit code {code}" else row.reason
    return Failure(row.task, row.state, code, message, last_lines(aux, row, STDERR_LINES))
