"""What of a job's folder goes where the job runs, and what becomes of that which comes back."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..contexts.members import take
from ..contexts.staged import SentJob, StagedContext
from ..description.task import Task
from ..job import record, script
from ..job.spec import JobToPlace


def wanted(job: JobToPlace) -> list[str]:
    """Patterns below the job's folder of what shall come back: results, logs, and what tells how it went."""
    words = [f"{job.hash}_last_err_file", f"{job.hash}_result.json", script.reason_file(job.hash)]
    found = [posixpath.join(task.task_work_path, name) for task in job.tasks for name in task.backward_files]
    found += [posixpath.join(task.task_work_path, log) for task in job.tasks for log in _logs(task)]
    return list(dict.fromkeys([*found, *job.backward_common_files, *words, script.tasks_folder(job.hash)]))


def _logs(task: Task) -> list[str]:
    return [log for log in (task.outlog, task.errlog) if log is not None]


def patterns_of(job: JobToPlace) -> list[tuple[Sequence[str], str]]:
    """Patterns of what a job needs, each list with its folder; of an attempt before also what that has made."""
    found: list[tuple[Sequence[str], str]] = [(job.forward_common_files, "."), ([script.tasks_folder(job.hash)], ".")]
    for task, name in zip(job.tasks, job.hashes, strict=True):
        own = [*task.forward_files, *task.backward_files, *_logs(task), name + script.TASK_TAG]
        found.append((own, task.folder))
    return found


def begin(way: StagedContext, job: JobToPlace, key: str) -> SentJob:
    """Write down that a job is about to be sent; one of which that is written down already goes on as it was.

    Why an earlier attempt has ended badly is not why this one does.
    """
    if (before := way.begun(job.root, job.hash, job.attempt)) is not None:
        return before
    Path(job.root, script.reason_file(job.hash)).unlink(missing_ok=True)
    tasks = {name: task.folder for task, name in zip(job.tasks, job.hashes, strict=True)}
    sent = SentJob(job.hash, job.attempt, job.root, wanted(job), tasks, job.resources.walltime_s, key)
    way.begin(sent)
    return sent


def note_refusal(sent: SentJob, why: str) -> None:
    """What has come back was not taken: that is how the job ended, unless its tasks are known to have ended well."""
    Path(sent.root, script.reason_file(sent.job)).write_text(f"its results were refused: {why}\n")


def take_back(archive: Path, sent: SentJob) -> None:
    """Put what has come back into the job's folder, and its tasks' results where they are read.

    Raises TransferError for a damaged archive, ForeignPathError.
    """
    take(archive, sent.wanted, Path(sent.root))
    with suppress(OSError):
        found = record.parse(Path(sent.root, f"{sent.job}_result.json").read_bytes())
        if found is None or found.attempt != sent.attempt:
            return
        folder = Path(sent.root, script.tasks_folder(sent.job))
        folder.mkdir(exist_ok=True)
        for task in (each for each in found.tasks if each.hash in sent.tasks):
            line = f"{task.hash} {task.exit_code} {task.start_s} {task.end_s} {task.node or '-'} {task.attempt}\n"
            (folder / task.hash).write_text(line)
            if task.exit_code == 0:
                Path(sent.root, sent.tasks[task.hash], task.hash + script.TASK_TAG).touch()
        if found.exit_code == 0 and not any(task.exit_code for task in found.tasks):
            Path(sent.root, sent.job + script.FINISHED_TAG).touch()
