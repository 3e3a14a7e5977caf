"""The report in columns: what `jobs.report` is for very many tasks, in less than a fifth of the room.

Each line is a JSON object, and what it is shows by its first member:

    {"format": "columns", "version": 1}
    {"place": 3, "node": "n1", "allocation": "n1[0:4]"}
    {"job": "sweep", "index": [0, 1, 2], "place": [3, 3, 4], ..., "exit_code": [0, 0, 7]}
    {"name": "sweep", ...}

A place is where tasks ran; its number is used by the lines that follow, until another line gives it another meaning. The third
kind is a batch of tasks that have ended: `index` of one job, or `task`, the names of jobs that are one task each. A column that
has the same value for all of them is that value. Times are microseconds: `started_us` since `since_s` (seconds since 1970),
`took_us` since the start. `pid` 0 or less: it could not be started. The fourth kind is an entry as in the format `json`: whole
jobs with iterations, and what was never placed.

What follows from the job's description (folder, program) is not in it.

Rejected: a binary format, which nobody could read without us for the sake of a third of the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import sub
from typing import NamedTuple, TypeVar

import msgspec

from ..model.results import Successes
from ..model.states import State
from . import codec
from .report import ReadEntry, decode_json

HEADER = b'{"format":"columns","version":1}\n'
_MICRO = 1e6

_T = TypeVar("_T")


class Ends(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tasks that have ended together; see above. `column` gives a column that may be one value as a list."""

    job: str | None = None
    index: list[int] = []
    task: list[str] = []
    place: list[int]
    since_s: float
    scheduled_us: int | list[int] = 0
    started_us: list[int]
    took_us: list[int]
    pid: list[int]
    cpu_us: list[int]
    max_rss_kib: list[int]
    state: str | list[str] = State.SUCCEED.name
    exit_code: int | list[int] = 0
    attempts: int | list[int] = 1
    reason: str | list[str] = ""

    @property
    def count(self) -> int:
        return len(self.place)

    def names(self) -> list[str]:
        return self.task if self.job is None else [f"{self.job}:{index}" for index in self.index]

    def column(self, value: _T | list[_T]) -> list[_T]:
        return value if isinstance(value, list) else [value] * len(self.place)

    def check(self) -> None:
        """Raises ValueError when the columns are not equally long."""
        count = len(self.place)
        columns = (self.task if self.job is None else self.index, self.started_us, self.took_us, self.pid, self.cpu_us)
        others = (self.max_rss_kib, self.scheduled_us, self.state, self.exit_code, self.attempts, self.reason)
        if any(isinstance(column, list) and len(column) != count for column in (*columns, *others)):
            raise ValueError("columns of different lengths")


class PlaceLine(msgspec.Struct):
    place: int
    node: str
    allocation: str


class EndedTask(NamedTuple):
    """One task for `batch`. Times in seconds since the epoch; `place` is its number in this file.

    `of_job`: its index among the iterations of its job; None without.
    """

    name: str
    of_job: int | None
    state: State
    exit_code: int
    pid: int
    place: int
    max_rss_kib: int
    cpu_s: float
    scheduled_s: float
    started_s: float
    ended_s: float
    attempts: int
    reason: str


def of_successes(job: str, first_index: int, ends: Successes, places: Sequence[int]) -> bytes:
    """The line for these; `places`: the numbers in this file of `ends.places`."""
    since_s = ends.scheduled_s
    return _line(
        Ends(
            job=job,
            index=ends.pos if first_index == 0 else [first_index + pos for pos in ends.pos],
            place=[places[place] for place in ends.place],
            since_s=since_s,
            started_us=[round((time_s - since_s) * _MICRO) for time_s in ends.started_s],
            took_us=[round(took_s * _MICRO) for took_s in map(sub, ends.ended_s, ends.started_s)],
            pid=ends.pid,
            cpu_us=[round(cpu_s * _MICRO) for cpu_s in ends.cpu_s],
            max_rss_kib=ends.max_rss_kib,
        )
    )


def of_tasks(job: str | None, tasks: Sequence[EndedTask]) -> bytes:
    """The line for tasks of one job, or, without `job`, for jobs that are one task each."""
    since_s = tasks[0].scheduled_s
    return _line(
        Ends(
            job=job,
            index=[] if job is None else [task.of_job or 0 for task in tasks],
            task=[task.name for task in tasks] if job is None else [],
            place=[task.place for task in tasks],
            since_s=since_s,
            scheduled_us=_one([round((task.scheduled_s - since_s) * _MICRO) for task in tasks]),
            started_us=[round((task.started_s - since_s) * _MICRO) for task in tasks],
            took_us=[round((task.ended_s - task.started_s) * _MICRO) for task in tasks],
            pid=[task.pid for task in tasks],
            cpu_us=[round(task.cpu_s * _MICRO) for task in tasks],
            max_rss_kib=[task.max_rss_kib for task in tasks],
            state=_one([task.state.name for task in tasks]),
            exit_code=_one([task.exit_code for task in tasks]),
            attempts=_one([task.attempts for task in tasks]),
            reason=_one([task.reason for task in tasks]),
        )
    )


def of_place(number: int, node: str, allocation: str) -> bytes:
    return _line(PlaceLine(number, node, allocation))


def _line(value: msgspec.Struct) -> bytes:
    return codec.encode(value) + b"\n"


def _one(values: list[_T]) -> _T | list[_T]:
    """The value that all have; else all."""
    return values[0] if values.count(values[0]) == len(values) else values


_ends = msgspec.json.Decoder(Ends)


def decode(line: bytes) -> Ends | PlaceLine | ReadEntry | None:
    """What a line of a report in either JSON format says; None for the header. Raises ValueError for a torn line."""
    if line.startswith(_BATCHES):
        try:
            ends = _ends.decode(line)
        except msgspec.DecodeError:
            ends = codec.load(line, Ends)  # names that are not UTF-8
        ends.check()
        return ends
    if line.startswith(_PLACE):
        return codec.load(line, PlaceLine)
    return None if line == HEADER else decode_json(line)


_BATCHES, _PLACE = (b'{"job":', b'{"task":'), b'{"place":'
