"""Recovery: the journal is replayed, agents come back, and what was in flight is in doubt until they have reported."""

# The journal records what the manager had decided; only the agents know what has become of it since. So a resume has two
# halves.
#
# 1. *Replay*. The records go through the same core that wrote them, in the order in which they were written. They need no
#    agents: what was sent is IN_DOUBT (`replay_sent`), what ended has ended, what was lost is LOST and waits again. Equal
#    events give equal states, so nothing has to be stored but the events.
# 2. *Agents report*. Each names all it holds: grants, running tasks, waiting tasks, and, in the same frame, the ends that
#    nobody had acknowledged. What it runs goes on (`adopt`, then Scheduler.on_started). What it does not name never reached
#    it, and waits again, at no cost (`drop_unnamed`, `drop_grants`). That is certain, because an agent keeps a result until
#    it is acknowledged, and it is acknowledged only when it is on disk.
#
# The same second half serves an agent that had only been cut off, whose attempts are LOST by then. `still_running` finds
# them again while their tasks wait; `match_late_end` takes an end that comes too late but is the first, so that work that
# was done is not done again.
#
# Doubt ends in one of three ways, all in states.py: START or END (the agent has it), RETURN (it does not know of it), LOSE
# (it is gone: the task may have run, and may be what took the agent down, so this counts as a crash).
#
# Invariants: after `drop_unnamed` nothing on that node is in doubt, and nothing is lost with it; no attempt is in flight on
# a node that has left (`drop_left`).
#
# Rejected: to start anew what was in flight when the manager was killed. It was simple, and ran every long task twice after
# each restart. To record each start: the journal would grow by half, and still not say what ended since.
#
# Example. The journal has: a sent to n1, b sent to n1, a ended. After the replay `a` is over, `b` is IN_DOUBT. The agent of
# n1 says Hello and names b as running: b is RUNNING, with its old pid and start. Had it named nothing, b would be QUEUED,
# and its next attempt would have the number 2, so that a late word about attempt 1 is recognised.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from .attempts import Attempt, End
from .decisions import Decisions
from .dispatch import Dispatch
from .ids import GrantId, NodeNo, PoolId, TaskKey
from .job_spec import Need
from .jobs import Shape
from .lifecycle import Lifecycle
from .nodes import Nodes
from .plain_replay import PlainReplay
from .queue import pending_of
from .registry import Registry
from .resources import Grant
from .results import Result
from .states import AttemptEvent, AttemptState, Cause, NodeState, State

_NO_GRANT = GrantId(-1)


def could_be_of(grant: Grant, need: Need) -> bool:
    """Whether the grant may have been given for this need, and not for an alternative to it."""
    share = grant.shares[0]
    names = {taken.name for taken in share.named}
    same = share.gpus.bit_count() == need.gpus and share.mem_bytes == need.mem_bytes
    count = sum(each.cores.bit_count() for each in grant.shares)
    has_least = need.cores is None or count >= need.cores.min * (1 if need.nodes is None else need.nodes.min)
    return same and has_least and names == {want.name for want in need.named}


class Had(NamedTuple):
    """What an agent has as far as the manager knows."""

    attempts: Sequence[Attempt]
    grants: Sequence[Grant]


