"""The tasks of a run in columns: a million of them are a few arrays, not a million objects.

A row is a task that has ended. Times are seconds since the epoch, 0.0 where it did not get that far. Rejected: numpy and
pandas, which a login node may not have, for sums that take a second.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..task_records import Batch

STATES = ("SUCCEED", "FAILED", "CANCELED", "OMITTED")
"""A row has the number of its state."""
SUCCEED = 0
_STATE_NUMBERS = {state: number for number, state in enumerate(STATES)}
NO_CODE = -(1 << 31)


class Core(NamedTuple):
    node: str
    name: str


class Place(NamedTuple):
    """Where tasks ran: (node, its cores) in words, also as `NODE[CORE:CORE],NODE2[CORE]`, and the numbers of these cores."""

    shares: tuple[tuple[str, tuple[str, ...]], ...]
    cores: tuple[int, ...]
    allocation: str

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(node for node, _ in self.shares)


NOWHERE = Place((), (), "")


class TaskEnd(NamedTuple):
    """One row in words; None for what is not known or did not happen."""

    name: str
    state: str
    queued_s: float | None
    scheduled_s: float | None
    started_s: float | None
    ended_s: float | None
    place: Place
    exit_code: int | None
    pid: int | None
    program: str
    folder: str
    cpu_s: float
    max_rss_kib: int
    attempts: int
    message: str
    seconds: float | None
    """Between its start and its end, as precisely as it is known."""

    @property
    def reason(self) -> str:
        """Why it ended badly, in a few words."""
        return (
            "" if self.state == "SUCCEED" else self.message or (f"exit code {self.exit_code}" if self.exit_code else "")
        )


class Job(NamedTuple):
    """What the tasks of a job have in common.

    Attributes:
        memory_bytes: what each asks for; 0: nothing in particular.
        start: the index of its first iteration; None: it has none, and is one task.
        words: program and folder of the task at a position that ran at an allocation; None: the tasks have their own.
    """

    name: str
    queued_s: float = 0.0
    memory_bytes: int = 0
    start: int | None = None
    words: Callable[[int, str], tuple[str, str]] | None = None


class Tasks:
    """The columns. Each is public: sums go over them, row by row is for what is shown."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.places: list[Place] = [NOWHERE]
        self.job = array("i")
        self.pos = array("i")
        self.state = array("b")
        self.scheduled_s = array("d")
        self.started_s = array("d")
        self.ended_s = array("d")
        self.place = array("i")
        self.exit_code = array("i")
        self.pid = array("i")
        self.cpu_s = array("d")
        self.max_rss_kib = array("q")
        self.attempts = array("i")
        self.messages: dict[int, str] = {}
        self._words: dict[int, tuple[str, str]] = {}
        self._took_s: dict[int, float] = {}
        """What an original has measured itself."""

    def __len__(self) -> int:
        return len(self.job)

    def extend(self, batch: Batch, jobs: Sequence[int], places: Sequence[int]) -> None:
        """`jobs`, `places`: their numbers. What was not started has no start."""
        first = len(self.job)
        self.job.extend(jobs)
        self.pos.extend(batch.pos)
        self.state.extend([_STATE_NUMBERS.get(state, 1) for state in batch.state])
        self.scheduled_s.extend(batch.scheduled_s)
        started = zip(batch.started_s, batch.pid, strict=True)
        self.started_s.extend([time_s if pid > 0 else 0.0 for time_s, pid in started])
        self.ended_s.extend(batch.ended_s)
        self.place.extend(places)
        self.exit_code.extend([NO_CODE if code is None else code for code in batch.exit_code])
        self.pid.extend(batch.pid)
        self.cpu_s.extend(batch.cpu_s)
        self.max_rss_kib.extend(batch.max_rss_kib)
        self.attempts.extend(batch.attempts)
        if any(batch.reason):
            self.messages.update({first + at: reason for at, reason in enumerate(batch.reason) if reason})

    def add(
        self,
        job: int,
        pos: int,
        state: str,
        times_s: tuple[float, float, float],
        place: int,
        exit_code: int | None,
        pid: int,
        words: tuple[str, str],
        took_s: float | None,
        attempts: int,
        message: str,
    ) -> None:
        """One of an original. `times_s`: when it was scheduled, started and ended; `words`: program and folder."""
        row = len(self.job)
        self._words[row] = words
        if took_s is not None:
            self._took_s[row] = took_s
        if message:
            self.messages[row] = message
        self.job.append(job)
        self.pos.append(pos)
        self.state.append(_STATE_NUMBERS.get(state, 1))
        self.scheduled_s.append(times_s[0])
        self.started_s.append(times_s[1])
        self.ended_s.append(times_s[2])
        self.place.append(place)
        self.exit_code.append(NO_CODE if exit_code is None else exit_code)
        self.pid.append(pid)
        self.cpu_s.append(0.0)
        self.max_rss_kib.append(0)
        self.attempts.append(attempts)

    def name(self, row: int) -> str:
        job = self.jobs[self.job[row]]
        return job.name if job.start is None else f"{job.name}:{job.start + self.pos[row]}"

    def those_that_ran(self) -> Iterator[int]:
        started, ended = self.started_s, self.ended_s
        return (row for row in range(len(started)) if started[row] > 0.0 and ended[row] > 0.0)

    def runtimes(self) -> array[float]:
        """Of those that ran, in order of their ends."""
        if self._took_s:
            return array("d", [self.seconds(row) for row in self.those_that_ran()])
        ends = zip(self.started_s, self.ended_s, strict=True)
        return array("d", [round(ended_s - started_s, 6) for started_s, ended_s in ends if started_s and ended_s])

    def seconds(self, row: int) -> float:
        """Of one that ran."""
        took_s = self._took_s.get(row)
        return round(self.ended_s[row] - self.started_s[row], 6) if took_s is None else took_s

    def __getitem__(self, row: int) -> TaskEnd:
        job, code, pid, place = (
            self.jobs[self.job[row]],
            self.exit_code[row],
            self.pid[row],
            self.places[self.place[row]],
        )
        words = self._words.get(row, ("", "")) if job.words is None else job.words(self.pos[row], place.allocation)
        return TaskEnd(
            self.name(row),
            STATES[self.state[row]],
            job.queued_s or None,
            self.scheduled_s[row] or None,
            self.started_s[row] or None,
            self.ended_s[row] or None,
            place,
            None if code == NO_CODE else code,
            pid if pid > 0 else None,
            *words,
            self.cpu_s[row],
            self.max_rss_kib[row],
            self.attempts[row],
            self.messages.get(row, ""),
            self.seconds(row) if self.started_s[row] and self.ended_s[row] else None,
        )

    def rows(self, names: Sequence[str]) -> dict[str, int]:
        """The last row of each of these names; those that are not there are left out."""
        numbers = {job.name: number for number, job in enumerate(self.jobs)}
        wanted: dict[tuple[int, int], str] = {}
        for name in names:
            job_name, colon, index = name.partition(":")
            number = numbers.get(job_name)
            if number is not None and bool(colon) == (self.jobs[number].start is not None):
                if not colon:
                    wanted[number, 0] = name
                elif index.isdigit():
                    wanted[number, int(index) - (self.jobs[number].start or 0)] = name
        jobs = {number for number, _ in wanted}
        found: dict[str, int] = {}
        for row, number in enumerate(self.job):
            if number in jobs and (number, self.pos[row]) in wanted:
                found[wanted[number, self.pos[row]]] = row
        return found
