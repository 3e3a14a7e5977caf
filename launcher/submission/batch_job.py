"""One batch job of a submission, as the submission's state has it. What happens to it: `state.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..job.record import TaskResult
from ..job.states import JobState, Status
from .events import Ended, Missing

ASKED_FOR = "asked for"
"""Why a job was cancelled, or is placed again: somebody has said so."""


class Phase(Enum):
    NEW = "new"
    INTENDED = "intended"
    """About to be submitted, or submitted and the launcher died before it knew the id."""
    PLACED = "placed"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELED)


@dataclass
class BatchJob:
    """One batch job of the submission; `tasks` are the hashes of its tasks, in its order."""

    hash: str
    tasks: tuple[str, ...]
    phase: Phase = Phase.NEW
    id: str = ""
    attempt: int = 0
    failures: int = 0
    innocent: int = 0
    reason: str = ""
    detail: str = ""
    state: JobState = JobState.unsubmitted
    status: Status | None = None
    missed: int = 0
    """Listings in a row in which it was not there, or had ended."""
    missed_since_s: float = 0.0
    over: bool = False
    """The batch system says that it has ended, or does not know it: its results are to be looked at."""
    unclear: bool = False
    """The last answer said nothing of it: only its own record can show that it has ended."""
    doubted: bool = False
    """It was left out of the last answer; the batch system did not say that it does not know it."""
    left_id: str = ""
    """The batch job of an attempt that was cancelled: it may take a while to end."""
    given_up: bool = False
    """It seemed to be gone, so the batch system was told to end it; that it has ended is not confirmed yet."""
    why: str = ""
    """What it waits for, in the batch system's words."""
    hopeless: int = 0
    """Listings in a row in which it could never start, by those words."""
    never: str = ""
    """Why we have told the batch system to take it out of the queue: it can never start."""
    fetched: bool = False
    missing: tuple[Missing, ...] = ()
    """Results that are not home although their tasks have ended well."""
    ended: Ended | None = None
    """The end of the last attempt that has ended."""
    results: dict[str, TaskResult] = field(default_factory=dict)

    @property
    def is_home(self) -> bool:
        """All its results have been brought here; none is missing."""
        return self.fetched and not self.missing

    @property
    def succeeded(self) -> bool:
        return all(name in self.results and self.results[name].exit_code == 0 for name in self.tasks)
