"""What happens to jobs and tasks: released, omitted, cancelled, ended, tried again, and what that means for others."""

# Dispatch decides who runs where; this file decides what an end means. The rules for one attempt are the table in
# states.py; here they are carried out: a result is noted, the task gets its next state, it waits again or is over, and
# those that depend on it are told.
#
# Consequences for dependents are queued and followed by `settle`, never by recursion: a chain may be a million jobs long.
# So after each event of the scheduler there is one `settle`, at its end, and in between `unmet` may be lower than what has
# been followed.
#
# A task is tried again for two reasons, which are counted apart: it *failed* (as often as the user allows, `retries`), or
# its agent was lost under it, a *crash* (up to `crash_limit`, because a task that takes its node's memory takes down one
# node after another). What came back without having run counts as neither, and a crash that turns out to have been a
# silence is taken back.
#
# Invariant: a job is final exactly when all its tasks are, and then it is in no queue and nobody is told to wait for it.
#
# Example. `b` waits for `a`. `a` ends with exit code 1 and has no retries left: it is FAILED, the job is FAILED, and
# `Omit(b)` is queued. `settle` makes b OMITTED with the reason "dependency a ended FAILED", which may queue more.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from . import dependencies
from .attempts import Attempt, End, LostAttempts
from .decisions import Change, Decisions
from .dependencies import Consequence, Omit
from .job_spec import Need
from .jobs import Job, Pending
from .queue import Queue, all_pendings, pending_of
from .registry import Registry
from .results import Result
from .retry import Retries, rule_for
from .states import AttemptEvent, AttemptState, Cause, Fate, State
from .steps import Steps

_ONLY = ((0, 1),)
"""The range of a job with one task: shared, because there may be very many such jobs."""


