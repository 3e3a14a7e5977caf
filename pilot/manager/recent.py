"""What has happened last, as far as somebody who looks at the pilot wants to see it: failures, lines of the log, the rate.

All of it is bounded, and none of it costs the way of a task anything: changes are looked through only in a turn in which the
counter of failed tasks has moved.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeGuard

from ..logs import EventFormatter
from ..model.decisions import Change, Changes
from ..model.registry import Registry
from ..model.states import State
from ..rate import Rate
from ..wire.overview import Failure
from .job_info import Views
from .last_lines import LastLines

MOST_FAILURES = 100
_MOST_LINES = 100


class Recent:
    """`aux`: the auxiliary folder of the pilot."""

    def __init__(self, jobs: Registry, views: Views, aux: Path) -> None:
        self._jobs = jobs
        self._views = views
        self._failed = 0
        self.failures: deque[Failure] = deque(maxlen=MOST_FAILURES)
        """The latest first."""
        self.last_lines = LastLines(aux)
        self.lines: deque[str] = deque(maxlen=_MOST_LINES)
        self.rate = Rate()

    def keep_log(self) -> None:
        """From here on keep the last lines that this process logs."""
        logging.getLogger().addHandler(_Lines(self.lines))

    def note(self, turns: Sequence[Sequence[Changes]]) -> None:
        """Tasks and jobs have new states: all that is new, by turn."""
        before, self._failed = self._failed, self._jobs.tasks_in[State.FAILED]
        if self._failed == before:
            return
        failed = (change for changes in reversed(turns) for change in reversed(changes) if _is_failure(change))
        latest = [self._views.failure(change) for change in islice(failed, MOST_FAILURES)]
        self.failures.extendleft(reversed(latest))

    def look(self, now: float) -> None:
        """Called twice a second; `now` by a clock that never goes back."""
        self.rate.note(now, self.ended)

    @property
    def ended(self) -> int:
        """Tasks that have ended, those of jobs that were removed since included: it only grows."""
        return sum(self._jobs.tasks_in[State.SUCCEED :]) + self._jobs.removed_tasks


def _is_failure(change: Changes) -> TypeGuard[Change]:
    """A job with iterations fails because of its tasks, which have changes of their own."""
    if not isinstance(change, Change) or change.state is not State.FAILED:
        return False
    return change.pos is not None or not change.job.is_iteration


class _Lines(logging.Handler):
    """Keeps lines in memory as they are in the log."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(EventFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
