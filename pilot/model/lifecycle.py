"""What happens to jobs and tasks: released, omitted, cancelled, ended, tried again, and what that means for others.

Consequences for dependents are queued and followed by `settle`, never by recursion: a chain may be a million jobs long.
"""

from __future__ import annotations

from collections import deque

from . import dependencies
from .attempts import Attempt, End
from .decisions import Change, Decisions
from .dependencies import Consequence, Omit
from .job_spec import Need
from .jobs import Job, Pending, all_pendings, pending_of
from .queue import Queue
from .registry import Registry
from .results import Result
from .states import Cause, State

_ONLY = ((0, 1),)
"""The range of a job with one task: shared, because there may be very many such jobs."""


class Lifecycle:
    """Moves jobs and tasks between their states, and waiting work into `queue`; notes what was decided in `turn`."""

    def __init__(self, jobs: Registry, queue: Queue, decisions: Decisions, crash_limit: int) -> None:
        self._jobs = jobs
        self._queue = queue
        self._decisions = decisions
        self._crash_limit = crash_limit
        self._consequences: deque[Consequence] = deque()
        self.interrupted: int | None = None
        """Running tasks that went back to the queue because the pilot is being stopped; None while it is not."""

    # --- waiting --------------------------------------------------------------------------------------------------------

    def enter(self, job: Job, plan: list[tuple[Need, int]]) -> None:
        """Prepare the waiting lists of a new job; `plan` is (need, how many positions) in order of position."""
        wt_s = job.spec.resources.wt_s or 0.0
        if len(plan) == 1:
            need, count = plan[0]
            job.pendings = Pending(job, self._queue.shape(need, wt_s), _ONLY if count == 1 else ((0, count),))
            return
        ranges: dict[Need, list[tuple[int, int]]] = {}
        first = 0
        for need, count in plan:
            ranges.setdefault(need, []).append((first, first + count))
            first += count
        of_need = {need: Pending(job, self._queue.shape(need, wt_s), tuple(theirs)) for need, theirs in ranges.items()}
        starts = [(start, of_need[need]) for need, theirs in ranges.items() for start, _ in theirs]
        job.pendings = tuple(sorted(starts, key=lambda entry: entry[0]))

    def connect(self, job: Job) -> None:
        self._consequences.extend(dependencies.connect(job, self._jobs))

    def settle(self, now: float) -> None:
        """Follow all consequences of what has happened."""
        while self._consequences:
            consequence = self._consequences.popleft()
            job, pos = consequence.job, consequence.pos
            if job.state.final:
                continue
            if isinstance(consequence, Omit):
                self._omit(job, pos, consequence.reason, now)
            elif pos is None:
                self._open(job)
            elif job.unmet == 0:
                self._ready(job, pos)

    def _open(self, job: Job) -> None:
        """The whole-job dependencies are met."""
        for pending in all_pendings(job.pendings):
            if job.unmet_at is None:
                pending.open_range()
            else:
                pending.clear_range()
            pending.shape.add(pending)
        for pos, unmet in enumerate(job.unmet_at or ()):
            if unmet == 0:
                self._ready(job, pos)

    def _ready(self, job: Job, pos: int) -> None:
        if job.tasks.state(pos) is State.QUEUED:
            pending = pending_of(job.pendings, pos)
            pending.put_back(pos)
            pending.shape.add(pending)

    def withdraw(self, job: Job, pos: int) -> None:
        """A queued task is about to leave its queue otherwise than by being taken."""
        if job.unmet == 0 and (job.unmet_at is None or job.unmet_at[pos] == 0):
            pending_of(job.pendings, pos).withdrawn()

    def _omit(self, job: Job, pos: int | None, reason: str, now: float) -> None:
        if pos is None:
            job.set_message(None, reason)
            self.end_queued_tasks(job, State.OMITTED, now)
        elif job.tasks.state(pos) is State.QUEUED:
            job.set_message(pos, reason)
            self.end_queued_task(job, pos, State.OMITTED, now)

    def end_queued_task(self, job: Job, pos: int, state: State, now: float) -> None:
        self.withdraw(job, pos)
        self._jobs.move_task(job, pos, state)
        job.tasks.end_unstarted(pos, now)
        self._after_task(job, pos, state, now)

    def end_queued_tasks(self, job: Job, state: State, now: float) -> None:
        """End all queued tasks of a job at once; the job's own ending speaks for them, there is no event for each."""
        for pending in all_pendings(job.pendings):
            pending.clear_range()
        for pos in self._jobs.move_queued_tasks(job, state):
            self._consequences.extend(dependencies.after_task(job, pos, state))
        if job.finished == job.spec.task_count:
            self._end_job(job, State.OMITTED if state is State.OMITTED else job.final_state(), now)

    # --- attempts -------------------------------------------------------------------------------------------------------

    def attempt_ended(self, attempt: Attempt, end: End, now: float) -> None:
        """An agent reported the end of `attempt`; decides what becomes of the task."""
        job, pos = attempt.job, attempt.key.pos
        if attempt.canceling or job.canceling:
            state = State.CANCELED
        elif end.cause is Cause.EXITED and end.exit_code == 0:
            state = State.SUCCEED
        elif attempt.lost:
            self.attempt_lost(attempt, now)
            return
        elif end.cause is Cause.CANCELED:  # nobody cancelled it: the pilot itself is being stopped
            if self.interrupted is not None and end.pid > 0:
                self.interrupted += 1
            self.attempt_taken(attempt, now)
            return
        elif _times(job.failures, pos) < job.spec.retries:
            state = State.QUEUED
            self._count(job, "failures", pos)
        else:
            state = State.FAILED
        self._conclude(attempt, attempt.result(state, end), now)

    def attempt_lost(self, attempt: Attempt, now: float) -> None:
        """The agent went away under `attempt`: again, but not for ever."""
        if attempt.canceling or attempt.job.canceling:
            self._conclude(attempt, attempt.lost_result(State.CANCELED, now), now)
        elif not (attempt.started_s or attempt.in_doubt):
            self.attempt_taken(attempt, now)
        else:
            crashes = _times(attempt.job.crashes, attempt.key.pos) + 1
            if crashes < self._crash_limit:
                self._count_crash(attempt)
                self._conclude(attempt, attempt.lost_result(State.QUEUED, now), now)
            else:
                reason = f"its agent was lost {crashes} times while it ran; the limit is {self._crash_limit}"
                self._conclude(attempt, attempt.lost_result(State.FAILED, now, reason), now)

    def attempt_taken(self, attempt: Attempt, now: float) -> None:
        """`attempt` came back without having been started."""
        if attempt.canceling or attempt.job.canceling:
            self._conclude(attempt, attempt.lost_result(State.CANCELED, now), now)
        else:
            self._decisions.taken.append(attempt.key)
            self._back_to_queue(attempt)

    def _conclude(self, attempt: Attempt, result: Result, now: float) -> None:
        self._decisions.results.append(result)
        if result.state is State.QUEUED:
            self._back_to_queue(attempt)
            return
        job, pos = attempt.job, attempt.key.pos
        if result.message:
            job.set_message(pos, result.message)
        self._jobs.move_task(job, pos, result.state)
        job.tasks.store(pos, result)
        exit_code = result.exit_code if result.shares else None
        self._after_task(job, pos, result.state, result.ended_s or now, exit_code)

    def replay_result(self, attempt: Attempt, result: Result) -> None:
        """Apply a result that an earlier life of the manager has recorded."""
        if result.state is State.QUEUED:
            if result.cause is Cause.LOST:
                self._count_crash(attempt)
            else:
                self._count(attempt.job, "failures", attempt.key.pos)
        self._conclude(attempt, result, result.ended_s)

    def _back_to_queue(self, attempt: Attempt) -> None:
        self._jobs.move_task(attempt.job, attempt.key.pos, State.QUEUED)
        attempt.pending.put_back(attempt.key.pos)
        attempt.pending.shape.add(attempt.pending)

    def attempt_back(self, attempt: Attempt) -> None:
        """An attempt at a queued task that had counted as lost goes on: nothing has crashed."""
        self.no_crash(attempt)
        self.withdraw(attempt.job, attempt.key.pos)
        self._jobs.move_task(attempt.job, attempt.key.pos, State.SCHEDULED)

    def no_crash(self, attempt: Attempt) -> None:
        """The loss of this attempt was none of its task's doing."""
        if attempt.counted and attempt.job.crashes:
            attempt.job.crashes[attempt.key.pos] -= 1
        attempt.counted = False

    def _count_crash(self, attempt: Attempt) -> None:
        attempt.counted = True
        self._count(attempt.job, "crashes", attempt.key.pos)

    @staticmethod
    def _count(job: Job, what: str, pos: int) -> None:
        """Count one more failure or crash after which the task is started again."""
        counts: dict[int, int] = getattr(job, what) or {}
        setattr(job, what, counts)
        counts[pos] = counts.get(pos, 0) + 1

    # --- endings --------------------------------------------------------------------------------------------------------

    def _after_task(self, job: Job, pos: int, state: State, ended_s: float, exit_code: int | None = None) -> None:
        if job.is_iteration:
            self._decisions.changes.append(Change(job, pos, state, ended_s, exit_code, job.message_of(pos)))
        if job.dependents is not None:
            self._consequences.extend(dependencies.after_task(job, pos, state))
        if job.finished == job.spec.task_count:
            self._end_job(job, job.final_state(), ended_s, None if job.is_iteration else exit_code)

    def _end_job(self, job: Job, state: State, ended_s: float, exit_code: int | None = None) -> None:
        self._jobs.move_job(job, state)
        job.ended_s = ended_s
        self._queue.release(job.pendings)
        job.pendings = ()
        job.unmet_at = None
        self._decisions.changes.append(Change(job, None, state, ended_s, exit_code, job.message))
        self._consequences.extend(dependencies.after_job(job))


def _times(counts: dict[int, int] | None, pos: int) -> int:
    return counts.get(pos, 0) if counts else 0
