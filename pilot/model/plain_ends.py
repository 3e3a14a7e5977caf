"""Ends that nothing distinguishes, many at once: the path of most tasks, beside the general one.

Nearly every task of a large job is an iteration that was sent together with its neighbours, exits with 0 and means nothing for
any other job. For those the general path (Scheduler.on_finished, Lifecycle) asks a dozen questions whose answer is known, and
one manager ends at the rate of these questions. So `take` asks what concerns the job once for all ends of it in a report, does
for each end what remains, and hands over everything that is not plain.

An attempt or grant of another node is not plain either: what an agent may speak of is asked by manager/claims.py.

The rule that keeps this honest: both paths lead to the same state and decisions. It is not here for what is easy to get
wrong: an attempt that is being stopped, in doubt or found again, a failure, a message, a task over several nodes, a job that
others wait for, the last task of a job are all left to the general path. A test runs both on the same ends
(test_plain_ends.py).

Rejected: to do without the `Result` and the two `Change`s of each end by keeping columns up to the journal and the ring of
events. The ends of a report are of many workers, so they are no stretch of positions; and who reads them wants them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from .attempts import LostAttempts, placed
from .decisions import Change, Decisions
from .dispatch import Dispatch
from .ids import GrantId, JobNo, NodeNo, TaskKey
from .jobs import Job
from .registry import Registry
from .resources import Grant
from .results import PlacedShare, Result
from .states import AttemptEvent, Cause, State
from .tasks import ManyTasks

EndReport = tuple[JobNo, int, int, GrantId, int, float, float, int, Cause, float, int, str, bool]
"""The end of an attempt, in the words of wire.frames.Finished."""

_End = TypeVar("_End", bound=EndReport)

_Place = tuple[Grant, tuple[PlacedShare, ...], int]
"""A grant, what results say of it, and the number of that."""

_EXITED, _END = Cause.EXITED, AttemptEvent.END
_SCHEDULED, _EXECUTING, _SUCCEED = State.SCHEDULED, State.EXECUTING, State.SUCCEED
_job_of = itemgetter(0)
_tuple = tuple.__new__
"""Makes a named tuple for half of what naming its fields costs."""


class PlainEnds:
    """Moves plain attempts to their end."""

    def __init__(self, dispatch: Dispatch, jobs: Registry, lost: LostAttempts, decisions: Decisions) -> None:
        self._dispatch = dispatch
        self._lost = lost
        self._jobs = jobs
        self._decisions = decisions

    def take(self, node: NodeNo, ends: Iterable[_End], otherwise: Callable[[_End], None]) -> None:
        """Take in what the agent of `node` reports, in its order; `otherwise` is called for each end that is not plain."""
        places: dict[GrantId, _Place] = {}
        for job_no, of_job in groupby(ends, key=_job_of):
            job = self._jobs.by_no(job_no)
            if job is None or not isinstance(job.tasks, ManyTasks) or job.dependents or job.messages or job.canceling:
                for end in of_job:
                    otherwise(end)
            else:
                self._take_of_job(node, job, job.tasks, of_job, places, otherwise)

    def _take_of_job(
        self,
        node: NodeNo,
        job: Job,
        tasks: ManyTasks,
        ends: Iterable[_End],
        places: dict[GrantId, _Place],
        otherwise: Callable[[_End], None],
    ) -> None:
        attempts, pools, tasks_in = self._dispatch.attempts, self._dispatch.pools, self._jobs.tasks_in
        results, changes = self._decisions.results, self._decisions.changes
        before_last = job.spec.task_count - 1
        for end in ends:
            job_no, pos, run, grant_id, pid, started_s, ended_s, code, cause, cpu_s, rss_kib, message, returns = end
            key = TaskKey(job_no, pos, run)
            attempt = attempts.get(key)
            place = places.get(grant_id) or self._place_of(node, grant_id, places)
            if attempt is None or place is None or attempt.node != node or not attempt.is_plain:
                otherwise(end)
                continue
            if code or message or cause is not _EXITED or pid <= 0 or job.finished >= before_last:
                otherwise(end)
                continue
            del attempts[key]
            attempt.after(_END)
            if self._lost.node_of:
                self._lost.forget_task(job_no, pos, run)
            pool = pools.get(attempt.pool_id)
            if pool is not None:
                pool.gone(key)
                pool.pace.ran(ended_s - started_s)
                self._dispatch.touch(pool)
            grant, shares, number = place
            scheduled_s = attempt.scheduled_s
            before = tasks.succeed(pos, (0, pid, number, rss_kib, cpu_s, scheduled_s, started_s, ended_s, 0))
            if before == _SCHEDULED:
                changes.append(_tuple(Change, (job, pos, _EXECUTING, started_s, None, "")))
            tasks_in[before] -= 1
            tasks_in[_SUCCEED] += 1
            job.finished += 1
            times = scheduled_s, started_s, ended_s
            result = job_no, pos, run, _SUCCEED, _EXITED, 0, pid, *times, cpu_s, rss_kib, "", shares
            results.append(_tuple(Result, result))
            changes.append(_tuple(Change, (job, pos, _SUCCEED, ended_s, 0, "")))
            if returns:
                self._dispatch.returned(grant)
                del places[grant_id]

    def _place_of(self, node: NodeNo, grant_id: GrantId, places: dict[GrantId, _Place]) -> _Place | None:
        """The grant, if it is of this node alone; it is noted in `places`."""
        grant = self._dispatch.grants.get(grant_id)
        if grant is None or len(grant.shares) > 1 or grant.shares[0].node != node:
            return None
        shares = placed(grant.shares)
        place = places[grant_id] = grant, shares, self._jobs.places.number(shares)
        return place
