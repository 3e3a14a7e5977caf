"""What an earlier life left: the journal's events again, agents that come back, and what is in doubt until they have told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .attempts import Attempt, End
from .decisions import Decisions
from .dispatch import Dispatch
from .ids import GrantId, NodeNo, PoolId, TaskKey
from .job_spec import Need
from .jobs import Shape, pending_of
from .lifecycle import Lifecycle
from .queue import Queue
from .registry import Registry
from .resources import Grant
from .results import Result
from .states import Cause, State


class Recovery:
    """Puts the scheduler's parts where an earlier life, or an agent that was cut off, left them."""

    def __init__(self, jobs: Registry, queue: Queue, dispatch: Dispatch, life: Lifecycle, decisions: Decisions) -> None:
        self._jobs = jobs
        self._queue = queue
        self._dispatch = dispatch
        self._life = life
        self._decisions = decisions
        self.lost: dict[TaskKey, Attempt] = {}
        """Attempts that counted as lost with their agent; it may come back and tell that they have ended."""
        self.lost_grants: dict[GrantId, Grant] = {}
        """What those held."""

    def match_late_end(self, key: TaskKey, end: End | Result) -> Attempt | None:
        """The attempt `key`, which had counted as lost, when its end decides the task: nothing else has yet.

        An attempt that has taken its place since is stopped if this one succeeded; otherwise it is given its chance. What has
        parts on other nodes was swept there when it was lost: if it failed, that was us.
        """
        attempt = self.lost.pop(key, None)
        if attempt is None:
            return None
        job = self._jobs.by_no(key.job_no)
        if end.cause is not Cause.EXITED or job is None or job.tasks.state(key.pos).final:
            return None
        if end.exit_code != 0 and attempt.grant is not None and len(attempt.grant.shares) > 1:
            return None
        successor = self._dispatch.attempt_of(job, key.pos)
        if successor is None:
            self._life.withdraw(job, key.pos)
            self._jobs.move_task(job, key.pos, State.SCHEDULED)
            attempt.started_s = 0.0
        elif end.exit_code != 0 or successor.canceling:
            return None
        else:
            attempt.started_s = successor.started_s  # tells whether the task counts as executing
            del self._dispatch.attempts[successor.key]
            self._dispatch.not_unstarted(successor)
            self._decisions.orders_for(successor.node).kills.append(successor.key)
        return attempt

    def still_running(self, node: NodeNo, key: TaskKey, grant_id: GrantId) -> None:
        """An agent that had counted as lost is back, as `node`, and runs `key` on a grant of this node alone.

        The attempt goes on if its task only waits to be started again; `on_started` follows. (One with parts on other nodes
        cannot: they have been swept.)
        """
        attempt, grant = self.lost.get(key), self._dispatch.grants.get(grant_id)
        if attempt is None or grant is None or self._jobs.by_no(key.job_no) is not attempt.job:
            return
        tasks = attempt.job.tasks
        waits = tasks.state(key.pos) is State.QUEUED and tasks.run(key.pos) == key.run
        if not waits:
            return
        del self.lost[key]
        self._life.attempt_back(attempt)
        attempt.node, attempt.grant, attempt.started_s, attempt.in_doubt = node, grant, 0.0, False
        self._dispatch.attempts[key] = attempt
        self._decisions.sent.setdefault(node, []).append(key)

    def replay_sent(self, node: NodeNo, key: TaskKey, now: float) -> None:
        job = self._jobs.by_no(key.job_no)
        if job is None or job.tasks.state(key.pos) is not State.QUEUED:
            return
        job.tasks.set_run(key.pos, key.run)
        attempt = self.lost.pop(key, None) or Attempt(key, job, pending_of(job.pendings, key.pos), node, PoolId(0), now)
        self._life.attempt_back(attempt)
        attempt.node, attempt.in_doubt = node, True
        self._dispatch.attempts[key] = attempt

    def replay_result(self, result: Result) -> None:
        key = TaskKey(result.job_no, result.pos, result.run)
        attempt = self._dispatch.attempts.pop(key, None)
        if attempt is None and result.cause is not Cause.LOST:
            attempt = self.match_late_end(key, result)
        if attempt is None:
            return
        if result.pid > 0:
            self._jobs.move_task(attempt.job, result.pos, State.EXECUTING)
        self._life.replay_result(attempt, result)
        if result.cause is Cause.LOST:
            self.lost[key] = attempt
        self._life.settle(result.ended_s)

    def replay_taken(self, key: TaskKey) -> None:
        attempt = self._dispatch.attempts.pop(key, None)
        if attempt is not None:
            # The record has no time of its own. What was cancelled ends here, and what depends on it follows.
            self._life.attempt_taken(attempt, attempt.scheduled_s)
            self.lost[key] = attempt
            self._life.settle(attempt.scheduled_s)

    def adopt(
        self, node: NodeNo, grants: Sequence[Grant], waiting: Mapping[PoolId, Sequence[TaskKey]], now: float
    ) -> None:
        """An agent that outlived the manager tells what it holds; its running tasks follow as `on_started`.

        A pool the agent names is known by its waiting or running tasks' need; both sides keep its number.
        """
        for grant in grants:
            if grant.grant_id not in self._dispatch.grants:
                self._dispatch.adopt(grant, self._shape_of_pool(grant, waiting))
        for pool_id, keys in waiting.items():
            for key in keys:
                attempt = self._dispatch.attempts.get(key)
                pool = self._dispatch.pools.get(pool_id)
                if attempt is not None and pool is not None:
                    attempt.pool_id, attempt.in_doubt = pool_id, False
                    pool.unstarted[key] = now

    def _shape_of_pool(self, grant: Grant, waiting: Mapping[PoolId, Sequence[TaskKey]]) -> Shape:
        for key in waiting.get(grant.pool, ()):
            attempt = self._dispatch.attempts.get(key)
            if attempt is not None and grant.shares[0].node not in attempt.pending.shape.pools:
                return attempt.pending.shape
        # Nothing waits in this pool, so nothing will be added to it either: any need that no job has will do.
        return self._queue.shape(Need(cores=None, nodes=None, gpus=-grant.pool))

    def doubt(self, node: NodeNo, held: Collection[TaskKey]) -> None:
        """An agent we know tells anew what it holds: what it does not name may have got lost on the way to it."""
        for attempt in self._dispatch.attempts.values():
            if attempt.node == node and attempt.key not in held:
                attempt.in_doubt = True

    def drop_doubtful(self, node: NodeNo, now: float) -> None:
        """The agent of `node` has told all it holds: attempts it does not know never reached it, or are lost."""
        for attempt in [
            attempt for attempt in self._dispatch.attempts.values() if attempt.node == node and attempt.in_doubt
        ]:
            del self._dispatch.attempts[attempt.key]
            attempt.in_doubt = False
            self._dispatch.not_unstarted(attempt)
            self._life.attempt_taken(attempt, now)
        for attempt in self._dispatch.attempts.values():
            if attempt.node == node and attempt.canceling:
                self._decisions.orders_for(node).kills.append(attempt.key)
        self._life.settle(now)

    def drop_grants(self, node: NodeNo, held: Collection[GrantId]) -> None:
        """The agent of `node` has told which grants it holds: others never reached it."""
        for grant in [grant for grant in self._dispatch.grants.values() if grant.shares[0].node == node]:
            if grant.grant_id not in held:
                self._dispatch.returned(grant)
        for pool in self._dispatch.pools.values():
            if pool.node == node:
                pool.revoking.clear()  # what was asked back may not have been heard either
