"""What is known of one run, or of several that are looked at together: read once, never changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .tasks import Core, Tasks


class RunFacts(NamedTuple):
    """One of the runs. Times are seconds since the epoch; `ended_s` 0.0: it is still at work, or was killed."""

    name: str
    path: Path
    state: str
    began_s: float
    ended_s: float
    tasks: int


class NodeFacts(NamedTuple):
    """A node and when it was there; `to_s` 0.0: to the end. `joined`: it came from another allocation."""

    name: str
    cores: int
    gpus: int
    memory_bytes: int
    from_s: float
    to_s: float
    joined: bool


class LostAttempt(NamedTuple):
    """A start of a task that came to nothing: the task was started again. `cores`: their numbers."""

    task: str
    node: str
    cores: tuple[int, ...]
    started_s: float
    ended_s: float
    reason: str

    @property
    def core_seconds(self) -> float:
        return max(0.0, self.ended_s - self.started_s) * len(self.cores) if self.started_s else 0.0


class Fault(NamedTuple):
    """Something that was there and went away before the end."""

    time_s: float
    node: str
    event: str


class Failure(NamedTuple):
    """A task that did not succeed. `lines`: the last ones that it wrote to stderr, else to stdout."""

    row: int
    lines: str


class Submit(NamedTuple):
    time_s: float
    tasks: int


class RealTimes(NamedTuple):
    """When the process itself began and ended, as a wrapper around it has measured."""

    started_s: float
    ended_s: float


@dataclass
class Record:
    """Everything that views and the page are made from.

    Attributes:
        runs: in the order in which they were named.
        cores: all cores of all nodes, used or not; tasks name them by number.
        tasks: those that have ended.
        unlisted: by state, tasks that ended without having been started and have no row of their own.
        left: tasks that have not ended.
        submits: when how many tasks were accepted, in order.
        lost: attempts that were repeated.
        faults: in order of time.
        failures: the first ones.
        real: by row; empty when no wrapper has measured.
        problems: why it may not be all.
    """

    runs: list[RunFacts] = field(default_factory=list)
    nodes: list[NodeFacts] = field(default_factory=list)
    cores: list[Core] = field(default_factory=list)
    tasks: Tasks = field(default_factory=Tasks)
    unlisted: Counter[str] = field(default_factory=Counter)
    left: int = 0
    submits: list[Submit] = field(default_factory=list)
    lost: list[LostAttempt] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    real: dict[int, RealTimes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def began_s(self) -> float:
        """When the first of the runs began; 0.0 when that is not known."""
        return min((run.began_s for run in self.runs if run.began_s), default=0.0)

    @property
    def ended_s(self) -> float:
        """When the last of the runs ended; 0.0 while one of them has not."""
        ends = [run.ended_s for run in self.runs]
        return max(ends, default=0.0) if all(ends) else 0.0
