"""A view as text, CSV or JSON. Rows are made as they are printed: a million of them are never there at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import cast

from ...pilot.console import echo, show
from .record import Record
from .tasks import Place
from .view import Cell, Moment, View

VERSION = 1
_TOGETHER = 1000
"""Rows that are printed at a time."""


def print_text(view: View, record: Record) -> None:
    """As qcg-pm-report prints it; warnings go to stderr."""
    for warning in (*record.problems, *view.warnings):
        echo(warning, err=True)
    if view.heading:
        show(view.heading)
    for value in view.values:
        if value.label:
            show(f"\t{value.label:>{view.width}}: {value.text}")
    for table in view.tables:
        if table.heading:
            show(table.heading)
        _show_lines(map(table.line, table.rows))


def print_csv(view: View, record: Record) -> None:
    """The rows of its table; of a view without one, its values."""
    for problem in record.problems:
        echo(problem, err=True)
    rows: Iterable[Sequence[object]]
    if view.tables:
        table = view.tables[0]
        header, rows = table.columns, (list(map(_in_csv, table.cells(row))) for row in table.rows)
    else:
        header, rows = ("name", "value"), ((value.key, _in_csv(value.value)) for value in view.values)
    _show_lines(_csv_lines([header]))
    _show_lines(_csv_lines(rows))


def print_json(view: View, record: Record) -> None:
    """One object, with the version of its form."""
    head = {
        "version": VERSION,
        "view": view.name,
        "runs": [run.name for run in record.runs],
        "problems": record.problems + view.warnings,
        **{value.key: _in_json(value.value) for value in view.values},
    }
    text = json.dumps(head, indent=1)
    if not view.tables:
        show(text)
        return
    show(text[:-2], nl=False)
    for table in view.tables:
        show(f',\n "{table.name}": [', nl=False)
        rows = (dict(zip(table.columns, map(_in_json, table.cells(row)), strict=True)) for row in table.rows)
        before = "\n"
        for some in _some_at_a_time(json.dumps(row) for row in rows):
            show(before + ",\n".join(f"  {line}" for line in some), nl=False)
            before = ",\n"
        show("\n ]", nl=False)
    show("\n}")


PRINTERS: dict[str, Callable[[View, Record], None]] = {"text": print_text, "csv": print_csv, "json": print_json}


def _show_lines(lines: Iterable[str]) -> None:
    for some in _some_at_a_time(lines):
        show("\n".join(some))


def _some_at_a_time(lines: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(lines)
    while some := list(islice(rest, _TOGETHER)):
        yield some


def _csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="")
    for row in rows:
        writer.writerow(row)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _in_csv(value: Cell) -> object:
    kind = type(value)
    if kind is Moment:
        return datetime.fromtimestamp(cast(Moment, value)).isoformat()
    return cast(Place, value).allocation if kind is Place else value


def _in_json(value: Cell) -> object:
    if isinstance(value, Place):
        return {node: list(cores) for node, cores in value.shares}
    return datetime.fromtimestamp(value).isoformat() if isinstance(value, Moment) else value
