"""The tasks of a run as its folder tells of them: which were accepted (the journal), and what became of each (the report).

Two ways to read them, both as a stream, for a run that goes on as well as for one that is over:

- `batches`: columns. A million tasks take about a second.
- `rows`: a `TaskRow` for each, which costs some microseconds.

Each accepted task is in one of them exactly once, also one that was never started. The report may be in the formats `json` and
`columns` (see `pilotfish service --report-format`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..pilot.model.job_spec import JobSpec
from ..pilot.model.states import State
from ..pilot.model.variables import of_iteration, substitute
from ..pilot.wire import journal, records
from ..pilot.wire.report import ReadEntry
from ..pilot.wire.report_columns import HEADER, Ends, PlaceLine, decode
from .ledger import Ledger
from .ledger import read as read_ledger

SUCCEEDED = State.SUCCEED.name
NOT_ENDED = State.QUEUED.name
REPORT = "jobs.report"
_MICRO = 1e-6
_MOST_NOT_ENDED = 10_000
"""Tasks in one batch of those that have not ended."""


def format_of(aux: Path) -> str | None:
    """The format of the report in a pilot's folder; None when there is no report."""
    try:
        with open(aux / REPORT, "rb") as file:
            return "columns" if file.readline(len(HEADER)) == HEADER else "json"
    except OSError:
        return None


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


@dataclass(slots=True)
class Batch:
    """Tasks in columns of equal length.

    Attributes:
        jobs: the job of each; often the same for all.
        pos: its position among the tasks of that job.
        state, exit_code, reason, attempts: as in TaskRow.
        node: the first of its nodes; empty for what was never placed.
        allocation: its nodes with the cores on each, as in `n1[0:1],n2[0:1]`.
        pid: 0 or less for what was not started.
        scheduled_s, started_s, ended_s: seconds since the epoch; 0.0 where it did not get that far.
        cpu_s, max_rss_kib: of it and its children.
    """

    jobs: Sequence[JobSpec]
    pos: Sequence[int]
    state: Sequence[str]
    exit_code: Sequence[int | None]
    reason: Sequence[str]
    attempts: Sequence[int]
    node: Sequence[str]
    allocation: Sequence[str]
    pid: Sequence[int]
    scheduled_s: Sequence[float]
    started_s: Sequence[float]
    ended_s: Sequence[float]
    cpu_s: Sequence[float]
    max_rss_kib: Sequence[int]

    def __len__(self) -> int:
        return len(self.pos)

    def task(self, at: int) -> str:
        """The name of a task."""
        return self.jobs[at].task_name(self.pos[at])

    def params(self, at: int) -> dict[str, str]:
        return params_of(self.jobs[at], self.pos[at])


