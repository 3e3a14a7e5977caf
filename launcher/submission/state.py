"""What to do next for a submission: pure decisions over events; no clock, no files, no network.

`apply` takes what has happened (and was written down), `on_listing` what the batch system tells, `plan` says what to do now.

A job is over when the batch system says so, when it no longer lists the job and the job's own record is there, or when the job
was missing from several listings in a row. It has succeeded when every one of its tasks has ended with exit code 0, whatever
else is reported. While nothing is known of a job (the answer was not understood) it is not over, unless there is its record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..job.record import TaskResult
from ..job.sighting import GRACE_POLLS as GRACE_POLLS
from ..job.sighting import HOPELESS_POLLS as HOPELESS_POLLS
from ..job.sighting import Sighting
from ..job.states import SETTLE_S, JobState, Reason, Status
from .batch_job import BatchJob, Phase
from .events import (
    Canceled,
    CommonFetched,
    Ended,
    Event,
    Fetched,
    Inherited,
    Intent,
    Missing,
    NotTaken,
    Renewed,
    Submitted,
    TookOver,
)

MOST_INNOCENT = 5
"""So many attempts that ended because of a node, by preemption, or without a trace do not count against the retries."""
_INNOCENT = frozenset({Reason.NODE, Reason.PREEMPTED, Reason.VANISHED, Reason.LAUNCH})
_KILLED = frozenset({Reason.NODE, Reason.PREEMPTED, Reason.CANCELED, Reason.MEMORY, Reason.TIME})
"""Ends that keep a job from writing its record."""


@dataclass(frozen=True)
class Plan:
    """What is to be done now, in this order.

    Attributes:
        find: jobs that may have been submitted without our knowing the id.
        submit: jobs to hand to the batch system.
        collect: jobs whose results are to be looked at.
        fetch: jobs whose results are to be brought home.
        cancel: jobs that are not needed any more.
        over: nothing is left to wait for.
    """

    find: tuple[BatchJob, ...]
    submit: tuple[BatchJob, ...]
    collect: tuple[BatchJob, ...]
    fetch: tuple[BatchJob, ...]
    cancel: tuple[BatchJob, ...]
    over: bool


def _for_good(reason: str) -> bool:
    """Whether a job that ended for this reason need not be tried again."""
    return reason == Reason.CANCELED or reason.startswith((Reason.DEPENDENCY, Reason.NEVER))


class Progress:
    """The jobs of a submission and what became of them."""

    def __init__(
        self,
        jobs: Iterable[tuple[str, Sequence[str]]],
        *,
        retry_count: int = 3,
        max_jobs: int | None = None,
        ratio_unfinished: float = 0.0,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.jobs = {name: BatchJob(name, tuple(tasks)) for name, tasks in jobs}
        self._retry_count = retry_count
        self._max_jobs = max_jobs
        self._ratio = ratio_unfinished
        self._settle_s = settle_s
        self.full = False
        """The batch system took no more jobs when it was last tried; cleared by the next listing: others' jobs end too."""
        self.common_home = False
        """The common results have been fetched since a job was placed last."""
        self.common_missing: tuple[Missing, ...] = ()

    # --- what has happened ----------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take in one event; those of jobs that are not ours (an older form of the submission) are passed over."""
        job = self.jobs.get(getattr(event, "job", ""))
        if isinstance(event, CommonFetched):
            self.common_home, self.common_missing = True, event.missing
        elif isinstance(event, TookOver):
            self._on_took_over(event)
        elif job is not None:
            self._on_event(job, event)

    def _on_event(self, job: BatchJob, event: Event) -> None:
        if isinstance(event, Intent):
            job.phase, job.attempt, job.id = Phase.INTENDED, event.attempt, ""
            job.state, job.missed, job.over = JobState.unsubmitted, 0, False
            self._begin_watching(job)
            job.left_id = ""
            self._to_fetch(job)
        elif isinstance(event, Submitted):
            job.phase, job.attempt, job.id = Phase.PLACED, event.attempt, event.id
            job.state, job.status, job.missed, job.over = JobState.waiting, None, 0, False
            self._begin_watching(job)
        elif isinstance(event, NotTaken):
            job.phase = Phase.FAILED if event.final else Phase.NEW
            job.state = JobState.failed if event.final else JobState.unsubmitted
            job.reason, job.detail = (Reason.LAUNCH, event.why) if event.final else ("", "")
            self.full = not event.final
        elif isinstance(event, Ended):
            self._on_ended(job, event)
        elif isinstance(event, Inherited):
            job.results |= {result.hash: result for result in event.tasks}
            if job.succeeded:
                job.phase, job.state = Phase.DONE, JobState.finished
        elif isinstance(event, Fetched):
            job.fetched, job.missing = True, event.missing
        elif isinstance(event, Canceled):
            self._on_canceled(job, event)
        elif isinstance(event, Renewed):
            self._on_renewed(job, event)

    def _begin_watching(self, job: BatchJob) -> None:
        job.unclear = job.doubted = job.given_up = False
        job.why, job.hopeless, job.never = "", 0, ""

    def _on_renewed(self, job: BatchJob, event: Renewed) -> None:
        for name in event.tasks:
            job.results.pop(name, None)
        if job.phase.final:
            job.phase, job.state, job.attempt = Phase.NEW, JobState.unsubmitted, job.attempt + 1
        job.failures = job.innocent = 0
        job.reason = job.detail = ""
        self._to_fetch(job)

    def _to_fetch(self, job: BatchJob) -> None:
        job.fetched, job.missing = False, ()
        self.common_home, self.common_missing = False, ()

    def missing(self) -> list[Missing]:
        """Results that are not home although their tasks have ended well; that is a failure until they are."""
        return [each for job in self.jobs.values() for each in job.missing] + list(self.common_missing)

    def look_again(self) -> None:
        """Let what is missing be fetched once more: somebody may have put it there."""
        for job in self.jobs.values():
            job.fetched = job.is_home
        self.common_home = self.common_home and not self.common_missing

    def _on_took_over(self, event: TookOver) -> None:
        """What another submission has of these jobs is all there is to know of them."""
        for name in event.jobs:
            if name in self.jobs:
                self.jobs[name] = BatchJob(name, self.jobs[name].tasks)
        for each in event.events:
            self.apply(each)

    def _on_ended(self, job: BatchJob, event: Ended) -> None:
        job.results |= {result.hash: result for result in event.tasks}
        job.reason, job.detail, job.over, job.ended = event.reason, event.detail, False, event
        if not event.reason:
            job.phase, job.state = Phase.DONE, JobState.finished
            return
        job.failures += event.counts
        job.innocent += not event.counts
        job.phase = Phase.NEW if event.again else Phase.FAILED
        job.state = JobState.terminated if event.again else JobState.failed
        job.attempt += event.again

    def _on_canceled(self, job: BatchJob, event: Canceled) -> None:
        job.results |= {result.hash: result for result in event.tasks}
        job.left_id = job.id if job.phase is Phase.PLACED else job.left_id
        if job.tasks and job.succeeded:
            job.phase, job.state = Phase.DONE, JobState.finished
        else:
            job.phase, job.state = Phase.CANCELED, JobState.terminated
            job.reason, job.detail = Reason.CANCELED, event.why

    def on_listing(
        self,
        listing: Mapping[str, Status],
        now_s: float,
        *,
        unclear: Collection[str] = (),
        doubted: Collection[str] = (),
    ) -> None:
        """What the batch system tells of all placed jobs; an unknown state means still there.

        `unclear`: jobs of which nothing is known now; `doubted`: jobs that were only left out of the answer.
        """
        self.full = False
        for job in self.placed():
            job.unclear, job.doubted = job.id in unclear, job.id in doubted
            if job.unclear:  # neither a sign of life nor one of the end
                job.over = False
                continue
            status = listing.get(job.id)
            job.status = status or job.status
            job.over = status is None or status.state.ended
            if status is not None and not job.over:
                job.state, job.missed = status.state, 0
                if status.state is not JobState.waiting:
                    job.why = ""
                elif not job.why.startswith(status.why):  # else more of it is known already
                    job.why = status.why
                job.hopeless = job.hopeless + 1 if status.hopeless else 0
                continue
            job.missed_since_s = job.missed_since_s if job.missed else now_s
            job.missed += 1

    def waiting(self) -> list[BatchJob]:
        """Placed jobs that the batch system lists as waiting."""
        return [job for job in self.placed() if job.state is JobState.waiting and not job.over and not job.unclear]

    def without_hope(self) -> list[BatchJob]:
        """Jobs that wait and can never start, as the batch system has said for a while."""
        return [job for job in self.waiting() if job.hopeless >= HOPELESS_POLLS]

    def judge(
        self,
        job: BatchJob,
        recorded: bool,
        results: Mapping[str, TaskResult],
        detail: str,
        now_s: float,
        own_reason: str = "",
    ) -> Ended | None:
        """What an ended job came to, from its own record and its tasks' results; None: look again with the next listing.

        `recorded`: the record of this attempt is there, so its shell has come to its end. What is known of a task from
        before counts where nothing new is known. `own_reason` is what the job itself says of its end.
        """
        end = job.status if job.status is not None and job.status.state.ended else None
        known = {**job.results, **results}
        mine = {name: known[name] for name in job.tasks if name in known}
        bad = [name for name in job.tasks if name not in mine or mine[name].exit_code != 0]
        silent = any(name not in mine or mine[name].attempt < job.attempt for name in bad)
        if not recorded and ((job.unclear and bad) or (silent and self._may_still_come(job, end, now_s))):
            return None
        reason = ""
        if bad:
            failed = any(name in mine and mine[name].attempt == job.attempt for name in bad)
            reason = own_reason or (end.reason if end is not None else "")
            reason = reason or (Reason.PROGRAM if failed or recorded else Reason.VANISHED)
            if job.never and not mine:  # whatever else is told of a job that was taken out of the queue
                reason = f"{Reason.NEVER}: {job.never}"
            elif job.given_up and reason in (Reason.CANCELED, Reason.PROGRAM):  # by us
                reason = Reason.VANISHED
        counts, again = self._verdict(job, reason, mine)
        known_end = end or Status(JobState.unknown)
        return Ended(
            job.hash,
            job.attempt,
            reason,
            detail if bad else "",
            known_end.exit_code,
            counts,
            again,
            tuple(mine.values()),
            known_end.start_s,
            known_end.end_s,
            known_end.nodes,
        )

    def _may_still_come(self, job: BatchJob, end: Status | None, now_s: float) -> bool:
        """Files of a job that has ended may come to light late, and so may the end itself."""
        killed = end is not None and end.reason in _KILLED
        seen = Sighting(job.missed, job.missed_since_s)
        return seen.may_still_come(now_s, self._settle_s, doubted=job.doubted, explained=killed or bool(job.never))

    def _verdict(self, job: BatchJob, reason: str, results: Mapping[str, TaskResult]) -> tuple[bool, bool]:
        """(the attempt counts against the retries, the job is placed again)."""
        counts = bool(reason) and (reason not in _INNOCENT or job.innocent >= MOST_INNOCENT)
        return counts, bool(reason) and not _for_good(reason) and job.failures + counts <= self._retry_count

    def on_partial(self, job: BatchJob, results: Mapping[str, TaskResult]) -> list[str]:
        """Results of tasks of a job that still runs; those that are new."""
        new = [name for name in job.tasks if name in results and job.results.get(name) != results[name]]
        job.results |= {name: results[name] for name in new}
        return new

    # --- what to do -----------------------------------------------------------------------------------------------------

    def placed(self) -> list[BatchJob]:
        return [job for job in self.jobs.values() if job.phase is Phase.PLACED]

    def plan(self) -> Plan:
        jobs = self.jobs.values()
        working = [job for job in jobs if job.tasks and not job.phase.final]
        cancel = tuple(job for job in jobs if not job.phase.final) if self._enough() or not working else ()
        room = len(self.jobs) if self._max_jobs is None else self._max_jobs
        room -= sum(job.phase in (Phase.PLACED, Phase.INTENDED) for job in jobs)
        new = [job for job in jobs if job.phase is Phase.NEW] if not cancel and not self.full else []
        fetch = tuple(job for job in jobs if job.phase.final and not job.fetched)
        return Plan(
            find=tuple(job for job in jobs if job.phase is Phase.INTENDED),
            submit=tuple(new[: max(0, room)]),
            collect=tuple(job for job in jobs if job.phase is Phase.PLACED and (job.over or job.unclear)),
            fetch=fetch,
            cancel=cancel,
            over=not cancel and all(job.phase.final for job in jobs),
        )

    def _enough(self) -> bool:
        """Whether no more than the share that need not end is left."""
        if not self._ratio:
            return False
        tasks = sum(len(job.tasks) for job in self.jobs.values())
        done = sum(result.exit_code == 0 for job in self.jobs.values() for result in job.results.values())
        return tasks > done >= (1 - self._ratio) * tasks and any(not job.phase.final for job in self.jobs.values())

    def counts(self) -> dict[str, int]:
        """How many tasks are done, failed and in all."""
        results = [result for job in self.jobs.values() for result in job.results.values()]
        done = sum(result.exit_code == 0 for result in results)
        return {"tasks": sum(len(job.tasks) for job in self.jobs.values()), "done": done, "failed": len(results) - done}


