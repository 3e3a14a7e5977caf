"""A world for the core: a scheduler and in-memory agents that follow the rules of wire/frames.py. No process, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Change, Decisions, Orders, each_change
from pilotfish.pilot.model.ids import GrantId, NodeNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import (
    Dependency,
    Execution,
    Iteration,
    JobSpec,
    Need,
    Placement,
    Resources,
    RetryRule,
    Size,
    Want,
)
from pilotfish.pilot.model.resources import APART, PARTS, Grant, NamedResource, NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State


def node(
    name: str,
    cores: int,
    gpus: int = 0,
    mem: int = 0,
    *,
    tags: Sequence[str] = (),
    joined: bool = False,
    named: Sequence[NamedResource] = (),
) -> NodeSpec:
    ids = tuple(map(str, range(cores)))
    gpu_ids = tuple(map(str, range(gpus)))
    return NodeSpec(name, ids, gpu_ids, mem, tags=tuple(tags), joined=joined, named=tuple(named))


def wants(**named: int | Fraction) -> tuple[Want, ...]:
    """How much of named resources: a whole number, or part of one."""
    return tuple(
        Want(name, 0, int(amount * PARTS)) if isinstance(amount, Fraction) else Want(name, amount)
        for name, amount in sorted(named.items())
    )


def job(
    name: str,
    cores: int | tuple[int, int | None] | None = 1,
    nodes: int | None = None,
    *,
    count: int | None = None,
    after: Sequence[str] = (),
    gpus: int = 0,
    mem: int = 0,
    priority: int = 0,
    retries: int = 0,
    retry: Sequence[RetryRule] = (),
    wt_s: float | None = None,
    tags: Sequence[str] = (),
    named: Sequence[Want] = (),
    alternatives: Sequence[Need] = (),
    placement: Placement = Placement.COMPACT,
    apart: str = "",
) -> JobSpec:
    """`after`: `JOB`, `JOB:3` or `JOB:*` (the same index)."""
    size = Size(*cores) if isinstance(cores, tuple) else None if cores is None else Size.exactly(cores)
    need = Need(size, None if nodes is None else Size.exactly(nodes), gpus, mem, tuple(tags), tuple(named), placement)
    if apart:
        need = replace(need, named=(*need.named, Want(f"{APART}{apart}", 1)))
    return JobSpec(
        name,
        Execution(exec="/bin/true"),
        Resources(need, wt_s, alternatives=tuple(alternatives)),
        None if count is None else Iteration(0, count),
        tuple(_dependency(text) for text in after),
        priority=priority,
        retries=retries,
        retry=tuple(retry),
    )


def _dependency(text: str) -> Dependency:
    name, _, index = text.partition(":")
    return Dependency(name, None if index in ("", "*") else int(index), index == "*")


class FakeAgent:
    """Starts waiting tasks on idle grants, in order, and gives back what it cannot use."""

    def __init__(self) -> None:
        self.waiting: dict[PoolId, deque[TaskKey]] = {}
        self.idle: dict[PoolId, list[GrantId]] = {}
        self.grants: dict[GrantId, Grant] = {}
        """Every one it was ever given."""
        self.kept: list[tuple[TaskKey, GrantId, End, bool]] = []
        """Reports that nobody has acknowledged."""
        self.draining = False
        """It has said that it takes nothing new."""
        self.running: dict[TaskKey, tuple[PoolId, GrantId]] = {}


class World:
    """`events` has every state change as `NAME STATE`; `check` runs after each step."""

    def __init__(
        self,
        *nodes: NodeSpec,
        crash_limit: int = 5,
        reserve_after_s: float = 10.0,
        life: int = 0,
        of_pool: Sequence[NamedResource] = (),
    ) -> None:
        self.scheduler = Scheduler(
            nodes, crash_limit=crash_limit, reserve_after_s=reserve_after_s, life=life, of_pool=of_pool
        )
        self.agents = {NodeNo(number): FakeAgent() for number in range(len(nodes))}
        self.away: dict[int, FakeAgent] = {}
        """Agents that were cut off, by the number of their nodes."""
        self.now = 1000.0
        self.checks = True
        self.events: list[str] = []
        self.turns: list[Decisions] = []
        self.agent_ids: dict[NodeNo, str] = {}
        for number in self.agents:
            self._report_anew(number)

    # --- what a test does -----------------------------------------------------------------------------------------------

    def submit(self, *specs: JobSpec) -> None:
        self.scheduler.submit(specs, self.now)
        self.settle()

    def cancel(self, name: str, pos: int | None = None) -> None:
        if pos is None:
            self.scheduler.cancel(self.scheduler.jobs.get(name), self.now)
        else:
            self.scheduler.cancel_task(self.scheduler.jobs.get(name), pos, self.now)
        self.settle()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.on_time(self.now)
        self.settle()

    def suspend(self, seconds: float) -> None:
        """The whole job stands still for so long, this world's tasks included."""
        self.now += seconds
        self.scheduler.on_pause(seconds)
        self.scheduler.on_time(self.now)
        self.settle()

    def finish(self, name: str, exit_code: int = 0, cause: Cause = Cause.EXITED, took_s: float = 1.0) -> None:
        """End the running task `name`."""
        for number, agent in self.agents.items():
            for key in list(agent.running):
                if self.name_of(key) == name:
                    self._end(number, key, exit_code, cause, took_s)
                    self.settle()
                    return
        raise AssertionError(f"{name} does not run; running: {self.running}")

    def lose(self, number: int, silent: bool = False) -> None:
        """The agent of the node has ended, or has not been heard of for too long."""
        node_no = NodeNo(number)
        self.agents[node_no] = FakeAgent()
        self.scheduler.on_node_lost(node_no, self.now, silent)
        self.settle()

    def cut(self, number: int) -> None:
        """Nothing is heard of the node any more; its agent works on."""
        self.away[number] = self.agents[NodeNo(number)]
        self.lose(number, silent=True)

    def finish_away(self, number: int, exit_code: int = 0) -> None:
        """The first task that runs on the node which was cut off ends; its agent keeps the report."""
        agent = self.away[number]
        key = next(iter(agent.running))
        pool, grant_id = agent.running.pop(key)
        waiting = agent.waiting.get(pool)
        returns = not waiting
        if waiting:
            agent.running[waiting.popleft()] = (pool, grant_id)
        self.now += 0.001
        end = End(4711, self.now - 1.0, self.now, exit_code, Cause.EXITED)
        agent.kept.append((key, grant_id, end, returns))

    def come_back(self, number: int) -> None:
        """The agent that was cut off is heard again; see manager/agents.py."""
        node_no, agent = NodeNo(number), self.away.pop(number)
        self.agents[node_no] = agent
        self.scheduler.on_agent(node_no, self.agent_ids[node_no])
        kept_of = {grant_id for _, grant_id, _, returns in agent.kept if returns}
        used = [grant_id for _, grant_id in agent.running.values()]
        held = {*used, *(grant_id for grants in agent.idle.values() for grant_id in grants)}
        waiting = {pool: list(keys) for pool, keys in agent.waiting.items() if keys}
        assert not held & kept_of
        self.scheduler.recovery.adopt(node_no, [agent.grants[grant_id] for grant_id in sorted(held)], waiting, self.now)
        for key, (_, grant_id) in agent.running.items():
            if len(agent.grants[grant_id].shares) == 1:
                self.scheduler.recovery.still_running(node_no, key, grant_id)
            self.scheduler.on_started(key, grant_id, 4711, self.now)
        self.scheduler.on_node_up(node_no)
        attempts = self.scheduler.dispatch.attempts
        unknown = [key for key in chain(agent.running, *waiting.values()) if key not in attempts]
        for key, grant_id, end, returns in agent.kept:
            self.scheduler.on_finished(key, grant_id, end, returns, self.now)
        agent.kept.clear()
        self.scheduler.recovery.drop_unnamed(node_no, set(chain(agent.running, *waiting.values())), self.now)
        self.scheduler.recovery.drop_grants(node_no, held)
        self._kill(node_no, unknown)
        self._start(node_no)
        self.settle()

    def leave(self, number: int) -> None:
        """The node goes away for good."""
        node_no = NodeNo(number)
        self.away.pop(number, None)
        self.agents[node_no] = FakeAgent()
        self.scheduler.on_node_left(node_no, self.now)
        self.settle()

    def drain(self, number: int) -> None:
        """The agent finishes what runs and takes nothing new; what waits it gives back."""
        node_no = NodeNo(number)
        agent = self.agents[node_no]
        agent.draining = True
        self.scheduler.on_node_draining(node_no)
        self._revoke(node_no, [key for waiting in agent.waiting.values() for key in waiting])
        self.settle()

    def join(self, spec: NodeSpec) -> int:
        number = self.scheduler.on_node_joined(spec)
        self.agents[number] = FakeAgent()
        self.revive(number)
        return number

    def revive(self, number: int) -> None:
        """Another agent is there, and has cleared up after the one before."""
        self.away.pop(number, None)
        self._report_anew(NodeNo(number))
        self.settle()

    def _report_anew(self, node_no: NodeNo) -> None:
        """An agent that nobody has heard before says Hello; see manager/agents.py."""
        self.agent_ids[node_no] = f"agent {len(self.turns)} of node {node_no}"
        self.scheduler.on_agent(node_no, self.agent_ids[node_no])
        self.scheduler.on_node_up(node_no)
        self.scheduler.recovery.drop_unnamed(node_no, set(), self.now)

    def run_to_end(self, exit_code: int = 0) -> None:
        """End whatever runs until nothing does."""
        while self.running:
            self.finish(self.running[0], exit_code)

    # --- what a test looks at -------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        return [self.name_of(key) for agent in self.agents.values() for key in agent.running]

    @property
    def shapes(self) -> int:
        """How many different needs the core knows of."""
        return len(self.scheduler.queue)

    @property
    def pools(self) -> int:
        return len(self.scheduler.dispatch.pools)

    def running_on(self, number: int) -> list[str]:
        return [self.name_of(key) for key in self.agents[NodeNo(number)].running]

    def state(self, name: str, pos: int | None = None) -> str:
        found = self.scheduler.jobs.get(name)
        return found.state.name if pos is None else found.tasks.state(pos).name

    def states(self, name: str) -> list[str]:
        found = self.scheduler.jobs.get(name)
        return [found.tasks.state(pos).name for pos in range(found.spec.task_count)]

    def name_of(self, key: TaskKey) -> str:
        found = self.scheduler.jobs.by_no(key.job_no)
        assert found is not None
        return found.spec.task_name(key.pos)

    # --- the agents' side -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Turn until neither side has anything to say."""
        while True:
            self.scheduler.plan(self.now)
            turn = self.scheduler.take_decisions()
            self.turns.append(turn)
            self.events += [_event(change) for change in each_change(turn.changes)]
            if self.checks:
                invariants.check(self.scheduler)
            if not turn.orders:
                return
            for number, orders in turn.orders.items():
                agent = self.agents[number]
                for grant in orders.grants:
                    self._check_grant(grant, orders)
                    agent.grants[grant.grant_id] = grant
                    agent.idle.setdefault(grant.pool, []).append(grant.grant_id)
                for pool, keys in orders.starts.items():
                    agent.waiting.setdefault(pool, deque()).extend(keys)
                self._revoke(number, orders.revokes)
                self._kill(number, orders.kills)
                self._start(number)

    def _check_grant(self, grant: Grant, orders: Orders) -> None:
        """A new grant is on nodes that are there, take work, and have the tags for it."""
        wanted = {tag for key in orders.starts.get(grant.pool, ()) for tag in self._tags_of(key)}
        for share in grant.shares:
            assert self.scheduler.nodes.usable >> share.node & 1, f"{grant} on a node that is not there"
            assert not self.agents[share.node].draining, f"{grant} on a node that is draining"
            assert wanted <= set(self.scheduler.nodes.specs[share.node].tags), f"{grant} for {wanted}"

    def _tags_of(self, key: TaskKey) -> tuple[str, ...]:
        job = self.scheduler.jobs.by_no(key.job_no)
        if job is None:
            return ()
        first, *others = (set(need.tags) for need in job.spec.resources.needs)
        return tuple(first.intersection(*others))

    def _start(self, number: NodeNo) -> None:
        agent = self.agents[number]
        for pool, grants in agent.idle.items():
            waiting = agent.waiting.get(pool, deque())
            while grants and waiting:
                key, grant_id = waiting.popleft(), grants.pop(0)
                agent.running[key] = (pool, grant_id)
                self.scheduler.on_started(key, grant_id, 4711, self.now)
            while grants:
                self.scheduler.on_returned(grants.pop())

    def _revoke(self, number: NodeNo, keys: list[TaskKey]) -> None:
        for waiting in self.agents[number].waiting.values():
            for key in [key for key in waiting if key in keys]:
                waiting.remove(key)
                self.scheduler.on_revoked(key, self.now)

    def _kill(self, number: NodeNo, keys: list[TaskKey]) -> None:
        agent = self.agents[number]
        for key in keys:
            if key in agent.running:
                self._end(number, key, -15, Cause.CANCELED, 0.0)
                continue
            for waiting in agent.waiting.values():
                if key in waiting:
                    waiting.remove(key)
                    end = End(-1, self.now, self.now, -1, Cause.CANCELED)
                    self.scheduler.on_finished(key, GrantId(0), end, False, self.now)

    def _end(self, number: NodeNo, key: TaskKey, exit_code: int, cause: Cause, took_s: float) -> None:
        agent = self.agents[number]
        pool, grant_id = agent.running.pop(key)
        returns = not agent.waiting.get(pool)
        if not returns:
            agent.idle[pool].append(grant_id)
        self.now += 0.001
        end = End(4711, self.now - took_s, self.now, exit_code, cause)
        self.scheduler.on_finished(key, grant_id, end, returns, self.now)
        self._start(number)


def _event(change: Change) -> str:
    name = change.job.spec.name if change.pos is None else change.job.spec.task_name(change.pos)
    return f"{name} {State(change.state).name}"
