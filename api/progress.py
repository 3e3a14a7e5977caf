"""How far the work is: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

_LINE_EVERY_S = 10.0


class Progress:
    """Fed with the IterationStats of a pilot; writes to stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            self._bar, self._task = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, counts: Mapping[str, int]) -> None:
        total, failed = counts["TotalIterations"], counts["FailedIterations"]
        done = counts["FinishedIterations"] + failed
        running = counts["ExecutingIterations"]
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done, failed=failed, running=running)
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s += _LINE_EVERY_S
            click.echo(f"{done}/{total} tasks done, {failed} failed, {running} running", err=True)


def _bar() -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("tasks"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]} failed[/red]"),
        TextColumn("{task.fields[running]} running"),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    return bar, bar.add_task("tasks", total=None, failed=0, running=0)
