"""`Run`: what a pilot did in one folder, to be asked while it runs and for ever after, from any host that sees the folder.

Nothing here talks to the pilot: the journal has what was accepted, the report what has ended. So a run that was killed tells as
much as one that ended well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..pilot.model.job_spec import JobSpec
from ..pilot.model.states import State
from ..pilot.model.variables import of_iteration, substitute
from ..pilot.wire import journal, records
from ..pilot.wire.report import ReadEntry
from . import ledger
from .outcome import report_entries
from .run_folder import LAST, RunFolder, find_run, runs_in

if TYPE_CHECKING:
    import pandas as pd

SUCCEEDED = State.SUCCEED.name
NOT_ENDED = State.QUEUED.name


class TaskRow(NamedTuple):
    """One task of a run.

    Attributes:
        task: `JOB`, or `JOB:INDEX`.
        state: SUCCEED, FAILED, CANCELED, OMITTED; QUEUED for one that has not ended.
        exit_code: None for one that never started or has not ended; -N for one that signal N ended.
        reason: why it ended badly, in a few words; empty otherwise.
        params: its parameters, with their values as text.
        started, ended: None when it did not.
        seconds: between the two.
        cpu_s: seconds of CPU.
        max_rss_mib: the most memory it had, in MiB.
        attempts: how often it was started.
        stdout, stderr: absolute names of its files; None when there are none.
    """

    task: str
    state: str
    exit_code: int | None
    reason: str
    params: Mapping[str, str]
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    node: str
    cpu_s: float | None
    max_rss_mib: float | None
    attempts: int
    stdout: Path | None
    stderr: Path | None

    def as_json(self) -> dict[str, Any]:
        """With times in ISO format and files as text."""
        values = self._asdict()
        for name in ("started", "ended"):
            values[name] = None if values[name] is None else values[name].isoformat()
        for name in ("stdout", "stderr"):
            values[name] = None if values[name] is None else str(values[name])
        return values


@dataclass(frozen=True)
class Summary:
    """Counts of the tasks that are part of the run; `left` have not ended."""

    tasks: int
    succeeded: int
    failed: int
    left: int
    by_state: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[TaskRow]) -> Summary:
        by_state: dict[str, int] = {}
        for row in rows:
            by_state[row.state] = by_state.get(row.state, 0) + 1
        tasks, succeeded, left = sum(by_state.values()), by_state.get(SUCCEEDED, 0), by_state.get(NOT_ENDED, 0)
        return cls(tasks, succeeded, tasks - succeeded - left, left, by_state)


class Run:
    """A run by its name, `last`, its id or its folder; `wd`: the working folder in which names are looked up.

    Raises LostError when there is no such run, RefusedError when it is not ours.
    """

    def __init__(self, run: str | Path = LAST, wd: str | Path = ".") -> None:
        self.folder: RunFolder = find_run(run, Path(wd))

    @classmethod
    def all(cls, wd: str | Path = ".") -> list[Run]:
        """The runs of a working folder, the latest last."""
        return [cls(folder.path, wd) for folder in runs_in(Path(wd))]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        """Its auxiliary folder."""
        return self.folder.path

    @property
    def state(self) -> str:
        """`running`, `ended` or `stopped` (killed)."""
        return self.folder.state

    def __repr__(self) -> str:
        return f"<Run {self.name} {self.state}>"

    @cached_property
    def _jobs(self) -> dict[str, JobSpec]:
        """The jobs that were accepted, as they are now, in their order."""
        return {spec.name: spec for spec in self._read_journal().values()}

    def _read_journal(self) -> dict[int, JobSpec]:
        jobs: dict[int, JobSpec] = {}
        self._began_s = 0.0
        path = self.path / journal.FILE_NAME
        if not path.exists():
            return jobs
        with open(path, "rb") as file:
            for record in journal.Reader(file, str(path)):
                if isinstance(record, records.Submitted):
                    jobs.update(zip(record.numbers, record.jobs, strict=True))
                elif isinstance(record, records.Removed):
                    for number in record.job_nos:
                        jobs.pop(number, None)
                elif isinstance(record, records.Opened) and not self._began_s:
                    self._began_s = record.time_s
        return jobs

    @property
    def began(self) -> datetime | None:
        _ = self._jobs
        return datetime.fromtimestamp(self._began_s).astimezone() if self._began_s else None

    def tasks(self) -> Iterator[TaskRow]:
        """All tasks that are part of the run: those that have ended first, in the order in which they did."""
        kept = ledger.read(self.path, self._jobs)
        seen: dict[str, set[int]] = {}
        for entry in report_entries(self.path / "jobs.report"):
            if isinstance(entry, str):
                continue
            job, _, index = entry.name.partition(":")
            spec = self._jobs.get(job)
            if spec is None or (spec.iteration is not None and not index):
                continue
            pos = 0 if spec.iteration is None else int(index) - spec.iteration.start
            if pos in seen.setdefault(job, set()) or not kept.counts(entry.name):
                continue
            seen[job].add(pos)
            yield self._ended(spec, pos, entry)
        for name, spec in self._jobs.items():
            ended = seen.get(name, set())
            for pos in range(spec.task_count):
                if pos not in ended and kept.counts(spec.task_name(pos)):
                    yield self._not_ended(spec, pos, kept)

    def _ended(self, spec: JobSpec, pos: int, entry: ReadEntry) -> TaskRow:
        ran = entry.runtime
        times = {each["state"]: each["date"] for each in entry.history}
        started = times.get(State.EXECUTING.name) if ran.node else None
        ended = times.get(entry.state)
        began = None if started is None else datetime.fromisoformat(started)
        over = None if ended is None else datetime.fromisoformat(ended)
        seconds = None if began is None or over is None else (over - began).total_seconds()
        code = None if ran.exit_code is None else int(ran.exit_code)
        return TaskRow(
            entry.name,
            entry.state,
            code,
            "" if entry.state == SUCCEEDED else entry.messages or (f"exit code {code}" if code else ""),
            _params(spec, pos),
            began,
            over,
            seconds,
            ran.node or "",
            None if ran.cpu_s is None else float(ran.cpu_s),
            None if ran.max_rss_kib is None else int(ran.max_rss_kib) / 1024,
            int(ran.attempts or 0),
            _file(spec, pos, spec.execution.stdout, ran.wd),
            _file(spec, pos, spec.execution.stderr, ran.wd),
        )

    def _not_ended(self, spec: JobSpec, pos: int, kept: ledger.Ledger) -> TaskRow:
        wd = str(self.path.parent / substitute(spec.execution.wd or "", _variables(spec, pos)))
        files = [_file(spec, pos, name, wd) for name in (spec.execution.stdout, spec.execution.stderr)]
        name = spec.task_name(pos)
        return TaskRow(name, NOT_ENDED, None, "", _params(spec, pos), None, None, None, "", None, None, 0, *files)

    def task(self, name: str) -> TaskRow:
        """One task. Raises KeyError."""
        for row in self.tasks():
            if row.task == name:
                return row
        raise KeyError(name)

    def summary(self) -> Summary:
        return Summary.of(self.tasks())

    def frame(self, rows: Iterable[TaskRow] | None = None) -> pd.DataFrame:
        """A row for each task (of `rows`, if given): parameters, then the members of TaskRow, with types. Needs pandas."""
        import pandas as pd

        rows = list(self.tasks() if rows is None else rows)
        params = pd.DataFrame([dict(row.params) for row in rows]).apply(_typed)
        others = [name for name in TaskRow._fields if name != "params"]
        frame = pd.DataFrame([{name: getattr(row, name) for name in others} for row in rows], columns=others)
        frame["exit_code"] = frame["exit_code"].astype("Int64")
        clashes = {name: f"param.{name}" for name in params.columns if name in others}
        return pd.concat([params.rename(columns=clashes), frame], axis=1)


def _typed(column: Any) -> Any:
    """Text that is all numbers as numbers."""
    import pandas as pd

    try:
        return pd.to_numeric(column)
    except (ValueError, TypeError):
        return column


def _variables(spec: JobSpec, pos: int) -> dict[str, str]:
    iteration = spec.iteration
    if iteration is None:
        return {}
    return of_iteration(iteration.start + pos, iteration.value_at(pos), bool(iteration.params))


def _params(spec: JobSpec, pos: int) -> dict[str, str]:
    iteration = spec.iteration
    if iteration is None or iteration.is_numbered:
        return {}
    if iteration.params:
        return {param.name: param.at(pos) for param in iteration.params}
    return {"itval": iteration.value_at(pos)}


def _file(spec: JobSpec, pos: int, name: str | None, wd: str | None) -> Path | None:
    """A file of a task by its template; of one with variables that only the agent knows, the name as it stands."""
    if name is None:
        return None
    return Path(wd or ".") / substitute(name, _variables(spec, pos))


def as_csv(rows: Iterable[TaskRow]) -> Iterator[list[str]]:
    """Header and rows; the parameters are columns, before the others."""
    listed = list(rows)
    params = list(dict.fromkeys(name for row in listed for name in row.params))
    others = [name for name in TaskRow._fields if name != "params"]
    yield [*params, *others]
    for row in listed:
        values = row.as_json()
        yield [
            *(row.params.get(name, "") for name in params),
            *("" if values[name] is None else str(values[name]) for name in others),
        ]
