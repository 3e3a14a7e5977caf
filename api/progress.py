"""How far the work is: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..pilot.console import echo
from ..pilot.wire.replies import TaskCounts

_LINE_EVERY_S = 10.0


class Progress:
    """Fed with the counts of a pilot's tasks, and with rows of jobs if there are some to show; writes to stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._screen: Any = None
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            self._bar, self._task, self._screen = _open_screen()
            with suppress(OSError):  # the terminal may go away at any time
                self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            with suppress(OSError):
                self._screen.stop()

    @property
    def live(self) -> bool:
        """Whether somebody watches on a terminal."""
        return self._screen is not None

    def show_jobs(self, rows: Sequence[tuple[str, str, int, int, int]]) -> None:
        """A table of jobs above the bar; each row is name, state, tasks done, failed, and in total."""
        if self._screen is not None:
            from rich.console import Group

            self._screen.update(Group(_table(rows), self._bar) if rows else self._bar)

    def update(self, counts: TaskCounts) -> None:
        total, failed, done, running = counts.total, counts.failed, counts.ended, counts.executing
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done, failed=failed, running=running)
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s += _LINE_EVERY_S
            echo(f"{done}/{total} tasks done, {failed} failed, {running} running", err=True)


def _table(rows: Sequence[tuple[str, str, int, int, int]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("job", "state", "done", "failed", "tasks"):
        table.add_column(title, justify="left" if title in ("job", "state") else "right")
    for name, state, done, failed, total in rows:
        colour = "red" if failed else "default"
        table.add_row(escape(name), state, str(done), f"[{colour}]{failed}[/]", str(total))
    return table


def _open_screen() -> tuple[Any, Any, Any]:
    """The bar, its only task, and the part of the terminal that both it and the table are drawn in."""
    from rich.console import Console
    from rich.live import Live
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
    )
    return bar, bar.add_task("tasks", total=None, failed=0, running=0), Live(bar, console=Console(stderr=True))
