"""What a task has written: in a file of its own, in a stream of its pilot, or the last lines of one that has failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..pilot.wire.streams import Index, Part
from .task_records import TaskRow

_LINE_BYTES = 1000
"""Room for a line, on average, when the last ones are wanted."""


def output_of(aux: Path, row: TaskRow, of_stderr: bool) -> Part | None:
    """Where it is; None when it was not kept. A file that a task names need not be there (yet)."""
    path = row.stderr if of_stderr else row.stdout
    if path is not None and path != Path(os.devnull):
        return Part(path, 0, None)
    return Index(aux).part(row.task, of_stderr, row.attempts or None)


def outputs_of(aux: Path, rows: Iterable[TaskRow], of_stderr: bool) -> Iterator[tuple[TaskRow, Part]]:
    """Those that have one which is there, for very many: the index is read once."""
    index = Index(aux)
    latest = index.all()
    for row in rows:
        path = row.stderr if of_stderr else row.stdout
        part = Part(path) if path is not None and path != Path(os.devnull) else None
        if part is None and row.task in latest:
            part = index.part_of(*latest[row.task], of_stderr)
        if part is not None and part.path.exists():
            yield row, part


def last_lines(aux: Path, row: TaskRow, lines: int, of_stderr: bool = True) -> str:
    """The last lines, without those that are further than some KiB from the end; empty when there are none."""
    part = output_of(aux, row, of_stderr)
    return "" if part is None else tail_of(part, lines)


def tail_of(part: Part, lines: int) -> str:
    if not lines:
        return ""
    try:
        text = part.read(4 * _LINE_BYTES + _LINE_BYTES * lines).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
