"""Time in columns, cores in rows: what a picture shows of very many tasks. Pure.

Each span is counted in constant time, however many columns it covers: its two ends by their part of a column, what lies between
by marks where it begins and ends, which one pass over the grid adds up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import mul
from typing import NamedTuple

from .figures import Span, spans
from .record import Record
from .tasks import SUCCEED


class Axis(NamedTuple):
    """`columns` columns of `step_s` seconds from `from_s` on."""

    from_s: float
    step_s: float
    columns: int

    @property
    def to_s(self) -> float:
        return self.from_s + self.step_s * self.columns

    def column(self, time_s: float) -> int:
        return min(self.columns - 1, max(0, int((time_s - self.from_s) / self.step_s)))


def axis_of(from_s: float, to_s: float, columns: int) -> Axis:
    """At least a microsecond long."""
    return Axis(from_s, max(1e-6, to_s - from_s) / columns, columns)


class Sums:
    """For each column, how many spans there were on average; they may be added in any order.

    Two loops over a million spans go through here, so it is written for speed: times are in columns.
    """

    def __init__(self, axis: Axis, rows: int = 1) -> None:
        self._columns = axis.columns
        self._from_s = axis.from_s
        self._scale = 1.0 / axis.step_s
        self._stride = axis.columns + 1
        self._parts = [0.0] * (rows * self._stride)
        self._marks = [0.0] * (rows * self._stride)

    def add(self, row: int, from_s: float, to_s: float, weight: float = 1.0) -> None:
        from_x, to_x = (from_s - self._from_s) * self._scale, (to_s - self._from_s) * self._scale
        from_x = max(from_x, 0.0)
        if to_x > self._columns:
            to_x = float(self._columns)
        if to_x <= from_x:
            return
        first, last = int(from_x), int(to_x)
        at = row * self._stride + first
        if first == last:
            self._parts[at] += weight * (to_x - from_x)
            return
        self._parts[at] += weight * (first + 1 - from_x)
        self._marks[at + 1] += weight
        at += last - first
        self._parts[at] += weight * (to_x - last)
        self._marks[at] -= weight

    def add_steps(self, times_s: Iterable[float], weight: float) -> None:
        """Spans from each of these times to the end, in the first row."""
        counts, offsets, columns = [0] * self._stride, [0.0] * self._stride, self._columns
        from_s, scale = self._from_s, self._scale
        for time_s in times_s:
            place = (time_s - from_s) * scale
            column = int(place) if place > 0.0 else 0
            if column < columns:
                counts[column] += 1
                offsets[column] += place if place > 0.0 else 0.0
        for column, count in enumerate(counts[:-1]):
            self._parts[column] += weight * (count * (column + 1) - offsets[column])
            self._marks[column + 1] += weight * count

    def row(self, row: int) -> list[float]:
        base, level, sums = row * self._stride, 0.0, []
        for column in range(base, base + self._columns):
            level += self._marks[column]
            sums.append(self._parts[column] + level)
        return sums


class Row(NamedTuple):
    """A core, a node or some nodes. `node`: its name, empty for several."""

    label: str
    node: str
    cores: int


class Grid(NamedTuple):
    """For each row and column the part of the time, 0 to 1, in which tasks ran (`busy`), such that did not succeed (`bad`), and
    attempts that were lost (`lost`).
    """

    axis: Axis
    rows: list[Row]
    row_of: list[int]
    """By number of the core."""
    busy: list[list[float]]
    bad: list[list[float]]
    lost: list[list[float]]


def layout(record: Record, most_rows: int) -> tuple[list[Row], list[int]]:
    """A row for each core if there are not too many, else for each node, else for some nodes each; and the row of each core."""
    by_node: dict[str, list[int]] = {}
    for number, core in enumerate(record.cores):
        by_node.setdefault(core.node, []).append(number)
    rows: list[Row] = []
    row_of = [0] * len(record.cores)
    if len(record.cores) <= most_rows:
        for node, numbers in by_node.items():
            for number in sorted(numbers, key=lambda number: _natural(record.cores[number].name)):
                row_of[number] = len(rows)
                rows.append(Row(f"{node}:{record.cores[number].name}", node, 1))
        return rows, row_of
    nodes = list(by_node)
    together = math.ceil(len(nodes) / most_rows)
    for first in range(0, len(nodes), together):
        some = nodes[first : first + together]
        for node in some:
            for number in by_node[node]:
                row_of[number] = len(rows)
        label = some[0] if len(some) == 1 else f"{some[0]} … {some[-1]}"
        rows.append(Row(label, some[0] if len(some) == 1 else "", sum(len(by_node[node]) for node in some)))
    return rows, row_of


def _natural(name: str) -> tuple[int, str]:
    """`2` before `10`; a core of two threads, `0&40`, by the first."""
    number = name.partition("&")[0]
    return (int(number), name) if number.isdigit() else (1 << 30, name)


def grid(record: Record, axis: Axis, most_rows: int) -> Grid:
    rows, row_of = layout(record, most_rows)
    busy, bad, lost = (Sums(axis, len(rows)) for _ in range(3))
    state = record.tasks.state
    for row, core, from_s, to_s in spans(record):
        busy.add(row_of[core], from_s, to_s)
        if state[row] != SUCCEED:
            bad.add(row_of[core], from_s, to_s)
    for attempt in record.lost:
        for core in attempt.cores:
            if attempt.started_s:
                lost.add(row_of[core], attempt.started_s, attempt.ended_s)
    return Grid(axis, rows, row_of, *[_shares(sums, rows, axis) for sums in (busy, bad, lost)])


def _shares(sums: Sums, rows: Sequence[Row], axis: Axis) -> list[list[float]]:
    return [[min(1.0, max(0.0, count / row.cores)) for count in sums.row(number)] for number, row in enumerate(rows)]


class Series(NamedTuple):
    """For each column of an axis: cores in use, cores that were there, tasks that waited, tasks that ended (well, badly)."""

    busy: list[float]
    cores: list[float]
    waiting: list[float]
    succeeded: list[int]
    failed: list[int]


def series(record: Record, busy: Grid, axis: Axis) -> Series:
    """`axis`: of `busy`, with columns that are some of its columns each."""
    together = busy.axis.columns // axis.columns
    cores = [row.cores for row in busy.rows]
    taken = (zip(*rows, strict=True) for rows in (busy.busy, busy.lost))
    fine = [sum(map(mul, tasks, cores)) + sum(map(mul, lost, cores)) for tasks, lost in zip(*taken, strict=True)]
    in_use = [sum(fine[first : first + together]) / together for first in range(0, len(fine), together)]
    return Series(in_use, _present(record, axis), _waiting(record, axis), *_ends(record, axis))


def _present(record: Record, axis: Axis) -> list[float]:
    present = Sums(axis)
    for node in record.nodes:
        present.add(0, node.from_s or axis.from_s, node.to_s or axis.to_s, node.cores)
    return present.row(0) if record.nodes else [float(len(record.cores))] * axis.columns


def _waiting(record: Record, axis: Axis) -> list[float]:
    """From its submit each task waits until it starts, or ends without having been started."""
    waiting, tasks = Sums(axis), record.tasks
    for submit in record.submits:
        waiting.add(0, submit.time_s, axis.to_s, submit.tasks)
    times = zip(tasks.started_s, tasks.ended_s, strict=True)
    waiting.add_steps((started_s or ended_s for started_s, ended_s in times), -1.0)
    return [max(0.0, count) for count in waiting.row(0)]


def _ends(record: Record, axis: Axis) -> tuple[list[int], list[int]]:
    succeeded, failed = [0] * axis.columns, [0] * axis.columns
    for ended_s, state in zip(record.tasks.ended_s, record.tasks.state, strict=True):
        if ended_s:
            (failed if state else succeeded)[axis.column(ended_s)] += 1
    return succeeded, failed


def runs_of(values: Iterable[int]) -> list[tuple[int, int, int]]:
    """Equal neighbours together: (first column, number of columns, value), without those of value 0."""
    found: list[tuple[int, int, int]] = []
    first, before, place = 0, 0, -1
    for place, value in enumerate(values):
        if value != before:
            if before:
                found.append((first, place - first, before))
            first, before = place, value
    if before:
        found.append((first, place + 1 - first, before))
    return found


_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def ticks(length_s: float, most: int) -> list[float]:
    """Round times from 0 on, in equal steps, at most as many."""
    step = next((step for step in _STEPS_S if length_s / step <= most), 0.0)
    if length_s < most:  # parts of a second: 1, 2 or 5 of some power of ten
        power = 10.0 ** math.floor(math.log10(max(length_s, 1e-6) / most))
        step = next(power * digit for digit in (1, 2, 5, 10) if length_s / (power * digit) <= most)
    elif not step:
        step = 86400.0 * math.ceil(length_s / 86400 / most)
    return [number * step for number in range(int(length_s / step + 1e-9) + 1)]


def tick_text(seconds: float, step_s: float) -> str:
    """`0.05 s`, `40 s`, `10 min`, `1:30 min`, `2 h`, `2:15 h`, `3 d`."""
    if step_s < 1:
        return f"{seconds:.{max(0, -math.floor(math.log10(step_s) + 1e-9))}f} s"
    whole = round(seconds)
    if not whole or max(seconds, step_s) < 60:
        return f"{whole} s" if whole else "0"
    if step_s % 86400 == 0:
        return f"{whole // 86400} d"
    size, unit = (3600, "h") if max(seconds, step_s) >= 3600 else (60, "min")
    rest = whole % size * 60 // size
    return f"{whole // size}:{rest:02} {unit}" if rest else f"{whole // size} {unit}"


def coloured(spans_: Sequence[Span], record: Record) -> dict[str, list[Span]]:
    """Spans by what became of their tasks: `good`, `bad`, `gap`."""
    by_kind: dict[str, list[Span]] = {}
    for span in spans_:
        kind = "gap" if span.row < 0 else "good" if record.tasks.state[span.row] == SUCCEED else "bad"
        by_kind.setdefault(kind, []).append(span)
    return by_kind
