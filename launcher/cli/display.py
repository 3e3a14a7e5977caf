"""What people see while a submission runs: bars on a terminal, lines elsewhere; all on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from ...pilot.console import echo
from ..contexts.base import Watch

_LINE_EVERY_S = 10.0


class Screen:
    """A context manager; `tell`, `watch` and `count` are what a Submission takes."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._known: dict[str, Any] = {}
        self._started_s = time.monotonic()
        self._next_line_s = self._started_s + _LINE_EVERY_S
        self._first_done: int | None = None

    def __enter__(self) -> Screen:
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=Console(stderr=True))
            with suppress(OSError):  # the terminal may go away at any time
                self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            with suppress(OSError):
                self._bars.stop()

    def tell(self, text: str) -> None:
        if self._quiet:
            return
        if self._bars is not None:
            with suppress(OSError):
                self._bars.console.print(text, markup=False, highlight=False)
        else:
            echo(text, err=True)

    def watch(self, what: str) -> Watch | None:
        """Bytes of a transfer."""
        return (
            (lambda done, whole: self._bar(what, done, whole, f"{_bytes(done)} of {_bytes(whole)}"))
            if self._bars
            else None
        )

    def count(self, counts: dict[str, int]) -> None:
        """Tasks: done, running, failed, in all; with the rate and the time that is left."""
        ended, whole = counts["done"] + counts["failed"], counts["tasks"]
        if self._first_done is None:
            self._first_done = ended
        rate = (ended - self._first_done) / max(1e-9, time.monotonic() - self._started_s)
        left = f", {rate:.1f}/s, {_duration((whole - ended) / rate)} left" if rate and ended < whole else ""
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        running = f", {counts['running']} running" if counts["running"] else ""
        text = f"{counts['done']} of {whole} tasks done{running}{failed}{left}"
        if self._bars is not None:
            self._bar("tasks", ended, whole, text)
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            echo(text, err=True)

    def _bar(self, name: str, done: int, whole: int, text: str) -> None:
        if name not in self._known:
            self._known[name] = self._bars.add_task(name, total=whole, text=text)
        self._bars.update(self._known[name], completed=done, total=whole, text=text)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
