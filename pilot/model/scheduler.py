"""The core of the manager: events in, decisions out, no I/O, no clock, no randomness.

`on_*` and the client calls note what happened; `plan` decides what starts, once per turn of the loop; `take_decisions` hands
over all that has to be recorded, ordered and told. Every `now` is in seconds since the epoch. Equal calls give equal decisions,
so replaying a journal gives the state back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

from . import dependencies
from .attempts import Attempt, End
from .decisions import Change, Decisions
from .dispatch import Dispatch
from .errors import JobExistsError, NotEnoughResourcesError, RefusedError
from .ids import GrantId, JobNo, NodeNo, PoolId, TaskKey
from .iterplan import cores_plan
from .job_spec import JobSpec, Need, Size
from .jobs import Job, Shape, pending_of
from .lifecycle import Lifecycle
from .nodes import Nodes
from .queue import Queue
from .registry import Registry
from .resources import Grant, NodeSpec
from .results import Result
from .states import Cause, State


class Checked(NamedTuple):
    """Job descriptions that can be accepted, with (need, how many positions) of each in order of position."""

    specs: Sequence[JobSpec]
    plans: list[list[tuple[Need, int]]]


class Scheduler:
    """All jobs, all nodes, and what runs where.

    Args:
        nodes: the allocation; all start out unusable, until `on_node_up`.
        crash_limit: a task whose agent was lost this many times under it has FAILED.
        reserve_after_s: how long work may be passed before nodes are held for it.
        system_core: keep core 0 of the first node free.
        life: another number in each life of the manager, below 2**20; grants and pools are numbered by it.
    """

    def __init__(
        self,
        nodes: Iterable[NodeSpec] = (),
        *,
        crash_limit: int = 5,
        reserve_after_s: float = 10.0,
        system_core: bool = False,
        life: int = 0,
    ) -> None:
        self.nodes = Nodes(nodes, system_core)
        self.jobs = Registry()
        self.queue = Queue()
        self._decisions = Decisions()
        self.dispatch = Dispatch(self.nodes, self.jobs, self.queue, self._decisions, reserve_after_s, life)
        self._life = Lifecycle(self.jobs, self.queue, self._decisions, crash_limit)
        self.elastic = False
        """Nodes may yet come: what fits on none of those that are here waits for them instead of being refused."""
        self._was_busy = False
        self._lost: dict[TaskKey, Attempt] = {}
        self._silent: dict[NodeNo, list[Attempt]] = {}
        """Of nodes that are only silent, what has been counted as a crash."""
        self._lost_grants: dict[GrantId, Grant] = {}
        """Attempts that counted as lost with their agent; it may come back and tell that they have ended."""

    # --- clients --------------------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec], now: float) -> list[Job]:
        """Accept all of `specs` or none: `check` and `accept` in one step."""
        return self.accept(self.check(specs), now)

    def check(self, specs: Sequence[JobSpec]) -> Checked:
        """Whether these jobs can be accepted as they are; changes nothing.

        Raises JobExistsError, NotEnoughResourcesError or InvalidJobError.
        """
        seen: set[str] = set()
        for number, spec in enumerate(specs):
            if spec.name in seen or self.jobs.find(spec.name) is not None:
                raise JobExistsError(f"Job {spec.name} already exist", where=f"jobs[{number}].name")
            seen.add(spec.name)
        plans = [self._plan_of(spec) for spec in specs]
        for need in {need for plan in plans for need, _ in plan}:
            self._check_need(need, specs, plans)
        dependencies.check(specs, self.jobs)
        return Checked(specs, plans)

    def _check_need(self, need: Need, specs: Sequence[JobSpec], plans: list[list[tuple[Need, int]]]) -> None:
        reason = self.nodes.why_never(need)
        if reason is not None and not self.elastic:
            number = next(i for i, plan in enumerate(plans) if any(theirs == need for theirs, _ in plan))
            text = f"Not enough resources for job {specs[number].name}"
            raise NotEnoughResourcesError(text, where=f"jobs[{number}].resources", remedy=reason)

    def _plan_of(self, spec: JobSpec) -> list[tuple[Need, int]]:
        """(need, how many positions) in order of position."""
        need, spread = spec.resources.need, spec.resources.scheduler
        size = need.nodes if spread is not None and spread.of_nodes else need.cores
        if spread is None or spec.iteration is None or size is None:
            return [(need, spec.task_count)]
        available = self.nodes.count if spread.of_nodes else self.nodes.total_cores
        member = "nodes" if spread.of_nodes else "cores"
        needs: dict[int, Need] = {}  # by share: there are few different ones among very many
        plan = []
        for share, count in cores_plan(spread, size.min, spec.task_count, available):
            if share not in needs:
                needs[share] = replace(need, **{member: Size.exactly(share)})  # type: ignore[arg-type]
            plan.append((needs[share], count))
        return plan

    def accept(self, checked: Checked, now: float, numbers: Iterable[JobNo] = ()) -> list[Job]:
        """Take in what `check` let pass; nothing may have happened in between. `numbers`: from an earlier life."""
        jobs = [self.jobs.add(spec, now, no) for spec, no in zip_longest(checked.specs, numbers)]
        for job, plan in zip(jobs, checked.plans, strict=True):
            self._life.enter(job, plan)
        for job in jobs:
            self._life.connect(job)
        self._life.settle(now)
        self._was_busy = True
        return jobs

    def cancel(self, job: Job, now: float) -> None:
        """Cancel a whole job: queued tasks are CANCELED at once, running ones when they have been stopped.

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
        for pos in in_flight:
            self._kill(job, pos)
        self._life.settle(now)

    def cancel_task(self, job: Job, pos: int, now: float) -> None:
        """Cancel one task. Raises RefusedError when it has ended."""
        state = job.tasks.state(pos)
        if state.final:
            raise RefusedError(f"Job {job.spec.task_name(pos)} already finished")
        self._decisions.canceled.append((job.no, pos))
        if state is State.QUEUED:
            self._life.end_queued_task(job, pos, State.CANCELED, now)
        else:
            self._kill(job, pos)
        self._life.settle(now)

    def _kill(self, job: Job, pos: int) -> None:
        run = self.dispatch.attempts[TaskKey(job.no, pos, job.tasks.run(pos))]
        if not run.canceling:
            run.canceling = True
            self._decisions.orders_for(run.node).kills.append(run.key)

    def remove(self, job: Job) -> None:
        """Forget a job that has ended; its name becomes free. Raises RefusedError when it has not ended."""
        if not job.state.final:
            raise RefusedError(f"Job '{job.spec.name}' not finished - can not be removed")
        self.jobs.remove(job)
        self._decisions.removed.append(job.no)

    def attempt_of(self, job: Job, pos: int) -> Attempt | None:
        """The attempt at this task that is in flight."""
        return self.dispatch.attempts.get(TaskKey(job.no, pos, job.tasks.run(pos)))

    def free_cores(self) -> int:
        """Cores that no task uses, on nodes that are there or whose agent is on its way.

        While agents of an earlier life have not told which cores their tasks have, those tasks count with what they need.
        """
        awaited = set(self.nodes.awaited)
        free = sum(self.nodes.free_cores[node].bit_count() for node in awaited)
        if free:
            free -= sum(
                self._least(run) for run in self.dispatch.attempts.values() if run.node in awaited and not run.grant
            )
        return self.nodes.free_count + max(0, free)

    def _least(self, run: Attempt) -> int:
        """The fewest cores with which this attempt can have started."""
        need = run.pending.shape.need
        cores = need.cores.min if need.cores else self.nodes.all_cores[run.node].bit_count()
        return cores * (need.nodes.min if need.nodes else 1)

    # --- agents ---------------------------------------------------------------------------------------------------------

    def node_of(self, key: TaskKey) -> NodeNo | None:
        """The node that an attempt was sent to, also when it has counted as lost since; None: there is no such attempt."""
        run = self.dispatch.attempts.get(key) or self._lost.get(key)
        return None if run is None else run.node

    def on_node_joined(self, spec: NodeSpec) -> NodeNo:
        """A node becomes part of the pilot; usable from `on_node_up` on. Its name is that of no other node that is here."""
        return self.nodes.add(spec)

    def on_node_left(self, node: NodeNo, now: float) -> None:
        """The node will not come back: what it held goes back to the queue, and that is nobody's crash."""
        self.nodes.leave(node)
        self._decisions.sent.pop(
            node, None
        )  # what an agent had brought back in this very turn has not been recorded yet
        for run in self.dispatch.drop_node(node):
            del self.dispatch.attempts[run.key]
            self._life.attempt_taken(run, now)
        self._life.settle(now)

    def on_node_up(self, node: NodeNo) -> None:
        self.nodes.set_usable(node, True)

    def on_node_draining(self, node: NodeNo) -> None:
        """The node takes nothing new; what runs there comes to its end."""
        self.nodes.set_missing(node)
        self.dispatch.not_held(node)

    def on_node_lost(self, node: NodeNo, now: float, silent: bool = False) -> None:
        """The agent of this node is gone and everything it held with it: its tasks go back to the queue.

        `silent`: that is not known, it has only not been heard of for too long (see `on_node_back`).

        A task over several nodes whose first node lives is stopped there, and goes back when that has been reported.
        """
        self.nodes.set_missing(node)
        self._lost_grants |= {id_: grant for id_, grant in self.dispatch.grants.items() if grant.shares[0].node == node}
        lost = []
        for run in self.dispatch.drop_node(node):
            del self.dispatch.attempts[run.key]
            self._life.attempt_lost(run, now)
            self._lost[run.key] = run
            lost.append(run)
        self._silent[node] = [run for run in lost if run.counted] if silent else []
        self._life.settle(now)

    def on_node_back(self, node: NodeNo) -> None:
        """The agent that was silent is back: no task has taken it down."""
        for run in self._silent.pop(node, ()):
            self._life.no_crash(run)

    def on_started(self, key: TaskKey, grant_id: GrantId, pid: int, started_s: float) -> None:
        """An agent has started the attempt `key`. Unknown attempts (of an earlier life) are ignored."""
        run = self.dispatch.attempts.get(key)
        if run is not None and not run.started_s:
            run.grant = self.dispatch.grants.get(grant_id, run.grant)
            self.dispatch.not_unstarted(run)
            self._begin(run, pid, started_s)

    def _begin(self, run: Attempt, pid: int, started_s: float) -> None:
        run.pid, run.started_s, run.in_doubt = pid, started_s, False
        job, pos = run.job, run.key.pos
        self.jobs.move_task(job, pos, State.EXECUTING)
        self._decisions.changes.append(Change(job, pos if job.is_iteration else None, State.EXECUTING, started_s))

    def on_finished(self, key: TaskKey, grant_id: GrantId, end: End, returns_grant: bool, now: float) -> None:
        """An attempt has ended, and perhaps its grant came back. An end that is known already is ignored."""
        run = self.dispatch.attempts.pop(key, None) or self._found_again(key, end)
        grant = self.dispatch.grants.get(grant_id)
        if run is not None:
            run.grant = grant or run.grant or self._lost_grants.get(grant_id)
            pool = self.dispatch.not_unstarted(run)
            if end.pid > 0 and not run.started_s:
                self._begin(run, end.pid, end.started_s)
            if pool is not None and end.cause is Cause.EXITED:
                pool.ran(end.ended_s - end.started_s)
            self._life.attempt_ended(run, end, now)
        if returns_grant and grant is not None:
            self.dispatch.returned(grant)
        self._life.settle(now)

    def _found_again(self, key: TaskKey, end: End | Result) -> Attempt | None:
        """The attempt `key`, which had counted as lost, when its end decides the task: nothing else has yet.

        An attempt that has taken its place since is stopped if this one succeeded; otherwise it is given its chance. What has
        parts on other nodes was swept there when it was lost: if it failed, that was us.
        """
        found = self._lost.pop(key, None)
        if found is None:
            return None
        job = self.jobs.by_no(key.job_no)
        if end.cause is not Cause.EXITED or job is None or job.tasks.state(key.pos).final:
            return None
        if end.exit_code != 0 and found.grant is not None and len(found.grant.shares) > 1:
            return None
        successor = self.attempt_of(job, key.pos)
        if successor is None:
            self._life.withdraw(job, key.pos)
            self.jobs.move_task(job, key.pos, State.SCHEDULED)
            found.started_s = 0.0
        elif end.exit_code != 0 or successor.canceling:
            return None
        else:
            found.started_s = successor.started_s  # tells whether the task counts as executing
            del self.dispatch.attempts[successor.key]
            self.dispatch.not_unstarted(successor)
            self._decisions.orders_for(successor.node).kills.append(successor.key)
        return found

    def on_still_running(self, node: NodeNo, key: TaskKey, grant_id: GrantId) -> None:
        """An agent that had counted as lost is back, as `node`, and runs `key` on a grant of this node alone.

        The attempt goes on if its task only waits to be started again; `on_started` follows. (One with parts on other nodes
        cannot: they have been swept.)
        """
        run, grant = self._lost.get(key), self.dispatch.grants.get(grant_id)
        if run is None or grant is None or self.jobs.by_no(key.job_no) is not run.job:
            return
        tasks = run.job.tasks
        waits = tasks.state(key.pos) is State.QUEUED and tasks.run(key.pos) == key.run
        if not waits:
            return
        del self._lost[key]
        self._life.attempt_back(run)
        run.node, run.grant, run.started_s, run.in_doubt = node, grant, 0.0, False
        self.dispatch.attempts[key] = run
        self._decisions.sent.setdefault(node, []).append(key)

    def on_returned(self, grant_id: GrantId) -> None:
        """An agent gives back a grant for which it has no task."""
        grant = self.dispatch.grants.get(grant_id)
        if grant is not None:
            self.dispatch.returned(grant)

    def on_revoked(self, key: TaskKey, now: float) -> None:
        """An agent gives back an attempt it has not started."""
        run = self.dispatch.attempts.pop(key, None)
        if run is not None:
            self.dispatch.not_unstarted(run)
            self._life.attempt_taken(run, now)
            self._life.settle(now)

    def ends_at(self, ends_s: float | None, margin_s: float) -> None:
        """When the allocation ends (seconds since the epoch, None: never), and how long before that tasks must be over."""
        self.dispatch.ends_s, self.dispatch.margin_s = ends_s, margin_s

    def on_stopping(self) -> None:
        """The pilot ends: tasks that are stopped from now on are `interrupted`."""
        if self._life.interrupted is None:
            self._life.interrupted = 0

    @property
    def interrupted(self) -> int:
        """Running tasks that went back to the queue since `on_stopping`."""
        return self._life.interrupted or 0

    def stalled(self, now: float) -> bool:
        """Whether work is left that only another allocation can do."""
        return not self.elastic and self.jobs.unfinished > 0 and self.dispatch.stalled(now)

    # --- deciding -------------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> None:
        """Start what can be started; call once per turn."""
        self.dispatch.plan(now)

    def on_time(self, now: float) -> None:
        """Call about twice a second: takes back what was lent and could not start."""
        self.dispatch.take_back_stale(now)

    def take_decisions(self) -> Decisions:
        """Everything decided since the last call, to be recorded, ordered and told, in this order."""
        decisions = self._decisions.drain()
        decisions.idle = self._was_busy and self.jobs.unfinished == 0
        if decisions.idle:
            self._was_busy = False
        return decisions

    # --- resuming: the same events again, from the journal, then what the living agents hold ------------------------------

    def replay_submitted(self, specs: Sequence[JobSpec], now: float, numbers: Iterable[JobNo] = ()) -> list[Job]:
        """A submit that was accepted before. Jobs that no longer fit this allocation wait for one that is larger."""
        return self.accept(Checked(specs, [self._plan_of(spec) for spec in specs]), now, numbers)

    def replay_sent(self, node: NodeNo, key: TaskKey, now: float) -> None:
        job = self.jobs.by_no(key.job_no)
        if job is None or job.tasks.state(key.pos) is not State.QUEUED:
            return
        job.tasks.set_run(key.pos, key.run)
        run = self._lost.pop(key, None) or Attempt(key, job, pending_of(job.pendings, key.pos), node, PoolId(0), now)
        self._life.attempt_back(run)
        run.node, run.in_doubt = node, True
        self.dispatch.attempts[key] = run

    def replay_result(self, result: Result) -> None:
        key = TaskKey(result.job_no, result.pos, result.run)
        run = self.dispatch.attempts.pop(key, None)
        if run is None and result.cause is not Cause.LOST:
            run = self._found_again(key, result)
        if run is None:
            return
        if result.pid > 0:
            self.jobs.move_task(run.job, result.pos, State.EXECUTING)
        self._life.replay_result(run, result)
        if result.cause is Cause.LOST:
            self._lost[key] = run
        self._life.settle(result.ended_s)

    def replay_taken(self, key: TaskKey) -> None:
        run = self.dispatch.attempts.pop(key, None)
        if run is not None:
            self._life.attempt_taken(run, 0.0)
            self._lost[key] = run

    def adopt(
        self, node: NodeNo, grants: Sequence[Grant], waiting: Mapping[PoolId, Sequence[TaskKey]], now: float
    ) -> None:
        """An agent that outlived the manager tells what it holds; its running tasks follow as `on_started`.

        A pool the agent names is known by its waiting or running tasks' need; both sides keep its number.
        """
        for grant in grants:
            if grant.grant_id not in self.dispatch.grants:
                self.dispatch.adopt(grant, self._shape_of_pool(grant, waiting))
        for pool_id, keys in waiting.items():
            for key in keys:
                run = self.dispatch.attempts.get(key)
                pool = self.dispatch.pools.get(pool_id)
                if run is not None and pool is not None:
                    run.pool_id, run.in_doubt = pool_id, False
                    pool.unstarted[key] = now

    def _shape_of_pool(self, grant: Grant, waiting: Mapping[PoolId, Sequence[TaskKey]]) -> Shape:
        for key in waiting.get(grant.pool, ()):
            run = self.dispatch.attempts.get(key)
            if run is not None and grant.shares[0].node not in run.pending.shape.pools:
                return run.pending.shape
        # Nothing waits in this pool, so nothing will be added to it either: any need that no job has will do.
        return self.queue.shape(Need(cores=None, nodes=None, gpus=-grant.pool))

    def doubt(self, node: NodeNo, held: Collection[TaskKey]) -> None:
        """An agent we know tells anew what it holds: what it does not name may have got lost on the way to it."""
        for run in self.dispatch.attempts.values():
            if run.node == node and run.key not in held:
                run.in_doubt = True

    def drop_doubtful(self, node: NodeNo, now: float) -> None:
        """The agent of `node` has told all it holds: attempts it does not know never reached it, or are lost."""
        for run in [run for run in self.dispatch.attempts.values() if run.node == node and run.in_doubt]:
            del self.dispatch.attempts[run.key]
            run.in_doubt = False
            self.dispatch.not_unstarted(run)
            self._life.attempt_taken(run, now)
        for run in self.dispatch.attempts.values():
            if run.node == node and run.canceling:
                self._decisions.orders_for(node).kills.append(run.key)
        self._life.settle(now)

    def drop_grants(self, node: NodeNo, held: Collection[GrantId]) -> None:
        """The agent of `node` has told which grants it holds: others never reached it."""
        for grant in [grant for grant in self.dispatch.grants.values() if grant.shares[0].node == node]:
            if grant.grant_id not in held:
                self.dispatch.returned(grant)
        for pool in self.dispatch.pools.values():
            if pool.node == node:
                pool.revoking.clear()  # what was asked back may not have been heard either