class TaskRecords:
    """Those of the run in an auxiliary folder."""

    def __init__(self, aux: Path, ledger: Ledger | None = None) -> None:
        """`ledger`: tells which tasks count; default: the one of the folder."""
        self._aux = aux
        if ledger is not None:
            self.ledger = ledger
        self.problem = ""
        """What was wrong with the report when it was last read to its end; empty: nothing."""

    @cached_property
    def _accepted(self) -> tuple[dict[str, JobSpec], float]:
        jobs: dict[int, JobSpec] = {}
        began_s = 0.0
        path = self._aux / journal.FILE_NAME
        if path.exists():
            with open(path, "rb") as file:
                for record in journal.Reader(file, str(path), kinds=_OF_JOBS):
                    if isinstance(record, records.Submitted):
                        jobs.update(zip(record.numbers, record.jobs, strict=True))
                    elif isinstance(record, records.Removed):
                        for number in record.job_nos:
                            jobs.pop(number, None)
                    elif isinstance(record, records.Opened) and not began_s:
                        began_s = record.time_s
        return {spec.name: spec for spec in jobs.values()}, began_s

    @property
    def jobs(self) -> dict[str, JobSpec]:
        """The jobs that were accepted, as they are now, in their order."""
        return self._accepted[0]

    @property
    def parameters(self) -> list[str]:
        """The names of all parameters of its tasks."""
        names: dict[str, None] = {}
        for spec in self.jobs.values():
            names.update(dict.fromkeys(parameters_of(spec)))
        return list(names)

    @property
    def began(self) -> datetime | None:
        began_s = self._accepted[1]
        return datetime.fromtimestamp(began_s).astimezone() if began_s else None

    @cached_property
    def ledger(self) -> Ledger:
        return read_ledger(self._aux, self.jobs)

    # --- the report -------------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[Ends | PlaceLine | ReadEntry]:
        """The report as it stands there, without what cannot be read: a full disk tears the last line."""
        self.problem = ""
        try:
            with open(self._aux / REPORT, "rb") as file:
                for line in file:
                    try:
                        value = decode(line)
                    except ValueError:
                        self.problem = "a line is torn"
                    else:
                        if value is not None:
                            yield value
        except OSError as error:
            self.problem = str(error.strerror)

    def _ended(self, whole: dict[str, ReadEntry]) -> Iterator[Batch]:
        """What has ended. `whole` gets the entries of jobs with iterations."""
        places: dict[int, tuple[str, str]] = {}
        for line in self.lines():
            if isinstance(line, PlaceLine):
                places[line.place] = line.node, line.allocation
            elif isinstance(line, Ends):
                batch = self.of_ends(line, places)
                if batch is not None:
                    yield batch
            else:
                batch = self.of_entry(line, whole)
                if batch is not None:
                    yield batch

    def of_entry(self, entry: ReadEntry, whole: dict[str, ReadEntry]) -> Batch | None:
        """None for what does not count, and for the end of a job with iterations, which is put into `whole`."""
        job, _, index = entry.name.partition(":")
        spec = self.jobs.get(job)
        if spec is None:
            return None
        if spec.iteration is not None and not index:
            whole[job] = entry
            return None
        if not self.ledger.counts(entry.name):
            return None
        return _of_entry(entry, spec, 0 if spec.iteration is None else int(index) - spec.iteration.start)

    def of_ends(self, ends: Ends, places: Mapping[int, tuple[str, str]]) -> Batch | None:
        """Those that count; None when none does."""
        specs: Sequence[JobSpec | None]
        if ends.job is None:
            specs, pos = [self.jobs.get(name) for name in ends.task], [0] * ends.count
        else:
            spec = self.jobs.get(ends.job)
            start = 0 if spec is None or spec.iteration is None else spec.iteration.start
            specs, pos = [spec] * ends.count, [index - start for index in ends.index] if start else ends.index
        since_s = ends.since_s
        where = [places.get(place, ("", "")) for place in ends.place]
        started_s = [since_s + time_us * _MICRO for time_us in ends.started_us]
        columns: list[Sequence[Any]] = [
            specs,
            pos,
            ends.column(ends.state),
            ends.column(ends.exit_code),
            ends.column(ends.reason),
            ends.column(ends.attempts),
            [node for node, _ in where],
            [allocation for _, allocation in where],
            ends.pid,
            [since_s + time_us * _MICRO for time_us in ends.column(ends.scheduled_us)],
            started_s,
            [begin_s + took_us * _MICRO for begin_s, took_us in zip(started_s, ends.took_us, strict=True)],
            [cpu_us * _MICRO for cpu_us in ends.cpu_us],
            ends.max_rss_kib,
        ]
        if self.ledger.drops or None in specs:
            counts = [
                spec is not None and self.ledger.counts(spec.task_name(at)) for spec, at in zip(specs, pos, strict=True)
            ]
            columns = [[value for value, is_in in zip(column, counts, strict=True) if is_in] for column in columns]
        return Batch(*columns) if columns[0] else None

    # --- all tasks --------------------------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Batch]:
        """All tasks: those that have ended first, in the order in which they did."""
        whole: dict[str, ReadEntry] = {}
        seen: dict[str, bytearray] = {}
        for batch in self._ended(whole):
            for spec, pos in zip(batch.jobs, batch.pos, strict=True):
                marks = seen.get(spec.name)
                if marks is None:
                    marks = seen[spec.name] = bytearray(spec.task_count)
                marks[pos] = 1
            yield batch
        for name, spec in self.jobs.items():
            marks = seen.pop(name, None)
            yield from self._not_seen(spec, marks, whole.get(name))

    def _not_seen(self, spec: JobSpec, marks: bytearray | None, whole: ReadEntry | None) -> Iterator[Batch]:
        """What has no end of its own: it has not ended, or ended together with its job, before it was started."""
        positions: Sequence[int] = range(spec.task_count)
        if marks is not None or self.ledger.drops:
            is_out = marks or bytes(spec.task_count)
            positions = [pos for pos in positions if not is_out[pos] and self.ledger.counts(spec.task_name(pos))]
        state, reason = of_unstarted(whole)
        for first in range(0, len(positions), _MOST_NOT_ENDED):
            part = positions[first : first + _MOST_NOT_ENDED]
            count = len(part)
            code, text, number, time_s = (None,) * count, ("",) * count, (0,) * count, (0.0,) * count
            how = (state,) * count, code, (reason,) * count, number
            yield Batch((spec,) * count, part, *how, text, text, number, time_s, time_s, time_s, time_s, number)

    def rows(self) -> Iterator[TaskRow]:
        """The same, one by one."""
        for batch in self.batches():
            for at in range(len(batch)):
                yield self.row(batch, at)

    def row(self, batch: Batch, at: int) -> TaskRow:
        """One task of a batch."""
        spec, pos, state, code = batch.jobs[at], batch.pos[at], batch.state[at], batch.exit_code[at]
        has_run = batch.pid[at] > 0 and batch.started_s[at] > 0
        ended_s = batch.ended_s[at]
        wd = self._wd(spec, pos, batch.allocation[at])
        placed = bool(batch.node[at])
        return TaskRow(
            spec.task_name(pos),
            state,
            code,
            "" if state == SUCCEEDED else batch.reason[at] or (f"exit code {code}" if code else ""),
            params_of(spec, pos),
            datetime.fromtimestamp(batch.started_s[at]) if has_run else None,
            datetime.fromtimestamp(ended_s) if ended_s else None,
            round(ended_s - batch.started_s[at], 6) if has_run else None,
            batch.node[at],
            round(batch.cpu_s[at], 6) if placed else None,
            batch.max_rss_kib[at] / 1024 if placed else None,
            batch.attempts[at],
            _file(spec, pos, spec.execution.stdout, wd),
            _file(spec, pos, spec.execution.stderr, wd),
        )

    def program_and_folder(self, spec: JobSpec, pos: int, allocation: str) -> tuple[str, str]:
        """The name of the program of a task, and where it ran."""
        program = spec.execution.exec
        if program is None:
            return "bash", self._wd(spec, pos, allocation)
        return os.path.basename(substitute(program, _variables(spec, pos))), self._wd(spec, pos, allocation)

    def _wd(self, spec: JobSpec, pos: int, allocation: str) -> str:
        """The folder of a task. Of one that was never placed some variables are not known, and stay as they stand."""
        root, wd = str(self._aux.parent), spec.execution.wd or ""
        if "$" not in wd:
            return f"{root}/{wd}" if wd else root
        values = _variables(spec, pos) | {"root_wd": root}
        if allocation:
            nodes = [part.rstrip("]").partition("[") for part in allocation.split(",")]
            cores = sum(ids.count(":") + 1 for _, _, ids in nodes)
            values |= {"ncores": str(cores), "nnodes": str(len(nodes)), "nlist": ",".join(name for name, _, _ in nodes)}
        return str(Path(root, substitute(wd, values)))


