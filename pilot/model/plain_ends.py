"""Starts and ends that nothing distinguishes, many at once: the path of most tasks, beside the general one.

Nearly every task of a large job is an iteration that was sent together with its neighbours, exits with 0 and means nothing for
any other job. For those the general path (Scheduler.on_finished, Lifecycle) asks a dozen questions whose answer is known, and
one manager ends at the rate of these questions. There are two shorter ones, for the two ways in which a report has them:

- `take_alike`, for ends that the agent found to be alike, in columns. What concerns the job is asked once for all of them, what
  concerns attempts once for those of one kind; then each step works on a whole column, and so do the journal, the report and
  the ring of events with what is handed over (`Successes`, `Succeeded`).
- `take`, for the others. In reports of a few ends columns would cost more than they save.

Starts have one of their own, `take_starts`. All hand over everything that is not plain. An attempt or grant of another node
is not plain either: what an agent may speak of is asked by manager/claims.py.

The rule that keeps this honest: all paths lead to the same state and decisions. They are not here for what is easy to get
wrong: an attempt that is being stopped, in doubt or found again, a failure, a message, a task over several nodes, a job that
others wait for, the last task of a job are all left to the general path. A test runs all of them on the same ends
(test_plain_ends.py).

Rejected: to ask that positions are consecutive, which would save a column. The ends of a report are of many workers. To let
agents wait until they are: then nobody knows of an end until its neighbours have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby, repeat
from operator import attrgetter, itemgetter, sub
from typing import TypeVar, cast

from .attempts import Attempt, LostAttempts, placed
from .decisions import Change, Decisions, Succeeded
from .dispatch import Dispatch
from .ids import GrantId, JobNo, NodeNo, PoolId, TaskKey
from .jobs import Job
from .registry import Registry
from .resources import Grant
from .results import PlacedShare, Result, Successes
from .states import AttemptEvent, AttemptState, Cause, State
from .tasks import ManyTasks

EndReport = tuple[JobNo, int, int, GrantId, int, float, float, int, Cause, float, int, str, bool]
"""The end of an attempt, in the words of wire.frames.Finished."""

StartReport = tuple[JobNo, int, int, GrantId, int, float]
"""The start of an attempt, in the words of wire.frames.Started."""

SuccessReport = tuple[
    JobNo, int, bool, list[int], list[GrantId], list[int], list[float], list[float], list[float], list[int]
]
"""Ends that are alike, in the words of wire.frames.Succeeded: a job, a run, and columns."""

_Start = TypeVar("_Start", bound=StartReport)
_End = TypeVar("_End", bound=EndReport)

_Kind = tuple[NodeNo, AttemptState, PoolId, float]
"""What attempts have in common that end together: their node, state, pool, and when they were sent."""

_Place = tuple[Grant, tuple[PlacedShare, ...], int]
"""A grant, what results say of it, and the number of that."""

_EXITED, _END = Cause.EXITED, AttemptEvent.END
_SENT = AttemptState.SENT
_PLAIN = (_SENT, AttemptState.RUNNING)
_SCHEDULED, _EXECUTING, _SUCCEED = State.SCHEDULED, State.EXECUTING, State.SUCCEED
_MOST_PLACES = 65_536
_job_of = itemgetter(0)
_kind_of = attrgetter("node", "state", "pool_id", "scheduled_s")
_tuple = tuple.__new__
"""Makes a named tuple for half of what naming its fields costs."""


class PlainEnds:
    """Moves plain attempts to their end."""

    def __init__(self, dispatch: Dispatch, jobs: Registry, lost: LostAttempts, decisions: Decisions) -> None:
        self._dispatch = dispatch
        self._lost = lost
        self._jobs = jobs
        self._decisions = decisions
        self._places: dict[GrantId, _Place] = {}
        """Remembered, because very many tasks run on few grants. Only what `grants` still has counts."""

    def take_starts(self, node: NodeNo, starts: Iterable[_Start], otherwise: Callable[[_Start], None]) -> None:
        """Take in what the agent of `node` reports to have started; `otherwise` is called for each start that is not plain."""
        attempts, grants = self._dispatch.attempts, self._dispatch.grants
        begun: list[tuple[TaskKey, Attempt]] = []
        for start in starts:
            job_no, pos, run, grant_id, pid, started_s = start
            attempt, grant = attempts.get(TaskKey(job_no, pos, run)), grants.get(grant_id)
            is_own = grant is not None and grant.shares[0].node == node
            if attempt is None or attempt.node != node or attempt.state is not _SENT or not is_own:
                otherwise(start)
                continue
            attempt.after(AttemptEvent.START)
            attempt.grant, attempt.pid, attempt.started_s = grant, pid, started_s
            self._dispatch.remove_unstarted(attempt)
            begun.append((attempt.key, attempt))
            job = attempt.job
            self._jobs.move_task(job, pos, _EXECUTING)
            self._decisions.changes.append(Change(job, pos if job.is_iteration else None, _EXECUTING, started_s))
        self._dispatch.attempts_at.all_added(node, begun)

    def take(self, node: NodeNo, ends: Iterable[_End], otherwise: Callable[[_End], None]) -> None:
        """Take in what the agent of `node` reports, in its order; `otherwise` is called for each end that is not plain."""
        for job_no, of_job in groupby(ends, key=_job_of):
            job = self._jobs.by_no(job_no)
            if job is None or not _has_plain_ends(job):
                for end in of_job:
                    otherwise(end)
            else:
                self._take_of_job(node, job, of_job, otherwise)

    def _take_of_job(
        self,
        node: NodeNo,
        job: Job,
        ends: Iterable[_End],
        otherwise: Callable[[_End], None],
    ) -> None:
        assert isinstance(job.tasks, ManyTasks)
        tasks = job.tasks
        attempts, pools, tasks_in = self._dispatch.attempts, self._dispatch.pools, self._jobs.tasks_in
        results, changes = self._decisions.results, self._decisions.changes
        before_last = job.spec.task_count - 1
        for end in ends:
            job_no, pos, run, grant_id, pid, started_s, ended_s, code, cause, cpu_s, rss_kib, message, returns = end
            key = TaskKey(job_no, pos, run)
            attempt = attempts.get(key)
            place = self._place_of(node, grant_id)
            if attempt is None or place is None or attempt.node != node or not attempt.is_plain:
                otherwise(end)
                continue
            if code or message or cause is not _EXITED or pid <= 0 or job.finished >= before_last:
                otherwise(end)
                continue
            del attempts[key]
            self._dispatch.attempts_at.gone(node, key)
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
                self._places.pop(grant_id, None)

    # --- in columns -----------------------------------------------------------------------------------------------------

    def take_alike(self, node: NodeNo, ends: SuccessReport, otherwise: Callable[[int], None]) -> None:
        """`take` for ends that are alike as far as their agent can know; `otherwise` gets the places of those that are not.

        Positions must be distinct, grants too if they are given back, and the columns equally long.
        """
        job_no, run, _, positions, grant_ids, *_ = ends
        job = self._jobs.by_no(job_no)
        if job is None or not _has_plain_ends(job):
            for place in range(len(positions)):
                otherwise(place)
            return
        keys = cast("Iterable[TaskKey]", zip(repeat(job_no), positions, repeat(run)))  # equal to them
        attempts = list(map(self._dispatch.attempts.get, keys))
        places = self._places_of(node, grant_ids)
        kinds = [
            None if attempt is None or grant_id not in places else _kind_of(attempt)
            for attempt, grant_id in zip(attempts, grant_ids, strict=True)
        ]
        first = 0
        for kind, of_kind in groupby(kinds):
            stop = first + len(list(of_kind))
            taken = first
            if kind is not None and kind[0] == node and kind[1] in _PLAIN:
                taken = min(stop, first + max(0, job.spec.task_count - 1 - job.finished))
                if taken > first:
                    alike = cast("list[Attempt]", attempts[first:taken])
                    self._succeed(job, kind, alike, _part(ends, first, taken), places)
            for place in range(taken, stop):
                otherwise(place)
            first = stop

    def _succeed(
        self,
        job: Job,
        kind: _Kind,
        attempts: list[Attempt],
        ends: SuccessReport,
        places: Mapping[GrantId, _Place],
    ) -> None:
        """These attempts, all of one kind, have ended well."""
        node, state, pool_id, scheduled_s = kind
        job_no, run, returns_grants, positions, grant_ids, pids, started_s, ended_s, cpu_s, rss_kib = ends
        count, keys = len(attempts), [attempt.key for attempt in attempts]
        in_flight, tasks_in = self._dispatch.attempts, self._jobs.tasks_in
        for key in keys:
            del in_flight[key]
        if state is not _SENT:
            self._dispatch.attempts_at.all_gone(node, keys)
        Attempt.all_after(attempts, _END)
        if self._lost.node_of:
            for pos in positions:
                self._lost.forget_task(job_no, pos, run)
        pool = self._dispatch.pools.get(pool_id)
        if pool is not None:
            pool.all_gone(keys)
            pool.pace.all_ran(list(map(sub, ended_s, started_s)))
            self._dispatch.touch(pool)
        numbers = [places[grant_id][2] for grant_id in grant_ids]
        assert isinstance(job.tasks, ManyTasks)
        job.tasks.succeed_all(
            positions,
            repeat(0),
            pids,
            numbers,
            rss_kib,
            cpu_s,
            repeat(scheduled_s),
            started_s,
            ended_s,
            repeat(_EXITED),
        )
        tasks_in[_SCHEDULED if state is _SENT else _EXECUTING] -= count
        tasks_in[_SUCCEED] += count
        job.finished += count
        distinct = {grant_id: place for place, grant_id in enumerate(dict.fromkeys(grant_ids))}
        where = [places[grant_id][1] for grant_id in distinct], positions, [distinct[grant] for grant in grant_ids]
        results = Successes(job_no, run, scheduled_s, *where, pids, started_s, ended_s, cpu_s, rss_kib)
        self._decisions.results.append(results)
        numbers = [places[grant_id][2] for grant_id in distinct]
        self._decisions.changes.append(Succeeded(job, results, numbers, unannounced=state is _SENT))
        if returns_grants:
            for grant_id in grant_ids:
                self._dispatch.returned(self._places.pop(grant_id, places[grant_id])[0])

    def _places_of(self, node: NodeNo, grant_ids: Iterable[GrantId]) -> dict[GrantId, _Place]:
        """Those of the grants that are of this node alone."""
        found = ((grant_id, self._place_of(node, grant_id)) for grant_id in set(grant_ids))
        return {grant_id: place for grant_id, place in found if place is not None}

    def _place_of(self, node: NodeNo, grant_id: GrantId) -> _Place | None:
        """The grant, if it is of this node alone."""
        grant, known = self._dispatch.grants.get(grant_id), self._places.get(grant_id)
        if grant is None or grant.shares[0].node != node or len(grant.shares) > 1:
            return None
        if known is not None and known[0] is grant:
            return known
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        shares = placed(grant.shares)
        place = self._places[grant_id] = grant, shares, self._jobs.places.number(shares)
        return place


def _has_plain_ends(job: Job) -> bool:
    """Whether an end can mean nothing but that a task of this job is over."""
    return isinstance(job.tasks, ManyTasks) and not (job.dependents or job.messages or job.canceling)


def _part(ends: SuccessReport, first: int, stop: int) -> SuccessReport:
    job_no, run, returns, pos, grant_ids, pids, started_s, ended_s, cpu_s, rss_kib = ends
    if stop - first == len(pos):
        return ends
    part = slice(first, stop)
    times = started_s[part], ended_s[part]
    return job_no, run, returns, pos[part], grant_ids[part], pids[part], *times, cpu_s[part], rss_kib[part]
