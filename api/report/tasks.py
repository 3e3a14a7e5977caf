"""The tasks of a run in columns: a million of them are a few arrays, not a million objects.

A row is a task that has ended. Times are seconds since the epoch, 0.0 where it did not get that far. Rejected: numpy and
pandas, which a login node may not have, for sums that take a second.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

STATES = ("SUCCEED", "FAILED", "CANCELED", "OMITTED")
"""A row has the number of its state."""
SUCCEED = 0
_STATE_NUMBERS = {state: number for number, state in enumerate(STATES)}
_NO_INDEX = -(1 << 62)
NO_CODE = -(1 << 31)


class Core(NamedTuple):
    node: str
    name: str


class Place(NamedTuple):
    """Where tasks ran: (node, its cores) in words, and the numbers of these cores."""

    shares: tuple[tuple[str, tuple[str, ...]], ...]
    cores: tuple[int, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(node for node, _ in self.shares)


NOWHERE = Place((), ())


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

    @property
    def seconds(self) -> float | None:
        return None if self.started_s is None or self.ended_s is None else round(self.ended_s - self.started_s, 6)

    @property
    def reason(self) -> str:
        """Why it ended badly, in a few words."""
        return (
            "" if self.state == "SUCCEED" else self.message or (f"exit code {self.exit_code}" if self.exit_code else "")
        )


class Job(NamedTuple):
    """What the tasks of a job have in common. `memory_bytes`: what each asks for, 0 for no limit."""

    name: str
    queued_s: float = 0.0
    memory_bytes: int = 0


class Texts:
    """Numbers for texts that many tasks have in common."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return number


class Tasks:
    """The columns. Each is public: sums go over them, row by row is for what is shown."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.places: list[Place] = [NOWHERE]
        self.job = array("i")
        self.index = array("q")
        self.state = array("b")
        self.scheduled_s = array("d")
        self.started_s = array("d")
        self.ended_s = array("d")
        self.place = array("i")
        self.exit_code = array("i")
        self.pid = array("q")
        self.cpu_s = array("d")
        self.max_rss_kib = array("q")
        self.attempts = array("i")
        self.messages: dict[int, str] = {}
        self._program, self._folder, self._texts = array("i"), array("i"), Texts()

    def __len__(self) -> int:
        return len(self.job)

    def add(
        self,
        job: int,
        index: int | None,
        state: str,
        times_s: tuple[float, float, float],
        place: int,
        exit_code: int | None,
        pid: int,
        program: str,
        folder: str,
        cpu_s: float,
        max_rss_kib: int,
        attempts: int,
        message: str,
    ) -> None:
        """`times_s`: when it was scheduled, started and ended; `job`, `place`: their numbers."""
        if message:
            self.messages[len(self.job)] = message
        self.job.append(job)
        self.index.append(_NO_INDEX if index is None else index)
        self.state.append(_STATE_NUMBERS.get(state, 1))
        self.scheduled_s.append(times_s[0])
        self.started_s.append(times_s[1])
        self.ended_s.append(times_s[2])
        self.place.append(place)
        self.exit_code.append(NO_CODE if exit_code is None else exit_code)
        self.pid.append(pid)
        self._program.append(self._texts.number(program))
        self._folder.append(self._texts.number(folder))
        self.cpu_s.append(cpu_s)
        self.max_rss_kib.append(max_rss_kib)
        self.attempts.append(attempts)

    def name(self, row: int) -> str:
        job, index = self.jobs[self.job[row]].name, self.index[row]
        return job if index == _NO_INDEX else f"{job}:{index}"

    def has_run(self, row: int) -> bool:
        return self.started_s[row] > 0.0 and self.ended_s[row] > 0.0

    def those_that_ran(self) -> Iterator[int]:
        started, ended = self.started_s, self.ended_s
        return (row for row in range(len(started)) if started[row] > 0.0 and ended[row] > 0.0)

    def runtimes(self) -> array[float]:
        """Of those that ran, in order of their ends."""
        ends = zip(self.started_s, self.ended_s, strict=True)
        return array("d", [round(ended_s - started_s, 6) for started_s, ended_s in ends if started_s and ended_s])

    def __getitem__(self, row: int) -> TaskEnd:
        job, code, pid = self.jobs[self.job[row]], self.exit_code[row], self.pid[row]
        return TaskEnd(
            self.name(row),
            STATES[self.state[row]],
            job.queued_s or None,
            self.scheduled_s[row] or None,
            self.started_s[row] or None,
            self.ended_s[row] or None,
            self.places[self.place[row]],
            None if code == NO_CODE else code,
            pid if pid > 0 else None,
            self._texts[self._program[row]],
            self._texts[self._folder[row]],
            self.cpu_s[row],
            self.max_rss_kib[row],
            self.attempts[row],
            self.messages.get(row, ""),
        )

    def rows(self, names: Sequence[str]) -> dict[str, int]:
        """The last row of each of these names; those that are not there are left out."""
        wanted: dict[tuple[str, int], str] = {}
        for name in names:
            job, colon, index = name.partition(":")
            if not colon or index.lstrip("-").isdigit():
                wanted[job, int(index) if colon else _NO_INDEX] = name
        numbers = {number for number, job in enumerate(self.jobs) if any(job.name == name for name, _ in wanted)}
        found: dict[str, int] = {}
        for row, job_number in enumerate(self.job):
            if job_number in numbers:
                name = wanted.get((self.jobs[job_number].name, self.index[row]), "")
                if name:
                    found[name] = row
        return found
