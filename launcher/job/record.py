"""What jobs write about themselves: one small file for each ended task, one record for each ended job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .states import JobState, Reason, Status


@dataclass(frozen=True)
class TaskResult:
    """How one task ended.

    Attributes:
        exit_code: of the command; 255 for a task that a pilot could not start, cancelled or left out.
        start_s, end_s: seconds since the epoch.
        attempt: of its job, from 0.
        peak_bytes: peak memory, where something measured it.
        starts: how often it was started within that attempt.
        message: what else was said about it.
    """

    hash: str
    exit_code: int
    start_s: float | None = None
    end_s: float | None = None
    node: str = ""
    attempt: int = 0
    peak_bytes: int | None = None
    starts: int = 1
    message: str = ""


@dataclass(frozen=True)
class JobResult:
    """The record that a job writes as its shell exits. `exit_code` 0: all its tasks have ended well."""

    hash: str
    attempt: int
    job_id: str
    node: str
    exit_code: int
    start_s: float
    end_s: float
    append_exit_code: int | None
    tasks: tuple[TaskResult, ...]


def parse(text: bytes) -> JobResult | None:
    """A job's record; None for what is none (a file system that lost half of it)."""
    try:
        found = json.loads(text)
        return JobResult(
            hash=found["job"],
            attempt=found["attempt"],
            job_id=found["id"],
            node=found["node"],
            exit_code=found["exit_code"],
            start_s=found["start_s"],
            end_s=found["end_s"],
            append_exit_code=found["append_exit_code"],
            tasks=tuple(_task(each) for each in found["tasks"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def command_status(text: bytes) -> Status | None:
    """How a job with one command has ended, by its record; None when there is none yet."""
    found = parse(text)
    if found is None:
        return None
    code = found.tasks[0].exit_code if found.tasks else found.exit_code or 1
    state, reason = (JobState.terminated, Reason.PROGRAM) if code else (JobState.finished, "")
    if not found.tasks and found.exit_code > 128:
        reason = Reason.CANCELLED
    return Status(state, "", reason, code, found.start_s, found.end_s, found.node)


def _task(found: dict[str, Any]) -> TaskResult:
    return TaskResult(**found)


def parse_lines(text: str) -> dict[str, TaskResult]:
    """Task results by hash, of the small files' lines: hash, exit code, start, end, node, attempt. Others are skipped."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        try:
            name, code, start, end, node, attempt = words
            found[name] = TaskResult(name, int(code), float(start), float(end), node, int(attempt))
        except ValueError:
            continue
    return found
