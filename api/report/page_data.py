"""What the page's script draws: the timeline, as bars or as the cells of a grid."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from . import figures, timeline
from .record import Record
from .tasks import SUCCEED

MOST_ROWS = 280
_MOST_BARS = 3000


def has_bars(record: Record) -> bool:
    """Whether there are few enough tasks to draw each, on a row for each core."""
    places = record.tasks.places
    spans = (
        sum(len(places[place].cores) for place in record.tasks.place)
        if len(record.tasks) <= _MOST_BARS
        else _MOST_BARS + 1
    )
    return spans <= _MOST_BARS and len(record.cores) <= MOST_ROWS


def data_of(record: Record, found: timeline.Grid) -> dict[str, Any]:
    axis = found.axis
    length = axis.to_s - axis.from_s
    data: dict[str, Any] = {"length": length, "columns": axis.columns}
    if not len(record.tasks):
        return data
    if has_bars(record):
        return data | _bars(record, found)
    rows = [[row.label, row.node] for row in found.rows]
    return data | {
        "rows": rows,
        "busy": _packed(found.busy),
        "bad": _packed(found.bad),
        "bars": None,
        "away": _away(record, axis, found.rows),
        "lost": _packed(found.lost) if record.lost else "",
    }


def _bars(record: Record, found: timeline.Grid) -> dict[str, Any]:
    axis, rows, row_of = found.axis, found.rows, found.row_of
    tasks = record.tasks
    bars = [
        [
            row_of[span.core],
            round(span.from_s - axis.from_s, 6),
            round(span.to_s - span.from_s, 6),
            int(tasks.state[span.row] != SUCCEED),
            span.row,
        ]
        for span in figures.spans(record)
    ]
    names = {int(bar[4]): tasks.name(int(bar[4])) for bar in bars}
    for place, lost in enumerate(record.lost, len(tasks)):
        names[place] = lost.task
        bars += [
            [row_of[core], round(lost.started_s - axis.from_s, 6), round(lost.ended_s - lost.started_s, 6), 2, place]
            for core in lost.cores
            if lost.started_s
        ]
    return {
        "rows": [[row.label, row.node] for row in rows],
        "bars": bars,
        "names": names,
        "states": ["succeeded", "did not succeed", "lost to a fault"],
        "away": _away(record, axis, rows),
    }


def _away(record: Record, axis: timeline.Axis, rows: Sequence[timeline.Row]) -> list[list[float]]:
    """(row, from, for how long), in which its node was not there."""
    stays: dict[str, list[tuple[float, float]]] = {}
    for node in record.nodes:
        stays.setdefault(node.name, []).append((node.from_s or axis.from_s, node.to_s or axis.to_s))
    away = []
    for place, row in enumerate(rows):
        before_s = axis.from_s
        for from_s, to_s in [*sorted(stays.get(row.node, [(axis.from_s, axis.to_s)])), (axis.to_s, axis.to_s)]:
            if from_s > before_s:
                away.append([place, round(before_s - axis.from_s, 3), round(from_s - before_s, 3)])
            before_s = max(before_s, to_s)
    return away


def _packed(rows: Sequence[Iterable[float]]) -> str:
    """A byte for each cell. What is not nothing is not shown as nothing."""
    return base64.b64encode(bytes(min(255, round(part * 254 + 0.499)) for row in rows for part in row)).decode()
