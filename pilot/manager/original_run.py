"""Continuing a run of QCG-PilotJob: its `track.reqs` and `track.states` as a journal of ours.

`track.reqs` has a job in each line, as it was submitted; `track.states` a line for each task or whole job that has ended. What
had ended is taken as ended, what ran runs again, as there. When and where a task ran stands only in `jobs.report`, and only for
those whose entry had been written; of the others nobody knows, and their times are those of the file. They all ran on a node of
the name QCG-PilotJob, which has left. From then on the run is ours; the original's report is kept beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..model.errors import JournalError, PilotfishError
from ..model.ids import JobNo, NodeNo, TaskKey
from ..model.job_spec import JobSpec
from ..model.resources import NodeSpec
from ..model.results import Result
from ..model.states import Cause, State
from ..wire import journal, records
from ..wire.describe import describe_jobs

REQUESTS = "track.reqs"
STATES = "track.states"
_FIRST = 1
_NODE = NodeSpec("QCG-PilotJob", ("0",))
_PID = 1
"""Of a task that is only known to have ended."""


def is_original(folder: Path) -> bool:
    """QCG-PilotJob has made it, and we have not taken it over."""
    names = (REQUESTS, STATES)
    return not (folder / journal.FILE_NAME).exists() and any((folder / name).exists() for name in names)


def take_over(folder: Path) -> None:
    """Write the journal by which the run is resumed. Raises JournalError that names the line that makes no sense."""
    jobs = _jobs(folder / REQUESTS)
    report = folder / "jobs.report"
    written = records_of(jobs, folder / STATES, _entries(report))
    content = b"".join([journal.HEADER, *map(journal.encode, written)])
    try:
        write_atomically(folder / journal.FILE_NAME, content)
        with suppress(FileNotFoundError):
            report.rename(report.with_name("jobs.report.original"))
    except OSError as error:
        raise JournalError(f"cannot be written: {error.strerror}", where=str(folder)) from error


def records_of(
    jobs: dict[str, JobSpec], states: Path, entries: Mapping[str, Mapping[str, Any]]
) -> Iterator[records.Record]:
    """The life of the run so far, in the order in which a manager of ours would have written it."""
    numbers = {name: JobNo(number) for number, name in enumerate(jobs, _FIRST)}
    when_s = states.stat().st_mtime if states.exists() else 0.0
    yield records.NodeJoined(_NODE)
    yield records.Submitted(JobNo(_FIRST), when_s, list(jobs.values()))
    for where, line in _lines(states):
        try:
            name, index, state = str(line["task"]), line["iteration"], State[line["state"]]
            job = jobs[name if index is None else name.rpartition(":")[0]]
            pos = _position(job, index)
        except (KeyError, TypeError, ValueError) as error:
            raise _senseless(where, f"no task of {REQUESTS} that has ended") from error
        number = numbers[job.name]
        if state is State.CANCELED:
            yield records.Canceled(number, pos if job.iteration is not None else None, when_s)
        elif state in (State.SUCCEED, State.FAILED) and pos is not None:
            # That others were omitted, and what became of a job with iterations, follows from these.
            key = TaskKey(number, pos, 1)
            yield records.Sent(NodeNo(0), when_s, [key])
            yield records.Ended([_result(key, state, when_s, entries.get(name, {}))])
    yield records.NodeLeft(NodeNo(0), when_s)


def _position(job: JobSpec, index: int | None) -> int | None:
    """Of a task in its job; None for a whole job with iterations. Raises ValueError where there is no such."""
    if index is None:
        return 0 if job.iteration is None else None
    pos = -1 if job.iteration is None else index - job.iteration.start
    if not 0 <= pos < job.task_count:
        raise ValueError(index)
    return pos


def _result(key: TaskKey, state: State, when_s: float, entry: Mapping[str, Any]) -> Result:
    """The end of a task, with what the report has of it."""
    began_s = ended_s = when_s
    exit_code, pid = (0 if state is State.SUCCEED else -1), _PID
    with suppress(KeyError, TypeError, ValueError, IndexError):
        times = [(step["state"], datetime.fromisoformat(step["date"]).timestamp()) for step in entry["history"]]
        began_s, ended_s = next(time for word, time in times if word == "EXECUTING"), times[-1][1]
    with suppress(KeyError, TypeError, ValueError):
        runtime = entry["runtime"]
        pid = int(runtime["pid"])
        exit_code = exit_code if state is State.SUCCEED else int(runtime["exit_code"])
    message = "" if state is State.SUCCEED else str(entry.get("message") or "failed under QCG-PilotJob")
    return Result(*key, state, Cause.EXITED, exit_code, pid, began_s, began_s, ended_s, 0.0, 0, message, ())


def _jobs(path: Path) -> dict[str, JobSpec]:
    jobs: dict[str, JobSpec] = {}
    for where, line in _lines(path):
        try:
            (job,) = describe_jobs([line], None)
        except PilotfishError as error:
            raise JournalError(f"{error.where}: {error.what}", where=where, remedy=error.remedy) from error
        if job.name in jobs:
            raise _senseless(where, f"job {job.name} a second time")
        jobs[job.name] = job
    return jobs


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each line. A torn last line was never acted upon."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise JournalError("cannot be read", where=str(path)) from error
    for number, line in enumerate(lines, 1):
        try:
            yield f"{path}: line {number}", json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise _senseless(f"{path}: line {number}", "no JSON") from error


def _entries(report: Path) -> dict[str, dict[str, Any]]:
    """What a report in JSON tells of each task; empty for any other."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError):
        for line in report.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if isinstance(entry, dict):
                found[str(entry.get("name"))] = entry
    return found


def _senseless(where: str, what: str) -> JournalError:
    remedy = f"correct the line; or submit the jobs of {REQUESTS} to a new pilot"
    return JournalError(f"is {what}", where=where, remedy=remedy)
