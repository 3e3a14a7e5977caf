"""Numbers worked out from a record: who used which core and when, and what was left unused. No I/O."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .record import Record


class Span(NamedTuple):
    """A stretch of time on a core; `row`: of the task, -1 for a gap."""

    row: int
    core: int
    from_s: float
    to_s: float


def times_of(record: Record, row: int) -> tuple[float, float]:
    """When a task ran: as measured around its process, else as its agent saw it."""
    real = record.real.get(row)
    return (record.tasks.started_s[row], record.tasks.ended_s[row]) if real is None else real


def spans(record: Record) -> Iterator[Span]:
    """Of all tasks that ran, one for each core."""
    tasks, cores = record.tasks, [place.cores for place in record.tasks.places]
    if record.real:
        for row in tasks.those_that_ran():
            for core in cores[tasks.place[row]]:
                yield Span(row, core, *times_of(record, row))
        return
    for row, (place, from_s, to_s) in enumerate(zip(tasks.place, tasks.started_s, tasks.ended_s, strict=True)):
        if from_s and to_s:
            for core in cores[place]:
                yield Span(row, core, from_s, to_s)


def limits(record: Record) -> tuple[float, float]:
    """The start of the first task and the end of the last; (0, 0) when none ran."""
    tasks = record.tasks
    times = zip(tasks.started_s, tasks.ended_s, strict=True)
    ends = [ended_s for started_s, ended_s in times if started_s]
    if not any(ends):
        return 0.0, 0.0
    if record.real:
        real = [times_of(record, row) for row in tasks.those_that_ran()]
        return min(from_s for from_s, _ in real), max(to_s for _, to_s in real)
    return min(filter(None, tasks.started_s)), max(ends)


def gaps(record: Record) -> Iterator[Span]:
    """When cores on which something ran were idle, between the first start of all and the last end; core by core."""
    first, last = limits(record)
    by_core: dict[int, list[tuple[float, float]]] = {}
    for span in spans(record):
        by_core.setdefault(span.core, []).append((span.from_s, span.to_s))
    for core in sorted(by_core):
        free_s = first
        for from_s, to_s in sorted(by_core[core]):
            if from_s > free_s:
                yield Span(-1, core, free_s, from_s)
            free_s = max(free_s, to_s)
        if free_s < last:
            yield Span(-1, core, free_s, last)


class CoreUse(NamedTuple):
    """Of one core: seconds in which something ran, the first start, the last end, how many tasks."""

    core: int
    busy_s: float
    first_s: float
    last_s: float
    tasks: int


def core_uses(record: Record) -> list[CoreUse]:
    """Of the cores on which something ran."""
    count = len(record.cores)
    busy, first, last = array("d", bytes(8 * count)), array("d", [math.inf]) * count, array("d", bytes(8 * count))
    tasks = array("q", bytes(8 * count))
    for _, core, from_s, to_s in spans(record):
        busy[core] += max(0.0, to_s - max(from_s, last[core]))  # tasks may share a core
        first[core] = min(first[core], from_s)
        last[core] = max(last[core], to_s)
        tasks[core] += 1
    return [CoreUse(core, busy[core], first[core], last[core], tasks[core]) for core in range(count) if tasks[core]]


class Unused(NamedTuple):
    """How long a core was idle before its first task, between tasks and after the last, of `total_s`."""

    core: int
    total_s: float
    initial_s: float
    between_s: float
    final_s: float

    @property
    def unused_s(self) -> float:
        return self.initial_s + self.between_s + self.final_s

    @property
    def utilization(self) -> float:
        """In per cent."""
        return 100.0 * (self.total_s - self.unused_s) / self.total_s if self.total_s else 0.0


def unused_times(record: Record, from_s: float, to_s: float, until_last: bool) -> list[Unused]:
    """Between two moments; with `until_last` each core only to the end of its last task."""
    found = []
    for use in core_uses(record):
        end_s = use.last_s if until_last else max(to_s, use.last_s)
        between_s = max(0.0, use.last_s - use.first_s - use.busy_s)
        found.append(
            Unused(use.core, end_s - from_s, max(0.0, use.first_s - from_s), between_s, max(0.0, end_s - use.last_s))
        )
    return found


def by_start(record: Record) -> list[int]:
    """The rows of what ran, in order of their starts."""
    return sorted(record.tasks.those_that_ran(), key=lambda row: times_of(record, row)[0])


def free_before(record: Record, rows: Iterable[int]) -> Iterator[tuple[int, float]]:
    """For each row, in order of starts: since when all its cores had been free; 0.0 when nothing had run on any of them."""
    tasks = record.tasks
    last = array("d", bytes(8 * len(record.cores)))
    for row in rows:
        cores = tasks.places[tasks.place[row]].cores
        yield row, max([last[core] for core in cores], default=0.0)
        to_s = times_of(record, row)[1]
        for core in cores:
            last[core] = max(last[core], to_s)


def dispatch_gaps(record: Record) -> dict[int, float]:
    """By core: seconds for which all cores of the task that came next were free already.

    What a core waits for other cores of a wide task is not in it, nor what it waits after its last task: that is the work's
    form, this is what the pilot has cost.
    """
    tasks, first_s = record.tasks, limits(record)[0]
    unused: dict[int, float] = {}
    for row, free_s in free_before(record, by_start(record)):
        wait_s = max(0.0, times_of(record, row)[0] - (free_s or first_s))
        for core in tasks.places[tasks.place[row]].cores:
            unused[core] = unused.get(core, 0.0) + wait_s
    return unused


class Launch(NamedTuple):
    """What starting and ending one task has cost beside its own time, in seconds."""

    row: int
    start_s: float
    finish_s: float
    real_s: float
    seen_s: float


def launches(record: Record) -> Iterator[Launch]:
    """Of what ran, in order of starts.

    A start counts from when the task was with its agent and its cores were free. Of an original neither is known so well: there
    it counts from when the pilot took the task as started, and only where the process itself was measured.
    """
    tasks = record.tasks
    for row, free_s in free_before(record, by_start(record)):
        started_s, ended_s = tasks.started_s[row], tasks.ended_s[row]
        from_s, to_s = times_of(record, row)
        if tasks.jobs[tasks.job[row]].words is None:
            if row in record.real:
                yield Launch(row, from_s - started_s, ended_s - to_s, to_s - from_s, ended_s - started_s)
            continue
        ready_s = min(from_s, max(tasks.scheduled_s[row], free_s) or from_s)
        yield Launch(row, from_s - ready_s, max(0.0, ended_s - to_s), to_s - from_s, max(ended_s, to_s) - ready_s)


def is_measured(record: Record) -> bool:
    """Whether times are those of the processes themselves: an original knows them by a wrapper only."""
    return bool(record.real) or all(job.words is not None for job in record.tasks.jobs)


class Spread(NamedTuple):
    """Of a series of numbers; by the names that qcg-pm-report gives them."""

    max: float
    min: float
    mean: float
    median: float
    median_lo: float
    median_hi: float
    stdev: float
    pstdev: float
    var: float
    pvar: float


def spread(numbers: Sequence[float]) -> Spread | None:
    """None for no numbers. The sample's deviation of a single one is 0."""
    ordered = sorted(numbers)
    count = len(ordered)
    if not count:
        return None
    mean = math.fsum(ordered) / count
    low, high = ordered[(count - 1) // 2], ordered[count // 2]
    squares = math.fsum([(number - mean) ** 2 for number in ordered])
    of_all, of_sample = squares / count, squares / (count - 1) if count > 1 else 0.0
    return Spread(
        ordered[-1],
        ordered[0],
        mean,
        (low + high) / 2,
        low,
        high,
        math.sqrt(of_sample),
        math.sqrt(of_all),
        of_sample,
        of_all,
    )


def average(numbers: Sequence[float]) -> float:
    """0 for no numbers."""
    return math.fsum(numbers) / len(numbers) if numbers else 0.0