class Lifecycle:
    """Moves jobs and tasks between their states, and waiting work into `queue`; notes what was decided in `decisions`."""

    def __init__(
        self, jobs: Registry, queue: Queue, decisions: Decisions, crash_limit: int, most_mem: Callable[[], int]
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._decisions = decisions
        self._crash_limit = crash_limit
        self.retries = Retries(jobs, queue, most_mem)
        self.lost = LostAttempts()
        self._consequences: deque[Consequence | Iterator[Consequence]] = deque()
        self.interrupted: int | None = None
        """Running tasks that went back to the queue because the pilot is being stopped; None while it is not."""

    # --- waiting --------------------------------------------------------------------------------------------------------

    def enter(self, job: Job, plan: list[tuple[Need, int]]) -> None:
        """Prepare the waiting lists of a new job; `plan` is (need, how many positions) in order of position."""
        times = (job.spec.resources.wt_s or 0.0, job.spec.resources.min_time_s)
        if len(plan) == 1:
            need, count = plan[0]
            others = [self._queue.shape(other, *times) for other in job.spec.resources.alternatives]
            job.pendings = Pending(job, self._queue.shape(need, *times), _ONLY if count == 1 else ((0, count),), others)
            return
        ranges: dict[Need, list[tuple[int, int]]] = {}
        first = 0
        for need, count in plan:
            ranges.setdefault(need, []).append((first, first + count))
            first += count
        of_need = {
            need: Pending(job, self._queue.shape(need, *times), tuple(theirs)) for need, theirs in ranges.items()
        }
        starts = [(start, of_need[need]) for need, theirs in ranges.items() for start, _ in theirs]
        job.pendings = tuple(sorted(starts, key=lambda entry: entry[0]))

    def connect(self, job: Job) -> Steps[None]:
        self._consequences.extend((yield from dependencies.connect(job, self._jobs)))

    @property
    def settled(self) -> bool:
        return not self._consequences

    def settle(self, now: float, most: int | None = None) -> int:
        """Follow the consequences of what has happened, or `most` of them; returns how many were followed.

        What is left is followed later: meanwhile a job may be cancelled that would have been omitted, never the reverse.
        """
        count = 0
        while self._consequences and count != most:
            consequence = self._next_consequence()
            if consequence is None:
                continue
            count += 1
            job, pos = consequence.job, consequence.pos
            if job.state.final:
                continue
            if isinstance(consequence, Omit):
                self._omit(job, pos, consequence.reason, now)
            elif pos is None:
                self._open(job)
            elif job.unmet == 0:
                self._ready(job, pos)
        return count

    def _next_consequence(self) -> Consequence | None:
        first = self._consequences[0]
        consequence = next(first, None) if isinstance(first, Iterator) else first
        if consequence is None or consequence is first:
            self._consequences.popleft()
        return consequence

    def _open(self, job: Job) -> None:
        """The whole-job dependencies are met."""
        if job.unmet_at is not None and not any(job.unmet_at):
            job.unmet_at = None  # nothing is left to wait for
        for pending in all_pendings(job):
            if job.unmet_at is None:
                pending.open_range()
            else:
                pending.clear_range()
            pending.shape.add(pending)
        pos = -1
        with suppress(ValueError):  # no further 0; `index`, because the list may be a million long
            while job.unmet_at is not None:
                pos = job.unmet_at.index(0, pos + 1)
                self._ready(job, pos)

    def _ready(self, job: Job, pos: int) -> None:
        if job.tasks.state(pos) is State.QUEUED:
            pending = pending_of(job, pos)
            pending.put_back(pos)
            pending.shape.add(pending)

    def withdraw(self, job: Job, pos: int) -> None:
        """A queued task is about to leave its queue without being taken from it."""
        if self.retries.resting and self.retries.resting.pop((job.no, pos), None) is not None:
            return
        if job.unmet == 0 and (job.unmet_at is None or job.unmet_at[pos] == 0):
            pending_of(job, pos).withdrawn()

    def _omit(self, job: Job, pos: int | None, reason: str, now: float) -> None:
        if pos is None:
            job.set_message(None, reason)
            self.end_queued_tasks(job, State.OMITTED, now)
        elif job.tasks.state(pos) is State.QUEUED:
            job.set_message(pos, reason)
            self.end_queued_task(job, pos, State.OMITTED, now)

    def end_queued_task(self, job: Job, pos: int, state: State, now: float) -> None:
        self.withdraw(job, pos)
        self.lost.forget_task(job.no, pos, job.tasks.run(pos))
        self._jobs.move_task(job, pos, state)
        job.tasks.end_unstarted(pos, now)
        self._after_task(job, pos, state, now)

    def end_queued_tasks(self, job: Job, state: State, now: float) -> None:
        """End all queued tasks of a job at once. They have no events of their own: the end of the job stands for all."""
        for pending in all_pendings(job):
            pending.clear_range()
        self.lost.forget_waiting(job)
        positions = self._jobs.move_queued_tasks(job, state)
        if job.dependents is not None:
            self._consequences.append(dependencies.after_tasks(job, positions, state))
        if job.finished == job.spec.task_count:
            self._end_job(job, State.OMITTED if state is State.OMITTED else job.final_state(), now)

    # --- attempts -------------------------------------------------------------------------------------------------------

    def attempt_ended(self, attempt: Attempt, end: End, now: float) -> None:
        """An agent reported the end of `attempt`; decides what becomes of the task."""
        job, pos = attempt.job, attempt.key.pos
        fate = attempt.after(AttemptEvent.END)
        if fate is Fate.CANCELED:
            state = State.CANCELED
        elif end.cause is Cause.EXITED and end.exit_code == 0:
            state = State.SUCCEED
        elif fate is Fate.BY_SUCCESS:
            self._crashed(attempt, now)
            return
        elif end.cause is Cause.CANCELED:  # nobody cancelled it: the pilot itself is being stopped
            if self.interrupted is not None and end.pid > 0:
                self.interrupted += 1
            self._taken_back(attempt)
            return
        else:
            state = self._after_failure(job, pos, end.exit_code, end.message, now)
        self._conclude(attempt, attempt.result(state, end), now)

    def _after_failure(self, job: Job, pos: int, exit_code: int, reason: str, now: float) -> State:
        """A task has failed: FAILED, or QUEUED when a rule says so, for which all is prepared then."""
        rule = rule_for(job.spec, job.failures_of(pos), exit_code, reason)
        if rule is None:
            return State.FAILED
        job.failures = _one_more(job.failures, pos)
        self.retries.prepare(job, pos, rule, now)
        return State.QUEUED

    def attempt_lost(self, attempt: Attempt, now: float, may_come_back: bool, evicted: bool = False) -> None:
        """The agent of `attempt` is gone: the task is tried again, but not for ever, unless it was `evicted`."""
        fate = attempt.after(AttemptEvent.EVICT if evicted else AttemptEvent.LOSE)
        if fate is Fate.CANCELED:
            self._conclude(attempt, attempt.lost_result(State.CANCELED, now), now)
        elif fate is Fate.CRASH:
            self._crashed(attempt, now)
        else:
            self._taken_back(attempt)
        self._keep_lost(attempt, may_come_back)

    def attempt_taken(self, attempt: Attempt, now: float) -> None:
        """`attempt` came back without having been started."""
        if attempt.after(AttemptEvent.RETURN) is Fate.CANCELED:
            self._conclude(attempt, attempt.lost_result(State.CANCELED, now), now)
        else:
            self._taken_back(attempt)

    def _taken_back(self, attempt: Attempt) -> None:
        self._decisions.taken.append(attempt.key)
        self._back_to_queue(attempt)

    def _crashed(self, attempt: Attempt, now: float) -> None:
        job, pos = attempt.job, attempt.key.pos
        crashes = _times(job.crashes, pos) + 1
        if crashes < self._crash_limit:
            job.crashes = _one_more(job.crashes, pos)
            self._conclude(attempt, attempt.lost_result(State.QUEUED, now), now)
        else:
            reason = f"its agent was lost {crashes} times while it ran; the limit is {self._crash_limit}"
            self._conclude(attempt, attempt.lost_result(State.FAILED, now, reason), now)

    def _keep_lost(self, attempt: Attempt, may_come_back: bool) -> None:
        """Keep the attempt while its end may yet be reported and would still matter."""
        if attempt.state is AttemptState.ENDED:
            return
        if may_come_back and not attempt.job.tasks.state(attempt.key.pos).final:
            self.lost.add(attempt)
        else:
            attempt.after(AttemptEvent.FORGET)

    def _conclude(self, attempt: Attempt, result: Result, now: float) -> None:
        self._decisions.results.append(result)
        if result.state is State.QUEUED:
            self._back_to_queue(attempt)
            return
        job, pos = attempt.job, attempt.key.pos
        if self.lost.node_of:
            self.lost.forget_task(job.no, pos, job.tasks.run(pos))
        if result.message:
            job.set_message(pos, result.message)
        self._jobs.move_task(job, pos, result.state)
        job.tasks.store(pos, result)
        exit_code = result.exit_code if result.shares else None
        self._after_task(job, pos, result.state, result.ended_s or now, exit_code)

    def replay_result(self, attempt: Attempt, result: Result) -> None:
        """Apply a result that an earlier life of the manager has recorded."""
        job, pos = attempt.job, attempt.key.pos
        was_lost = result.cause is Cause.LOST
        fate = attempt.after(AttemptEvent.LOSE if was_lost else AttemptEvent.END)
        if result.state is State.QUEUED and fate is Fate.CANCELED:
            result = result._replace(state=State.CANCELED)  # no manager writes this; a cancel that was accepted holds
        if result.state is State.QUEUED:
            if was_lost:
                job.crashes = _one_more(job.crashes, pos)
            elif self._after_failure(job, pos, result.exit_code, result.message, result.ended_s) is State.FAILED:
                job.failures = _one_more(job.failures, pos)  # it was tried again all the same
        self._conclude(attempt, result, result.ended_s)
        self._keep_lost(attempt, may_come_back=True)

    def replay_taken(self, attempt: Attempt) -> None:
        """It came back unstarted, or was not known to have started when its agent fell silent: the record does not say which.

        So if that agent lives, it may yet report the attempt.
        """
        self.attempt_taken(attempt, attempt.scheduled_s)  # the record has no time of its own
        job, key = attempt.job, attempt.key
        if not job.tasks.state(key.pos).final:
            excused = AttemptState.EXCUSED
            self.lost.add(
                Attempt(key, job, attempt.pending, attempt.node, attempt.pool_id, attempt.scheduled_s, excused)
            )

    def _back_to_queue(self, attempt: Attempt) -> None:
        job, pos = attempt.job, attempt.key.pos
        self._jobs.move_task(job, pos, State.QUEUED)
        if (job.no, pos) not in self.retries.resting:
            pending = pending_of(job, pos)
            pending.put_back(pos)
            pending.shape.add(pending)

    def in_flight_again(self, job: Job, pos: int) -> None:
        """A task that counted as waiting has an attempt in flight again, or has had it all the time."""
        self.withdraw(job, pos)
        self._jobs.move_task(job, pos, State.SCHEDULED)

    def attempt_found(self, attempt: Attempt) -> None:
        """An attempt at a queued task that had counted as lost goes on: nothing has crashed."""
        self.lost.remove(attempt)
        self._uncount(attempt, attempt.after(AttemptEvent.FIND))
        self.in_flight_again(attempt.job, attempt.key.pos)

    def excuse(self, attempt: Attempt) -> None:
        """The agent that had it is heard again: no task has crashed it."""
        self._uncount(attempt, attempt.after(AttemptEvent.EXCUSE))

    @staticmethod
    def _uncount(attempt: Attempt, fate: Fate) -> None:
        crashes = attempt.job.crashes
        if fate is Fate.UNCOUNT and crashes and crashes.get(attempt.key.pos):
            crashes[attempt.key.pos] -= 1

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
        self._queue.release(all_pendings(job))
        job.pendings, job.grown = (), None
        job.unmet_at = None
        self._decisions.changes.append(Change(job, None, state, ended_s, exit_code, job.message))
        if job.dependents is not None:
            self._consequences.extend(dependencies.after_job(job))


def _one_more(counts: dict[int, int] | None, pos: int) -> dict[int, int]:
    """The counts by position, made when there is something to count."""
    counts = counts or {}
    counts[pos] = counts.get(pos, 0) + 1
    return counts


def _times(counts: dict[int, int] | None, pos: int) -> int:
    return counts.get(pos, 0) if counts else 0
