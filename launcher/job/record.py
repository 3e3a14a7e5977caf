"""What jobs write about themselves: one small file for each ended task, one record for each ended job."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from ..contexts.paths import printable
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
    """A job's record; None for what is none: a file system has lost half of it, or somebody else has written there."""
    try:
        found = json.loads(text)
        append_code = found["append_exit_code"]
        return JobResult(
            hash=_text(found["job"]),
            attempt=_whole(found["attempt"]),
            job_id=_text(found["id"]),
            node=_text(found["node"]),
            exit_code=_whole(found["exit_code"]),
            start_s=_seconds(found["start_s"]),
            end_s=_seconds(found["end_s"]),
            append_exit_code=None if append_code is None else _whole(append_code),
            tasks=tuple(_task(each) for each in found["tasks"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def command_status(text: bytes) -> Status | None:
    """How a job with one command has ended, by its record; None when there is none yet."""
    found = parse(text)
    if found is None:
        return None
    code = found.tasks[0].exit_code if found.tasks else found.exit_code or 1
    state, reason = (JobState.terminated, Reason.PROGRAM) if code else (JobState.finished, "")
    if not found.tasks and found.exit_code > 128:
        reason = Reason.CANCELED
    return Status(state, "", reason, code, found.start_s, found.end_s, found.node)


def element_status(text: bytes) -> Status | None:
    """How an element of an array has ended, whose script ends with the code of its command."""
    found = parse(text)
    if found is None:
        return None
    state, reason = (JobState.terminated, Reason.PROGRAM) if found.exit_code else (JobState.finished, "")
    return Status(state, "", reason, found.exit_code, found.start_s, found.end_s, found.node)


def _task(found: dict[str, Any]) -> TaskResult:
    return TaskResult(
        hash=_text(found["hash"]),
        exit_code=_whole(found["exit_code"]),
        start_s=_seconds(found["start_s"]),
        end_s=_seconds(found["end_s"]),
        node=_text(found["node"]),
        attempt=_whole(found["attempt"]),
    )


def _text(value: Any) -> str:
    """For people's terminals too."""
    if not isinstance(value, str):
        raise TypeError
    return printable(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return value


def parse_lines(text: str) -> dict[str, TaskResult]:
    """Task results by hash, of the small files' lines: hash, exit code, start, end, node, attempt. Others are skipped."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        try:
            name, code, start, end, node, attempt = words
            times = _seconds(float(start)), _seconds(float(end))
            found[name] = TaskResult(name, int(code), *times, printable(node), int(attempt))
        except (ValueError, TypeError):
            continue
    return found
