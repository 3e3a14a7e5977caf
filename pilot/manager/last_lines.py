"""The last lines of stderr of the tasks that have failed lately, for who looks at the pilot, also from where no file is seen.

They are read by a thread, because a file server that does not answer must not hold up the loop, and only when somebody looks:
the answer to the next question has them. Nobody waits for the thread, which does nothing but fill in texts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from msgspec import UNSET

from ..wire.overview import Failure
from ..wire.streams import Index, Part

LINES = 3
_MOST_BYTES = 2048
_WRITTEN_S = 10.0
"""After this time what a task has written is in its place, if it is anywhere."""


class LastLines:
    """Of the tasks of the pilot with this auxiliary folder."""

    def __init__(self, aux: Path) -> None:
        self._aux = aux
        self._asked: SimpleQueue[tuple[Sequence[Failure], float]] = SimpleQueue()
        self._thread: Thread | None = None
        self._is_busy = False

    def look(self, failures: Iterable[Failure], now: float) -> None:
        """Somebody wants to see these; `now` in seconds since the epoch."""
        new = [failure for failure in failures if failure.last_lines is UNSET]
        if not new or self._is_busy:
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name="last-lines", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no room for a thread: then there are no lines
                self._is_busy = True
                return
        self._is_busy = True
        self._asked.put((new, now))

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the loop's
        while True:
            failures, now = self._asked.get()
            for failure in failures:
                lines = self._read(failure)
                if lines or now - failure.ended_s > _WRITTEN_S:
                    failure.last_lines = lines
            self._is_busy = False

    def _read(self, failure: Failure) -> list[str]:
        path = failure.stderr
        try:
            part = Index(self._aux).part(failure.task, True) if path in ("", os.devnull) else Part(Path(path), 0, None)
            text = b"" if part is None else part.read(_MOST_BYTES)
        except OSError:
            return []
        return text.decode(errors="replace").splitlines()[-LINES:]
