"""How far the work is: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from ..pilot.console import echo
from ..pilot.rate import Rate
from ..pilot.wire.overview import Running
from ..pilot.wire.replies import TaskCounts
from .amounts import duration, rate

_LINE_EVERY_S = 10.0


class Row(NamedTuple):
    """One job: how many of its `total` tasks have ended, how many of those badly, and how many run."""

    name: str
    state: str
    done: int
    failed: int
    running: int
    total: int


class Progress:
    """Fed with the counts of a pilot's tasks, and with jobs and running tasks if there are some to show; writes to stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._screen: Any = None
        self._rate = Rate()
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

    def show(self, jobs: Sequence[Row], running: Sequence[Running], now_s: float) -> None:
        """Tables of jobs and of running tasks above the bar; `now_s` by the clock that told when these were started."""
        if self._screen is not None:
            from rich.console import Group

            tables = [_jobs_table(jobs)] if jobs else []
            tables += [_running_table(running, now_s)] if running else []
            self._screen.update(Group(*tables, self._bar))

    def update(self, counts: TaskCounts) -> None:
        """Counts as they are now; asked for twice a second or so."""
        total, failed, done, running = counts.total, counts.failed, counts.ended, counts.now_running
        self._rate.note(time.monotonic(), done)
        if self._bar is not None:
            self._bar.update(
                self._task, total=total, completed=done, failed=failed, running=running, pace=self._pace(total - done)
            )
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s += _LINE_EVERY_S
            pace = self._pace(total - done)
            echo(
                f"{done}/{total} tasks done, {failed} failed, {running} running{', ' + pace if pace else ''}", err=True
            )

    def _pace(self, left: int) -> str:
        """`12/s, 0:47 left`; empty while that cannot be said."""
        left_s = self._rate.left_s(left)
        return "" if left_s is None else f"{rate(self._rate.per_s)}, {duration(left_s)} left"


def _jobs_table(rows: Sequence[Row]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("job", "state", "done", "failed", "running", "tasks"):
        table.add_column(title, justify="left" if title in ("job", "state") else "right")
    for name, state, done, failed, running, total in rows:
        colour = "red" if failed else "default"
        table.add_row(escape(name), state, str(done), f"[{colour}]{failed}[/]", str(running), str(total))
    return table


def _running_table(running: Sequence[Running], now_s: float) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("running", "node", "age"):
        table.add_column(title, justify="right" if title == "age" else "left")
    for task in running:
        table.add_row(escape(task.task), escape(task.node), duration(now_s - task.started_s))
    return table


def _open_screen() -> tuple[Any, Any, Any]:
    """The bar, its only task, and the part of the terminal that both it and the tables are drawn in."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("tasks"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]} failed[/red]"),
        TextColumn("{task.fields[running]} running"),
        TextColumn("{task.fields[pace]}"),
    )
    task = bar.add_task("tasks", total=None, failed=0, running=0, pace="")
    return bar, task, Live(bar, console=Console(stderr=True))
