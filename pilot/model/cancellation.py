"""Cancelling: what waits is CANCELED at once, what runs is ordered to stop and CANCELED when its end is reported."""

# What runs is not CANCELED before its agent says so: until then it uses its cores, and it may have ended by itself before the
# order arrives. Then it keeps the end that it had.
#
# The tasks of a job that waits end before any that runs is looked at: a core that comes free meanwhile must not go to one of
# them. What runs is then stopped in slices, since a million attempts may be in flight. Between two slices such a task may end,
# or come back to the queue with the loss of its node, so each is asked for its state when its turn comes.
#
# Invariant (invariants.py): every attempt of a cancelled job has been ordered to stop, unless the job is in `jobs`.

from __future__ import annotations

from .decisions import Decisions
from .dispatch import Dispatch
from .errors import RefusedError
from .ids import JobNo, TaskKey
from .jobs import Job
from .lifecycle import Lifecycle
from .states import AttemptEvent, Fate, State
from .steps import SLICE, Pause, Steps

_STOPPED = 5 * SLICE
"""Attempts that a slice orders to be stopped."""


class Cancellation:
    """Ends tasks because a client wants it. The consequences are left to the caller (`Lifecycle.settle`)."""

    def __init__(self, dispatch: Dispatch, life: Lifecycle, decisions: Decisions) -> None:
        self.jobs: set[JobNo] = set()
        """Cancelled jobs of which some tasks may not have been ordered to stop yet."""
        self._dispatch = dispatch
        self._life = life
        self._decisions = decisions

    def cancel_job(self, job: Job, now: float) -> Steps[None]:
        """Cancel all tasks of a job; accepted, or refused, in the first slice.

        Raises RefusedError when the job has ended or was cancelled before.
        """
        if job.state.final:
            raise RefusedError(f"Job {job.spec.name} already finished")
        if job.canceling:
            raise RefusedError(f"Job {job.spec.name} already canceled")
        job.canceling = True
        self._decisions.canceled.append((job.no, None))
        in_flight = job.tasks.in_flight()
        self._life.end_queued_tasks(job, State.CANCELED, now)
        self.jobs.add(job.no)
        for number, pos in enumerate(in_flight, 1):
            self._end_task(job, pos, now)
            if not number % _STOPPED:
                yield Pause.MORE
        self.jobs.discard(job.no)

    def cancel_task(self, job: Job, pos: int, now: float) -> None:
        """Cancel one task. Raises RefusedError when it has ended."""
        state = job.tasks.state(pos)
        if state.final:
            raise RefusedError(f"Job {job.spec.task_name(pos)} already finished")
        self._decisions.canceled.append((job.no, pos))
        self._end_task(job, pos, now)

    def _end_task(self, job: Job, pos: int, now: float) -> None:
        state = job.tasks.state(pos)
        if state is State.QUEUED:
            self._life.end_queued_task(job, pos, State.CANCELED, now)
        elif not state.final:
            self._stop_attempt(job, pos)

    def _stop_attempt(self, job: Job, pos: int) -> None:
        attempt = self._dispatch.attempts[TaskKey(job.no, pos, job.tasks.run(pos))]
        if attempt.after(AttemptEvent.CANCEL) is Fate.STOP:
            self._decisions.orders_for(attempt.node).kills.append(attempt.key)
