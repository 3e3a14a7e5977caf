"""What the page says of a run beside its timeline: spreads, groups and the tasks that stand out. Pure."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from .figures import times_of
from .record import NodeFacts, Record
from .tasks import STATES, SUCCEED

_BINS = 24
_MOST_GROUPS = 12
_MOST_JOBS = 20
_MOST_REASONS = 12


class Histogram(NamedTuple):
    """`counts[i]` numbers lie in [edges[i], edges[i + 1]); the edges are equally far apart on a logarithmic scale."""

    edges: list[float]
    counts: list[int]
    median: float
    p95: float
    max: float


def histogram(numbers: Sequence[float], least: float = 1e-3) -> Histogram | None:
    """None for no numbers; what is below `least` counts as that."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    low, high = math.log10(max(least, ordered[0])), math.log10(max(least, ordered[-1]))
    low, high = math.floor(low * 3) / 3, math.ceil(high * 3 + 1e-9) / 3
    high = max(high, low + 1 / 3)
    bins = min(_BINS, max(6, round((high - low) * 9)))
    edges = [10 ** (low + (high - low) * place / bins) for place in range(bins + 1)]
    counts, scale = [0] * bins, bins / (high - low)
    log10 = math.log10
    for number in ordered:
        counts[min(bins - 1, max(0, int((log10(number) - low) * scale) if number > least else 0))] += 1
    return Histogram(edges, counts, quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1])


def quantile(ordered: Sequence[float], part: float) -> float:
    """The number below which that part of the others lies; of a sorted series."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def waits(record: Record) -> array[float]:
    """Of those that ran: from the time when their job was accepted to their start."""
    tasks = record.tasks
    queued = [job.queued_s for job in tasks.jobs]
    return array(
        "d",
        [
            max(0.0, started_s - queued[job])
            for job, started_s in zip(tasks.job, tasks.started_s, strict=True)
            if started_s and queued[job]
        ],
    )


class Memory(NamedTuple):
    """Tasks that have asked for as much memory, in KiB; `asked` 0: for none in particular."""

    asked: int
    tasks: int
    median: float
    p95: float
    max: float


def memory_groups(record: Record) -> list[Memory]:
    """The largest ones; those that ran and whose use is known."""
    tasks = record.tasks
    asked = [job.memory_bytes // 1024 for job in tasks.jobs]
    by_asked: dict[int, array[int]] = {}
    for job, used in zip(tasks.job, tasks.max_rss_kib, strict=True):
        if used:
            by_asked.setdefault(asked[job], array("q")).append(used)
    groups = []
    for kib, numbers in by_asked.items():
        ordered = sorted(numbers)
        groups.append(Memory(kib, len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1]))
    return sorted(heapq.nlargest(_MOST_GROUPS, groups, key=lambda group: group.tasks))


class JobLine(NamedTuple):
    """A job: its tasks that ended, how many did not succeed, the median of their times, and all they used."""

    name: str
    tasks: int
    bad: int
    median_s: float
    core_s: float


def job_lines(record: Record) -> list[JobLine]:
    """Those that used most."""
    tasks = record.tasks
    count = len(tasks.jobs)
    total, bad, core_s = [0] * count, [0] * count, [0.0] * count
    cores = [len(place.cores) for place in tasks.places]
    for job, state, place, started_s, ended_s in zip(
        tasks.job, tasks.state, tasks.place, tasks.started_s, tasks.ended_s, strict=True
    ):
        total[job] += 1
        if state != SUCCEED:
            bad[job] += 1
        if started_s and ended_s:
            core_s[job] += (ended_s - started_s) * cores[place]
    largest = heapq.nlargest(_MOST_JOBS, range(count), key=lambda job: core_s[job])
    times: dict[int, array[float]] = {job: array("d") for job in largest}
    for job, started_s, ended_s in zip(tasks.job, tasks.started_s, tasks.ended_s, strict=True):
        if job in times and started_s and ended_s:
            times[job].append(ended_s - started_s)
    medians = {job: quantile(sorted(of_job), 0.5) if of_job else 0.0 for job, of_job in times.items()}
    return [JobLine(tasks.jobs[job].name, total[job], bad[job], medians[job], core_s[job]) for job in largest]


class NodeLine(NamedTuple):
    """A node: `busy` is the part of its cores' time in which tasks ran, of the time for which it was there."""

    name: str
    cores: int
    tasks: int
    bad: int
    busy: float
    from_s: float
    to_s: float
    joined: bool


def node_lines(record: Record, from_s: float, to_s: float) -> list[NodeLine]:
    """In the order in which they came. A task counts on its first node, its time on all of its cores."""
    tasks = record.tasks
    cores, seconds = Counter(core.node for core in record.cores), dict.fromkeys((c.node for c in record.cores), 0.0)
    places = [Counter(record.cores[core].node for core in place.cores) for place in tasks.places]
    firsts = [next(iter(place), "") for place in places]
    count, bad, busy = [0] * len(places), [0] * len(places), [0.0] * len(places)
    for row, (place, state, started_s, ended_s) in enumerate(
        zip(tasks.place, tasks.state, tasks.started_s, tasks.ended_s, strict=True)
    ):
        if started_s and ended_s:
            count[place] += 1
            bad[place] += state != SUCCEED
            begin_s, end_s = times_of(record, row) if record.real else (started_s, ended_s)
            busy[place] += end_s - begin_s
    total, failed = Counter[str](), Counter[str]()
    for number, nodes in enumerate(places):
        total[firsts[number]] += count[number]
        failed[firsts[number]] += bad[number]
        for node, width in nodes.items():
            seconds[node] += width * busy[number]
    stays: dict[str, list[NodeFacts]] = {}
    for fact in record.nodes:
        stays.setdefault(fact.name, []).append(fact)
    lines = []
    for node, width in cores.items():
        times = [(max(from_s, fact.from_s), fact.to_s or to_s) for fact in stays.get(node, ())] or [(from_s, to_s)]
        there_s = sum(max(0.0, end - begin) for begin, end in times)
        share = min(1.0, seconds[node] / (width * there_s)) if there_s else 0.0
        joined = any(fact.joined for fact in stays.get(node, ()))
        lines.append(NodeLine(node, width, total[node], failed[node], share, times[0][0], times[-1][1], joined))
    return lines


class Reason(NamedTuple):
    """Why tasks did not succeed, and the first of them."""

    state: str
    text: str
    tasks: int
    example: str


def reasons(record: Record) -> list[Reason]:
    """The most frequent first."""
    tasks, counts, firsts = record.tasks, Counter[tuple[int, str]](), dict[tuple[int, str], int]()
    for row, state in enumerate(tasks.state):
        if state != SUCCEED:
            key = (state, tasks[row].reason)
            counts[key] += 1
            firsts.setdefault(key, row)
    return [
        Reason(STATES[state], text, count, tasks.name(firsts[state, text]))
        for (state, text), count in counts.most_common(_MOST_REASONS)
    ]


def slowest(record: Record, count: int) -> list[int]:
    """Rows of those that took longest, the slowest first."""
    tasks = record.tasks
    return heapq.nlargest(count, tasks.those_that_ran(), key=lambda row: tasks.ended_s[row] - tasks.started_s[row])


def core_seconds(record: Record) -> float:
    """For which tasks had cores, whether they used them or not."""
    tasks = record.tasks
    cores = [len(place.cores) for place in tasks.places]
    return math.fsum(
        (ended_s - started_s) * cores[place]
        for place, started_s, ended_s in zip(tasks.place, tasks.started_s, tasks.ended_s, strict=True)
        if started_s and ended_s
    )
