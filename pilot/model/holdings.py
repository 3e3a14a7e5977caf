"""What agents hold: attempts at tasks, grants of cores, and the pools of both. Dispatch decides what they get."""

# The words. A *shape* is all work with equal needs. A *grant* is cores, GPUs and memory given to an agent for tasks of one
# shape, one task at a time. A *pool* is what one agent has of one shape: its grants, and the tasks sent there that have not
# started. The agent itself puts a waiting task of the pool on a free grant of the pool. So the manager never says "this
# task on that core"; that is why a core is busy again microseconds after a task has ended there, and not a round trip
# later.
#
# Invariants (invariants.py checks them):
#
# - each core is either free on its node or in exactly one grant; the same for GPUs and memory;
# - `pool.grants` is how many grants of the pool there are; each key in `pool.unstarted` is in `attempts`;
# - shapes and pools live only with work that needs them, or with what an agent holds of them.
#
# `attempts_at`, `grants_at` and `pools_at` are indexes by node: what a node held must be found when it is lost, without a walk
# over all there is. `_spread` has the few grants that lie on several nodes.
#
# Dispatch is derived from this. Rejected: an object beside it. Attempts, grants and pools are looked up for each task, and each
# look would go through one more object.

from __future__ import annotations

from itertools import chain
from operator import attrgetter

from .attempts import Attempt
from .by_node import ByNode
from .decisions import Decisions
from .ids import GrantId, NodeNo, PoolId, TaskKey
from .jobs import Job, LeasePool, Shape
from .nodes import Nodes
from .queue import Queue
from .resources import Grant, Share
from .states import AttemptEvent, Fate

MOST_LIVES, _LIFE_BITS = 2**20, 32
"""Each life of the manager has 2**_LIFE_BITS numbers of its own."""
END_OF_NUMBERS = MOST_LIVES << _LIFE_BITS


