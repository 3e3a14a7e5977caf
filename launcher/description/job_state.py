"""Where a job or a task is, as a number that stands in DPDispatcher's files and in ours."""

from __future__ import annotations

from enum import IntEnum


class JobState(IntEnum):
    """Where a job is. `unknown` means: still there, ask again."""

    unsubmitted = 1
    waiting = 2
    running = 3
    terminated = 4
    finished = 5
    completing = 6
    failed = 7
    unknown = 100

    @property
    def ended(self) -> bool:
        """The batch system is done with the job, well or not."""
        return self in (JobState.terminated, JobState.finished, JobState.failed)