class Recovery:
    """Puts the scheduler's parts where an earlier life, or an agent that was cut off, left them."""

    def __init__(self, nodes: Nodes, jobs: Registry, dispatch: Dispatch, life: Lifecycle, decisions: Decisions) -> None:
        self._nodes = nodes
        self._jobs = jobs
        self._dispatch = dispatch
        self._life = life
        self._decisions = decisions
        self.plain = PlainReplay(nodes, jobs, dispatch, life, decisions)

    # --- the journal ----------------------------------------------------------------------------------------------------

    def replay_sent(self, node: NodeNo, key: TaskKey, now: float) -> None:
        """It was sent, or an agent that had been lost brought it back; whether it runs only that agent can tell."""
        job = self._jobs.by_no(key.job_no)
        if job is None or job.tasks.state(key.pos) is not State.QUEUED:
            return
        job.tasks.set_run(key.pos, key.run)
        attempt = self._life.lost.get(key)
        if attempt is None:
            pending = pending_of(job, key.pos)
            attempt = Attempt(key, job, pending, node, PoolId(0), now, AttemptState.IN_DOUBT)
            self._life.in_flight_again(job, key.pos)
        else:
            self._life.attempt_found(attempt)
            attempt.node = node
        self._dispatch.put(attempt)

    def replay_result(self, result: Result) -> None:
        key = TaskKey(result.job_no, result.pos, result.run)
        attempt = self._dispatch.attempts.pop(key, None)
        if attempt is None and result.cause is not Cause.LOST:
            attempt = self.match_late_end(key, _NO_GRANT, result)
        if attempt is None:
            return
        if result.pid > 0:
            self._jobs.move_task(attempt.job, result.pos, State.EXECUTING)
        self._life.replay_result(attempt, result)
        self._forget_left(attempt.node)
        self._life.settle(result.ended_s)

    def replay_taken(self, key: TaskKey) -> None:
        attempt = self._dispatch.attempts.pop(key, None)
        if attempt is not None:
            self._life.replay_taken(attempt)
            self._forget_left(attempt.node)
            self._life.settle(attempt.scheduled_s)

    def _forget_left(self, node: NodeNo) -> None:
        """Forget what is now found to be lost with this node, if the node has left earlier in the journal."""
        if self._nodes[node].state is NodeState.LEFT:
            self.replay_agent_gone(node)

    def replay_agent_gone(self, node: NodeNo) -> None:
        """The agent that had what is lost there is known to have ended: nobody will report that any more."""
        if not self._nodes.specs[node].joined:
            self._life.lost.forget_node(node)

    def drop_left(self, now: float) -> None:
        """Nothing is in flight on nodes that have left, whichever of the two the journal has first."""
        for attempt in list(self._dispatch.attempts.values()):
            if self._nodes[attempt.node].state is NodeState.LEFT:
                del self._dispatch.attempts[attempt.key]
                self._life.attempt_taken(attempt, now)
        self._life.settle(now)

    # --- agents that come back ------------------------------------------------------------------------------------------

    def match_late_end(self, key: TaskKey, grant_id: GrantId, end: End | Result) -> Attempt | None:
        """The attempt `key`, which had counted as lost, when its end decides the task: nothing else has yet.

        An attempt that has taken its place since is stopped if this one succeeded; otherwise it is given its chance. What has
        parts on other nodes was swept there when it was lost: if it failed, that was us.
        """
        attempt = self._life.lost.get(key)
        if attempt is None:
            return None
        attempt.grant = attempt.grant or self._life.lost.grant(attempt, grant_id)
        self._life.lost.remove(attempt)
        if not self._decides(attempt, end):
            attempt.after(AttemptEvent.FORGET)
            return None
        successor = self._dispatch.attempt_of(attempt.job, key.pos)
        if successor is None:
            self._life.in_flight_again(attempt.job, key.pos)
        else:
            successor.after(AttemptEvent.SUPERSEDE)
            del self._dispatch.attempts[successor.key]
            self._dispatch.remove_unstarted(successor)
            self._decisions.orders_for(successor.node).kills.append(successor.key)
        return attempt

    def _decides(self, attempt: Attempt, end: End | Result) -> bool:
        if end.cause is not Cause.EXITED:
            return False
        successor = self._dispatch.attempt_of(attempt.job, attempt.key.pos)
        if end.exit_code == 0:
            return successor is None or successor.state is not AttemptState.CANCELING
        return successor is None and (attempt.grant is None or len(attempt.grant.shares) == 1)

    def still_running(self, node: NodeNo, key: TaskKey, grant_id: GrantId) -> None:
        """An agent that had counted as lost is back, as `node`, and runs `key` on a grant of this node alone.

        The attempt goes on if its task only waits to be started again; `on_started` follows. (One with parts on other nodes
        cannot: they have been swept.)
        """
        attempt, grant = self._life.lost.get(key), self._dispatch.grants.get(grant_id)
        if attempt is None or grant is None:
            return
        tasks = attempt.job.tasks
        waits = tasks.state(key.pos) is State.QUEUED and tasks.run(key.pos) == key.run
        if not waits:
            return
        self._life.attempt_found(attempt)
        attempt.node, attempt.grant = node, grant
        self._dispatch.put(attempt)
        self._decisions.sent.setdefault(node, []).append(key)

    def adopt(
        self, node: NodeNo, grants: Sequence[Grant], waiting: Mapping[PoolId, Sequence[TaskKey]], now: float
    ) -> None:
        """An agent that outlived the manager has reported what it holds; its running tasks follow as `on_started`.

        A pool the agent names is known by its waiting or running tasks' need; both sides keep its number.
        """
        for grant in grants:
            if grant.grant_id not in self._dispatch.grants:
                self._dispatch.adopt(grant, self._shape_of_pool(grant, waiting))
        for pool_id, keys in waiting.items():
            pool = self._dispatch.pools.get(pool_id)
            for key in keys:
                attempt = self._dispatch.attempts.get(key)
                if attempt is not None and pool is not None:
                    attempt.pool_id = pool_id
                    pool.unstarted[key] = self._dispatch.uptime(now)

    def _shape_of_pool(self, grant: Grant, waiting: Mapping[PoolId, Sequence[TaskKey]]) -> Shape | None:
        """The shape of the tasks that wait for this grant; None if none do, or if their shape already has a pool there."""
        for key in waiting.get(grant.pool, ()):
            attempt = self._dispatch.attempts.get(key)
            if attempt is None:
                continue
            shapes = [entry.shape for entry in attempt.pending.primary.entries]
            free = [shape for shape in shapes if grant.shares[0].node not in shape.pools]
            if free:
                return next((shape for shape in free if could_be_of(grant, shape.need)), free[0])
        return None

    def had(self, node: NodeNo) -> Had:
        """What the node's agent has, as far as we know, when it says Hello: what is sent later it cannot name yet."""
        return Had(self._dispatch.attempts_on(node), self._dispatch.grants_at.of(node))

    def drop_unnamed(
        self, node: NodeNo, held: Collection[TaskKey], now: float, of: Sequence[Attempt] | None = None
    ) -> None:
        """The agent of `node` has reported all it holds (`held`), and the ends it had kept. `of`: what it had when it began to.

        What it does not name never reached it, or got lost with it; what it names and cannot start, because it holds
        nothing for it, is taken from it. What was to be stopped there may not have been heard.
        """
        for attempt in self.had(node).attempts if of is None else of:
            if self._dispatch.attempts.get(attempt.key) is not attempt:
                continue  # it has ended since
            named = attempt.key in held
            if named and self._can_go_on(attempt):
                if attempt.state is AttemptState.CANCELING:
                    self._decisions.orders_for(node).kills.append(attempt.key)
                continue
            if named:
                self._decisions.orders_for(node).kills.append(attempt.key)
            del self._dispatch.attempts[attempt.key]
            self._dispatch.remove_unstarted(attempt)
            self._life.attempt_taken(attempt, now)
        for namesake in self._nodes.namesakes(node, self._life.lost.nodes):
            self._life.lost.forget_node(namesake)
        self._life.settle(now)

    def _can_go_on(self, attempt: Attempt) -> bool:
        """It runs, or waits in a pool that both sides know."""
        if attempt.job.tasks.state(attempt.key.pos) is State.EXECUTING:
            return True
        pool = self._dispatch.pools.get(attempt.pool_id)
        return pool is not None and attempt.key in pool.unstarted

    def drop_grants(self, node: NodeNo, held: Collection[GrantId], of: Sequence[Grant] | None = None) -> None:
        """The agent of `node` has reported which grants it holds: any other never reached it. `of`: as for `drop_unnamed`."""
        for grant in self.had(node).grants if of is None else of:
            if grant.grant_id not in held and grant.grant_id in self._dispatch.grants:
                self._dispatch.returned(grant)
        for pool in self._dispatch.pools_at.of(node):
            pool.revoking.clear()  # what was asked back may not have been heard either
