"""`results.json` and `results.csv`: one row for each task, written beside the tasks when a submission is over."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from ...pilot.files import write_atomically
from ...pilot.model.errors import TransientError
from ..contexts.paths import printable
from ..description.task import Task
from ..job.record import TaskResult
from ..job.states import Reason
from .batch_job import BatchJob, Phase
from .state import Progress
from .work import Work

JSON_NAME, CSV_NAME = "results.json", "results.csv"


@dataclass(frozen=True)
class Row:
    """How one task ended; times are seconds since the epoch, `None` where nothing is known."""

    task: str
    name: str | None
    folder: str
    command: str
    state: str
    exit_code: int | None
    start_s: float | None
    end_s: float | None
    runtime_s: float | None
    node: str
    peak_bytes: int | None
    attempts: int
    job: str
    job_id: str
    reason: str


def rows(work: Work, progress: Progress, states: Mapping[str, str] = MappingProxyType({})) -> Iterator[Row]:
    """In the order of the submission's tasks; `states` has what tasks without a result are doing."""
    jobs = {name: job for job in progress.jobs.values() for name in job.tasks}
    for name, task in work.tasks.items():
        if name in jobs:
            yield _row(name, task, jobs[name], states.get(name))


def _row(name: str, task: Task, job: BatchJob, doing: str | None) -> Row:
    result = job.results.get(name)
    done = result is not None and result.exit_code == 0
    state = "finished" if done else "failed" if result is not None else doing or job.state.name
    start, end = (result.start_s, result.end_s) if result is not None else (None, None)
    return Row(
        task=name,
        name=task.task_name,
        folder=task.task_work_path,
        command=task.command,
        state="cancelled" if job.phase is Phase.CANCELED and not done else state,
        exit_code=None if result is None else result.exit_code,
        start_s=start,
        end_s=end,
        runtime_s=None if start is None or end is None else round(end - start, 6),
        node="" if result is None else result.node,
        peak_bytes=None if result is None else result.peak_bytes,
        attempts=job.attempt + 1 if result is None else result.attempt + result.starts,
        job=job.hash,
        job_id=job.id,
        reason=_missing(job, name) if done else _reason(job, result),
    )


def _reason(job: BatchJob, result: TaskResult | None) -> str:
    """Why a task has not ended well; that of its job counts where it is another than this task's own exit code."""
    if result is None:
        return job.reason
    own = f"exit code {result.exit_code}"
    return result.message or (own if job.reason in ("", Reason.PROGRAM) else job.reason)


def _missing(job: BatchJob, name: str) -> str:
    patterns = [printable(each.pattern) for each in job.missing if each.task == name]
    return f"missing: {', '.join(patterns)}" if patterns else ""


def write(folder: Path, work: Work, progress: Progress) -> None:
    """Both files, each whole or not at all. Raises TransientError when they cannot be written."""
    found = [asdict(row) for row in rows(work, progress)]
    text = io.StringIO()
    if found:
        writer = csv.DictWriter(text, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    for name, content in ((JSON_NAME, json.dumps(found, indent=1) + "\n"), (CSV_NAME, text.getvalue())):
        try:
            folder.mkdir(parents=True, exist_ok=True)  # it may have been removed meanwhile
            data = content.encode(errors="backslashreplace")  # of pilots: their words
            write_atomically(folder / name, data, mode=0o644)
        except OSError as error:
            what = f"cannot be written: {error.strerror or error}"
            raise TransientError(what, where=str(folder / name), remedy="mend it and run the same again") from error