class Holdings:
    """Owns grants, pools and the attempts in flight."""

    def __init__(self, nodes: Nodes, queue: Queue, decisions: Decisions, life: int) -> None:
        self.attempts: dict[TaskKey, Attempt] = {}
        """Every attempt that an agent has or may have."""
        self.grants: dict[GrantId, Grant] = {}
        self.pools: dict[PoolId, LeasePool] = {}
        self.attempts_at = ByNode(self.attempts, attrgetter("key"), attrgetter("node"))
        """Those of a node that are not in the `unstarted` of one of its pools; `attempts_on` has all."""
        self.grants_at = ByNode(self.grants, attrgetter("grant_id"), lambda grant: grant.shares[0].node)
        self.pools_at = ByNode(self.pools, attrgetter("pool_id"), attrgetter("node"))
        self._spread: set[GrantId] = set()
        """Grants over several nodes."""
        self._nodes = nodes
        self._queue = queue
        self._decisions = decisions
        self._touched: dict[PoolId, LeasePool] = {}
        """Pools that may want more: those something has happened to since the last plan."""
        self._next_id = (life << _LIFE_BITS) + 1

    # --- attempts -------------------------------------------------------------------------------------------------------

    def attempt_of(self, job: Job, pos: int) -> Attempt | None:
        """The attempt at this task that is in flight."""
        return self.attempts.get(TaskKey(job.no, pos, job.tasks.run(pos)))

    def put(self, attempt: Attempt) -> None:
        """An agent has this attempt, as the journal or it says."""
        self.attempts[attempt.key] = attempt
        self.attempts_at.added(attempt)

    def attempts_on(self, node: NodeNo) -> list[Attempt]:
        """All attempts that the agent of this node has or may have."""
        found = {attempt.key: attempt for attempt in self.attempts_at.of(node)}
        for pool in self.pools_at.of(node):
            for key in pool.unstarted:
                attempt = self.attempts.get(key)
                if attempt is not None and attempt.node == node:
                    found[key] = attempt
        return list(found.values())

    # --- grants and pools -----------------------------------------------------------------------------------------------

    def _new_grant(self, shape: Shape, shares: tuple[Share, ...]) -> LeasePool:
        self._nodes.take(shares)
        pool = self._pool_for(shares[0].node, shape)
        grant = Grant(GrantId(self._new_id()), pool.pool_id, shares)
        self._note_grant(grant)
        pool.grants += 1
        self._decisions.orders_for(pool.node).grants.append(grant)
        return pool

    def _grant_more(self, pool: LeasePool, most: int) -> int:
        """More grants of single cores for a pool that has just got one: what is free on its node, at once; returns how many.

        They are the ones that looking for each by itself would find next.
        """
        if most <= 0 or not pool.shape.need.is_one_core:
            return 0
        shares = self._nodes.take_single_cores(pool.node, most)
        grants = [Grant(GrantId(self._new_id()), pool.pool_id, (share,)) for share in shares]
        entries = [(grant.grant_id, grant) for grant in grants]
        self.grants.update(entries)
        self.grants_at.all_added(pool.node, entries)
        pool.grants += len(grants)
        self._decisions.orders_for(pool.node).grants.extend(grants)
        return len(grants)

    def _note_grant(self, grant: Grant) -> None:
        self.grants[grant.grant_id] = grant
        self.grants_at.added(grant)
        if len(grant.shares) > 1:
            self._spread.add(grant.grant_id)

    def _pool_for(self, node: NodeNo, shape: Shape) -> LeasePool:
        pool = shape.pools.get(node)
        if pool is None:
            pool = shape.pools[node] = LeasePool(PoolId(self._new_id()), node, shape)
            self.pools[pool.pool_id] = pool
            self.pools_at.added(pool)
        return pool

    def _forget_unused(self) -> None:
        """Drop the pools and shapes that no unfinished job needs and of which no agent holds anything.

        Only those that something has happened to are looked at: the cost of a turn must not depend on what there once was.
        A pool that is merely idle stays, because it knows how long its tasks take.
        """
        touched = (pool.shape for pool in self._touched.values())
        unused = {id(shape): shape for shape in chain(touched, self._queue.take_to_review()) if not shape.users}
        self._touched.clear()
        for shape in unused.values():
            for pool in [pool for pool in shape.pools.values() if pool.is_empty]:
                del self.pools[pool.pool_id], shape.pools[pool.node]
                self.pools_at.gone(pool.node, pool.pool_id)
            if not shape.pools:
                self._queue.forget(shape)

    def _new_id(self) -> int:
        """Numbers of grants and pools are never used again: an order in flight must not meet another's.

        Not by a later life of the manager either: an agent that has yet to report what the earlier one gave it would seem to
        report what has been given to others since.
        """
        self._next_id += 1
        return self._next_id

    def returned(self, grant: Grant) -> None:
        """The agent has given a grant back."""
        del self.grants[grant.grant_id]
        self.grants_at.gone(grant.shares[0].node, grant.grant_id)
        if len(grant.shares) > 1:
            self._spread.discard(grant.grant_id)
        self._nodes.give_back(grant.shares)
        pool = self.pools.get(grant.pool)
        if pool is not None:
            pool.grants -= 1
            self._touched[pool.pool_id] = pool

    def touch(self, pool: LeasePool) -> None:
        """Something has happened to this pool: it may want more."""
        self._touched[pool.pool_id] = pool

    def started(self, attempt: Attempt) -> None:
        """Its agent has said so."""
        self.remove_unstarted(attempt)
        self.attempts_at.added(attempt)

    def remove_unstarted(self, attempt: Attempt) -> LeasePool | None:
        """`attempt` has started, ended or come back; returns its pool."""
        pool = self.pools.get(attempt.pool_id)
        if pool is not None:
            pool.gone(attempt.key)
            self._touched[pool.pool_id] = pool
        return pool

    # --- nodes that are lost, and agents of an earlier life -------------------------------------------------------------

    def drop_node(self, node: NodeNo) -> list[Attempt]:
        """The agent of `node` is gone with all it held; returns the attempts that were there.

        Attempts of other nodes that used part of this one are BROKEN, and ordered to stop.
        """
        attempts = self.attempts_on(node)
        for grant in self.grants_at.of(node):
            self.returned(grant)
        elsewhere = {grant for grant in self._spread if any(s.node == node for s in self.grants[grant].shares)}
        for attempt in self.attempts.values() if elsewhere else ():
            in_use = attempt.grant is not None and attempt.grant.grant_id in elsewhere
            if in_use and attempt.after(AttemptEvent.BREAK) is Fate.STOP:
                self._decisions.orders_for(attempt.node).kills.append(attempt.key)
        for pool in self.pools_at.of(node):
            del self.pools[pool.pool_id], pool.shape.pools[node]
            pool.shape.mean_s = pool.pace.mean_s or pool.shape.mean_s
            self._touched.pop(pool.pool_id, None)
            self._queue.review(pool.shape)
        for index in (self.attempts_at, self.grants_at, self.pools_at):
            index.forget(node)
        return attempts

    def adopt(self, grant: Grant, shape: Shape | None) -> None:
        """An agent holds this grant from an earlier life of the manager, or from before it was cut off.

        `shape`: of the tasks that wait for it there. None: no task does, so the grant needs no pool; it only occupies what it
        has of the nodes until it is given back.

        Its shares of other nodes, and of the pool, may have been given to others meanwhile, who then keep them.
        """
        first, *others = grant.shares
        node = first.node
        first = self._nodes.without_taken(first) if first.named else first
        grant = grant._replace(shares=(first, *(share for share in others if self._nodes.is_free(share))))
        if grant.pool not in self.pools and shape is not None:
            pool = self.pools[grant.pool] = shape.pools[node] = LeasePool(grant.pool, node, shape)
            self.pools_at.added(pool)
        self._nodes.take(grant.shares)
        self._note_grant(grant)
        if grant.pool in self.pools:
            self.pools[grant.pool].grants += 1
        for number in (grant.grant_id, grant.pool):
            if number >> _LIFE_BITS == self._next_id >> _LIFE_BITS:
                self._next_id = max(self._next_id, number)