_OF_JOBS = (records.Submitted, records.SubmittedPart, records.Removed, records.Opened)


def _of_entry(entry: ReadEntry, spec: JobSpec, pos: int) -> Batch:
    """A line of the format `json`, all of whose values are text."""
    ran = entry.runtime
    times = {each["state"]: datetime.fromisoformat(each["date"]).timestamp() for each in entry.history}
    return Batch(
        (spec,),
        (pos,),
        (entry.state,),
        (None if ran.exit_code is None else int(ran.exit_code),),
        (entry.messages,),
        (int(ran.attempts or 0),),
        (ran.node or "",),
        (ran.allocation or "",),
        (int(ran.pid or 0),),
        (times.get(State.SCHEDULED.name, 0.0),),
        (times.get(State.EXECUTING.name, 0.0),),
        (times.get(entry.state, 0.0),),
        (float(ran.cpu_s or 0.0),),
        (int(ran.max_rss_kib or 0),),
    )


def of_unstarted(whole: ReadEntry | None) -> tuple[str, str]:
    """State and reason of tasks without an end of their own; `whole`: the end of their job, when that has come.

    A job that ends ends all its tasks that wait: they have been cancelled with it, or what they needed has failed.
    """
    if whole is None:
        return NOT_ENDED, ""
    state = State.OMITTED if whole.state == State.OMITTED.name else State.CANCELED
    return state.name, whole.messages


def _variables(spec: JobSpec, pos: int) -> dict[str, str]:
    iteration = spec.iteration
    if iteration is None:
        return {}
    return of_iteration(iteration.start + pos, iteration.value_at(pos), bool(iteration.params))


def parameters_of(spec: JobSpec) -> list[str]:
    """The names of the parameters of its tasks; none for those that only have an index."""
    iteration = spec.iteration
    if iteration is None or iteration.is_numbered:
        return []
    return [param.name for param in iteration.params] or ["itval"]


def params_of(spec: JobSpec, pos: int) -> dict[str, str]:
    """The parameters of a task."""
    iteration = spec.iteration
    if iteration is None or iteration.is_numbered:
        return {}
    if iteration.params:
        return {param.name: param.at(pos) for param in iteration.params}
    return {"itval": iteration.value_at(pos)}


def _file(spec: JobSpec, pos: int, name: str | None, wd: str) -> Path | None:
    """A file of a task by its template; of one with variables that only the agent knows, the name as it stands."""
    return None if name is None else Path(wd) / substitute(name, _variables(spec, pos))
