"""Everything that is needed to work on one submission, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..contexts.base import Context, Watch
from ..machines.base import BatchSystem
from .events import Event
from .journal import Journal
from .state import Progress
from .store import Record
from .work import Work


@dataclass(frozen=True)
class Tools:
    """What is taken from outside: seconds since the epoch, a sleep, where news go, where bytes and tasks are counted."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
    watch: Callable[[str], Watch | None]
    count: Callable[[dict[str, int]], None]


@dataclass(frozen=True)
class Site:
    """A submission on its machine; `journal` is open, `progress` knows what it says."""

    record: Record
    work: Work
    machine: BatchSystem
    context: Context
    journal: Journal
    progress: Progress
    tools: Tools

    def note(self, event: Event) -> None:
        """Write down what has happened, then take it in."""
        self.journal.write(event)
        self.progress.apply(event)
