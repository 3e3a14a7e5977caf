"""What is kept of an attempt that has ended: the words of the journal, of reports and of what clients ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .ids import JobNo, NodeNo
from .states import Cause, State


class PlacedPart(NamedTuple):
    """What it had of a named resource: as resources.Taken, the slots in hexadecimal."""

    name: str
    amount: int
    slots: str
    parts: int


class PlacedShare(NamedTuple):
    """Where a task ran: core and GPU slots of one node as bit masks in hexadecimal (they may be wider than 64 bits)."""

    node: NodeNo
    cores: str
    gpus: str
    named: tuple[PlacedPart, ...] = ()


class Result(NamedTuple):
    """End of one attempt. `state` QUEUED: it is tried again (retry, lost node); else a final state of the task.

    Times are seconds since the epoch; 0.0 where the attempt did not get that far. `exit_code` is -n after signal n, -1
    when the task could not be started.
    """

    job_no: JobNo
    pos: int
    run: int
    state: State
    cause: Cause
    exit_code: int
    pid: int
    scheduled_s: float
    started_s: float
    ended_s: float
    cpu_s: float
    max_rss_kib: int
    message: str
    shares: tuple[PlacedShare, ...]


class Successes(NamedTuple):
    """Ends of attempts that nothing distinguishes: at iterations of one job, sent in one turn, and ended with exit code 0.

    What differs has a column each, all in the same order. `place` has numbers into `places`, where the tasks ran.
    """

    job_no: JobNo
    run: int
    scheduled_s: float
    places: list[tuple[PlacedShare, ...]]
    pos: list[int]
    place: list[int]
    pid: list[int]
    started_s: list[float]
    ended_s: list[float]
    cpu_s: list[float]
    max_rss_kib: list[int]

    def each(self) -> Iterator[Result]:
        """The same as single results. Raises ValueError when the columns have different lengths, IndexError for no place."""
        job_no, run, scheduled_s, places, *columns = self
        for pos, place, pid, started_s, ended_s, cpu_s, max_rss_kib in zip(*columns, strict=True):
            if place < 0:
                raise IndexError(place)
            times = scheduled_s, started_s, ended_s
            how = State.SUCCEED, Cause.EXITED, 0
            yield Result(job_no, pos, run, *how, pid, *times, cpu_s, max_rss_kib, "", places[place])
