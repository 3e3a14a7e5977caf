"""The two views that are pictures: what ran where and when, and when cores were idle.

They are SVG, with matplotlib also PNG or PDF. Up to some thousands of tasks each has its bar; beyond, columns show for what
part of their time cores were busy.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ...pilot.console import echo, show
from ...pilot.model.errors import PilotfishError, UsageError
from . import figures
from .figures import Span
from .record import Record
from .rendering import PRINTERS
from .svg import Picture, escape
from .timeline import Axis, axis_of, layout, runs_of, tick_text, ticks
from .timeline import Sums as _Sums
from .view import Moment, Table, View

VIEWS = {"gantt": figures.spans, "gantt-gaps": figures.gaps}
_TITLES = {"gantt": "Tasks by core", "gantt-gaps": "Idle cores"}

_MOST_BARS = 20_000
_MOST_ROWS = 1000
_COLUMNS = 1000
_LEVELS = 5
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 1200, 130, 20, 56, 34
_HEIGHT = 1600
"""Of all rows together, at most; a row has 16 at most and 1 at least."""


def write(name: str, record: Record, path: str | None, form: str) -> None:
    """The picture into a file, or onto stdout; with `form` csv or json the spans it shows. Raises PilotfishError."""
    if form != "text":
        if path is not None:
            raise UsageError(f"a picture is not {form}", where="FILE", remedy=f"leave out FILE or --{form}")
        PRINTERS[form](_view(name, record), record)
        return
    for problem in record.problems:
        echo(problem, err=True)
    suffix = Path(path or ".svg").suffix.lower() or ".svg" if path else ".svg"
    if suffix in (".svg", ".svgz") or path is None:
        text = draw(name, record)
        if path is None:
            show(text)
            return
        _put(path, text.encode())
    else:
        from .matplotlib_gantt import save

        save(_TITLES[name], record, list(VIEWS[name](record)), path)
    echo(f"{name} written to {path}", err=True)


def _put(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise PilotfishError(f"cannot be written: {error.strerror}", where=path) from error


def _view(name: str, record: Record) -> View:
    def cells(span: Span) -> tuple[str | float | None, ...]:
        core = record.cores[span.core]
        task = None if span.row < 0 else record.tasks.name(span.row)
        return task, core.node, core.name, Moment(span.from_s), Moment(span.to_s), span.to_s - span.from_s

    columns = ("task", "node", "core", "start", "finish", "seconds")
    return View(name, tables=[Table("spans", columns, VIEWS[name](record), cells, str)])


def draw(name: str, record: Record) -> str:
    """As SVG."""
    from_s, to_s = figures.limits(record)
    rows, row_of = layout(record, _MOST_ROWS)
    height = max(1.0, min(16.0, _HEIGHT / max(1, len(rows))))
    area = _WIDTH - _LEFT - _RIGHT
    picture = Picture(_WIDTH, round(_TOP + height * len(rows) + _BOTTOM))
    axis = axis_of(from_s, to_s, _COLUMNS)
    few = list(islice(VIEWS[name](record), _MOST_BARS + 1))
    _draw_frame(picture, name, record, axis, len(few))
    _draw_labels(picture, [row.label for row in rows], height)
    scale = area / (axis.to_s - axis.from_s)
    if len(few) <= _MOST_BARS and len(rows) == len(record.cores):
        for span in few:
            left, top = _LEFT + (span.from_s - from_s) * scale, _TOP + row_of[span.core] * height
            kind, title = _kind(record, span), escape(_title(record, span))
            picture.bar(left, top, (span.to_s - span.from_s) * scale, height, kind, title)
    else:
        for kind, row, first, columns, level in _cells(name, record, axis, row_of, [row.cores for row in rows]):
            left, top = _LEFT + first * area / _COLUMNS, _TOP + row * height
            picture.cell(left, top, columns * area / _COLUMNS, height, kind, level / _LEVELS)
    return picture.text()


def _cells(
    name: str, record: Record, axis: Axis, row_of: list[int], cores: list[int]
) -> Iterator[tuple[str, int, int, int, int]]:
    """Kind, row, first column, number of columns, level of 1 to _LEVELS: bars of spans that are too many to be drawn."""
    sums = {kind: _Sums(axis, len(cores)) for kind in ("good", "bad", "gap")}
    for span in VIEWS[name](record):
        sums[_kind(record, span)].add(row_of[span.core], span.from_s, span.to_s)
    for kind, of_kind in sums.items():
        for row, count in enumerate(cores):
            levels = [round(min(1.0, spans / count) * _LEVELS + 0.3) for spans in of_kind.row(row)]
            for first, columns, level in runs_of([min(_LEVELS, level) for level in levels]):
                yield kind, row, first, columns, level


def _kind(record: Record, span: Span) -> str:
    return "gap" if span.row < 0 else "good" if record.tasks.state[span.row] == 0 else "bad"


def _title(record: Record, span: Span) -> str:
    core, seconds = record.cores[span.core], span.to_s - span.from_s
    what = "idle" if span.row < 0 else f"{record.tasks.name(span.row)} {record.tasks[span.row].state}"
    return f"{what}: {seconds:.3f} s on {core.node}:{core.name}"


def _draw_frame(picture: Picture, name: str, record: Record, axis: Axis, count: int) -> None:
    runs = ", ".join(run.name for run in record.runs)
    what = "spans" if count <= _MOST_BARS else "columns: the darker, the more of their time"
    picture.add_text(_LEFT, 20, f"{_TITLES[name]}: {runs}", "title")
    picture.describe(
        f"{_TITLES[name]} of {runs}: {len(record.cores)} cores, {axis.to_s - axis.from_s:.1f} seconds, {what}"
    )
    kinds = [("good", "succeeded"), ("bad", "ended otherwise")] if name == "gantt" else [("gap", "idle")]
    left = float(_LEFT)
    for kind, label in kinds:
        picture.bar(left, 30, 11, 11, kind, "")
        picture.add_text(left + 16, 40, label, "label")
        left += 30 + 7 * len(label)
    length = axis.to_s - axis.from_s
    marks = ticks(length, 10)
    step = marks[1] if len(marks) > 1 else length
    for seconds in marks:
        x = _LEFT + seconds / length * (picture.width - _LEFT - _RIGHT)
        picture.line(x, _TOP - 2, x, picture.height - _BOTTOM + 4)
        picture.add_text(x, picture.height - 12, tick_text(seconds, step), "middle")


def _draw_labels(picture: Picture, labels: list[str], height: float) -> None:
    """As many as there is room for."""
    every = max(1, round(12 / height + 0.49))
    for number in range(0, len(labels), every):
        picture.add_text(_LEFT - 8, _TOP + number * height + min(12.0, height / 2 + 4), labels[number][-19:], "end")