class ServiceProgress(Progress):
    """Jobs that are a pilot for others, who know whether they need another one."""

    def _verdict(self, job: BatchJob, reason: str, results: Mapping[str, TaskResult]) -> tuple[bool, bool]:
        return bool(reason), False


class PilotProgress(Progress):
    """Jobs that are pilots: what failed in one has had its retries there; what it has not got to is left for the next."""

    MOST_IDLE = 2
    """Allocations in a row in which no task ended."""

    def __init__(
        self,
        jobs: Iterable[tuple[str, Sequence[str]]],
        *,
        max_allocations: int,
        ratio_unfinished: float,
        settle_s: float = SETTLE_S,
    ) -> None:
        super().__init__(jobs, ratio_unfinished=ratio_unfinished, settle_s=settle_s)
        self._max_allocations = max_allocations

    def _verdict(self, job: BatchJob, reason: str, results: Mapping[str, TaskResult]) -> tuple[bool, bool]:
        """An attempt counts when nothing ended in it; with the next that does, the count begins anew."""
        ended_before = sum(result.attempt < job.attempt for result in results.values())
        idle = bool(reason) and ended_before == len(results)
        if not idle:
            job.failures = 0
        left = any(name not in results for name in job.tasks)
        again = left and not _for_good(reason) and job.attempt + 1 < self._max_allocations
        return idle, again and (not idle or job.failures + 1 < self.MOST_IDLE)
