"""Who runs where: grants of cores to agents, tasks into pools, reservations, leases."""

# The policy, in the order it is applied (docs/scheduling.md):
#
# 1. higher `priority` first, then order of submission;
# 2. work that does not fit now is passed by later work that does;
# 3. work that has been passed for `reserve_after_s` gets a *reservation*: the nodes on which it can start soonest are held
#    for it, and nothing behind it starts there. One reservation at a time, for the earliest waiting work;
# 4. short tasks are lent ahead to agents (leases.py), never on held nodes;
# 5. nothing starts that may not be over `margin_s` before the end of the allocation, or of the node's own if it came with
#    another: a task with a wall time limit is taken to need all of it, unless it says that less is of use (`min_time`), and
#    one without to need no time.
#
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
# - shapes and pools live only with work that needs them, or with what an agent holds of them;
# - the cost of `plan` depends on how many shapes have work and how many pools something has happened to, never on how many
#   tasks wait or have ever been.
#
# Why one reservation, for the earliest work only: two can wait for each other's nodes, and a queue of them is a second
# scheduler. Why only after a time: most work that does not fit now fits in a second, and held cores are idle cores. Why
# reservations are of whole nodes: what is free on them grows together there, while cores held here and there never make up
# a node.
#
# What is the pool's (licences) is held by name: nothing behind the reservation takes any of it. As long as it is that which is
# missing, no node is held: it would stand idle until somebody elsewhere gives a licence back.
#
# Rejected: to plan with the expected ends of running tasks, as batch systems do (backfill). Tasks seldom say how long they
# take, and what they say is a limit. To bind tasks to grants here: see above. To look at all work that waits for the best
# fit: O(queue).
#
# Example. Nodes n1, n2 with 2 cores each; `a` (3 iterations of 1 core), then `b` (2 cores). `plan` gives n1 two grants of
# the shape "1 core" and sends a:0, a:1; then n2 one grant and a:2. `b` does not fit: it is *blocked*. The next 1-core job
# passes it on n2's last core, and from then on `blocked_since` counts. After `reserve_after_s` n1 is held for `b`: its
# pools get no more grants, what was lent there is asked back, and when both its tasks have ended `b` starts there.

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from itertools import chain, repeat
from operator import attrgetter

from .attempts import Attempt
from .by_node import ByNode
from .capacity import choose_to_hold, why_never
from .decisions import Change, Decisions, Lent
from .ids import GrantId, NodeNo, PoolId, TaskKey
from .job_spec import Need
from .jobs import Entry, Job, Key, LeasePool, Pending, Shape
from .nodes import Nodes
from .queue import Queue, order
from .registry import Registry
from .resources import Grant, Share
from .states import AttemptEvent, Fate, State
from .tasks import ManyTasks

MOST_LIVES, _LIFE_BITS = 2**20, 32
"""Each life of the manager has 2**_LIFE_BITS numbers of its own."""
END_OF_NUMBERS = MOST_LIVES << _LIFE_BITS


class Dispatch:
    """Owns grants, pools and the attempts in flight."""

    def __init__(
        self, nodes: Nodes, jobs: Registry, queue: Queue, decisions: Decisions, reserve_after_s: float, life: int = 0
    ) -> None:
        self.attempts: dict[TaskKey, Attempt] = {}
        """Every attempt that an agent has or may have."""
        self.grants: dict[GrantId, Grant] = {}
        self.pools: dict[PoolId, LeasePool] = {}
        self.attempts_at = ByNode(self.attempts, attrgetter("key"), attrgetter("node"))
        """Those of a node that are not in the `unstarted` of one of its pools; `attempts_on` has all."""
        self.grants_at = ByNode(self.grants, attrgetter("grant_id"), lambda grant: grant.shares[0].node)
        self.pools_at = ByNode(self.pools, attrgetter("pool_id"), attrgetter("node"))
        self.most_starts: int | None = None
        """How many tasks `plan` starts before it leaves the rest to the next one; None: all."""
        self.planned = True
        """Whether the last plan was not stopped by that."""
        self._spread: set[GrantId] = set()
        """Grants over several nodes."""
        self.reserved: Pending | None = None
        self.held = 0
        """The node set held for `reserved`."""
        self.held_of_pool: frozenset[str] = frozenset()
        """The named resources of the pool held for it."""
        self.ends_s: float | None = None
        """When the allocation ends, in seconds since the epoch; None: never, as far as is known."""
        self.margin_s = 0.0
        self._nodes = nodes
        self._jobs = jobs
        self._queue = queue
        self._decisions = decisions
        self._reserve_after_s = reserve_after_s
        self._touched: dict[PoolId, LeasePool] = {}
        """Pools that may want more: those something has happened to since the last plan."""
        self.sent_s: dict[NodeNo, float] = {}
        """When something was last sent to a node."""
        self._next_id = (life << _LIFE_BITS) + 1
        self._paused_s = 0.0
        """For how long the whole job has stood still (suspension, a closed laptop)."""

    def on_pause(self, seconds: float) -> None:
        """The whole job stood still for so long: nothing has waited meanwhile."""
        self._paused_s += seconds

    def uptime(self, now: float) -> float:
        """`now` without the pauses. Whatever ages by waiting is noted and compared in this time."""
        return now - self._paused_s

    # --- deciding -------------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> None:
        """Start what can be started, hold nodes for what has waited too long, lend ahead."""
        if self.reserved is not None:
            over = self.is_over_for(self.reserved.shape, now)
            if not self.reserved.live or self.held & over:
                self._end_reservation()
        self._grant_again(now)
        blocked, passed = self._start_what_fits(now)
        last_lent = self._lend(now)
        self._forget_unused()
        if blocked is None:
            return
        if (passed or (last_lent and last_lent.key > blocked.key)) and blocked.blocked_since is None:
            blocked.blocked_since = self.uptime(now)
        self._reserve_for(blocked, now)

    def _start_what_fits(self, now: float) -> tuple[Pending | None, bool]:
        """Returns the earliest work that did not fit, and whether later work has started in spite of it."""
        blocked: Pending | None = None
        passed = False
        started = 0
        self.planned = True
        heads = [head for head in self._queue.heads() if self.in_time(head[2].shape, now)]
        heapify(heads)
        while heads and self._nodes.free_count:
            if self.most_starts is not None and started >= self.most_starts:
                self.planned = False
                return blocked, passed
            _, number, pending = heads[0]
            if not pending.live:  # all of it has started with an alternative
                self._next_head(heads, pending.shape, number)
                continue
            shares = self._nodes.find(pending.shape.need, self._not_for(pending, now))
            if shares is None:
                if pending.is_last:
                    blocked = blocked or pending.primary
                heappop(heads)
                continue
            passed = passed or blocked is not None
            pool = self._new_grant(pending.shape, shares)
            if pending.live == 1:
                self._send(pending, pool, now)
                started += 1
            else:
                count = 1 + self._grant_more(pool, pending.live - 1)
                self._send_many(pending, pool, count, now)
                started += count
            pending.primary.blocked_since = None
            if pending.primary is self.reserved:
                self._end_reservation()
            if not pending.live:
                self._next_head(heads, pending.shape, number)
        waiting = [head.primary for _, _, head in heads if head.live] if blocked is None else []
        return blocked or min(waiting, key=attrgetter("key"), default=None), passed

    @staticmethod
    def _next_head(heads: list[tuple[Key, int, Entry]], shape: Shape, number: int) -> None:
        """The first entry of the heap is used up: the next of its shape takes its place, if there is one."""
        following = shape.head()
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, (following.key, order(following, number), following))

    def in_time(self, shape: Shape, now: float) -> bool:
        """Whether a task of this shape that starts now is over before the end."""
        return self.ends_s is None or now + shape.least_s <= self.ends_s - self.margin_s

    def is_over_for(self, shape: Shape, now: float) -> int:
        """The nodes that end themselves before a task of this shape that starts now is over."""
        return self._nodes.times.over_before(now + shape.least_s) if self._nodes.times else 0

    def stalled(self, now: float) -> bool:
        """Nothing is under way and nothing that waits can start any more: too little time is left, or it fits on no node."""
        if self.attempts:
            return False
        shapes = [pending.shape for _, _, pending in self._queue.heads()]
        return not any(self.in_time(shape, now) and why_never(self._nodes, shape.need) is None for shape in shapes)

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

    def _not_for(self, pending: Entry, now: float) -> int:
        """The nodes that `pending` must leave alone: those held for work that comes before it, or over too soon."""
        over = self.is_over_for(pending.shape, now)
        if self.reserved is None or pending.key <= self.reserved.key:
            return over
        return _ALL if self._is_of_held(pending.shape) else over | self.held

    def _is_of_held(self, shape: Shape) -> bool:
        """Whether its tasks take something of the pool that is held for others."""
        return bool(self.held_of_pool) and any(want.name in self.held_of_pool for want in shape.need.named)

    def _is_held(self, pool: LeasePool) -> bool:
        """Whether nothing more is to start there."""
        return bool(self.held >> pool.node & 1) or self._is_of_held(pool.shape)

    def _send(self, pending: Entry, pool: LeasePool, now: float) -> None:
        job, pos = pending.job, pending.take()
        key = TaskKey(job.no, pos, job.tasks.run(pos) + 1)
        job.tasks.set_run(pos, key.run)
        self._jobs.move_task(job, pos, State.SCHEDULED)
        self.attempts[key] = Attempt(key, job, pending, pool.node, pool.pool_id, now)
        pool.unstarted[key] = now - self._paused_s
        pool.latest_s = self.sent_s[pool.node] = now
        self._decisions.sent.setdefault(pool.node, []).append(key)
        self._decisions.orders_for(pool.node).starts.setdefault(pool.pool_id, []).append(key)
        self._decisions.changes.append(Change(job, pos if job.is_iteration else None, State.SCHEDULED, now))

    def _send_many(self, pending: Entry, pool: LeasePool, count: int, now: float) -> None:
        """As `_send`, for the next `count` positions of `pending`."""
        while count > 0:
            count -= self._send_stretch(pending, pool, count, now)

    def _send_stretch(self, pending: Entry, pool: LeasePool, most: int, now: float) -> int:
        """As `_send`, for the next positions of `pending` together, as far as nothing distinguishes them.

        Returns how many there were.
        """
        job, positions = pending.job, pending.take_stretch(most)
        if not positions or not isinstance(job.tasks, ManyTasks):
            self._send(pending, pool, now)
            return 1
        job.tasks.send_first(positions)
        self._jobs.tasks_in[State.QUEUED] -= len(positions)
        self._jobs.tasks_in[State.SCHEDULED] += len(positions)
        keys = list(map(TaskKey._make, zip(repeat(job.no), positions, repeat(1))))
        self.attempts.update((key, Attempt(key, job, pending, pool.node, pool.pool_id, now)) for key in keys)
        pool.unstarted.update(dict.fromkeys(keys, self.uptime(now)))
        pool.latest_s = self.sent_s[pool.node] = now
        self._decisions.sent.setdefault(pool.node, []).extend(keys)
        self._decisions.orders_for(pool.node).starts.setdefault(pool.pool_id, []).extend(keys)
        self._decisions.changes.append(Lent(job, positions, now))
        return len(positions)

    # --- grants ---------------------------------------------------------------------------------------------------------

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

    def _grant_again(self, now: float) -> None:
        """Give cores to pools whose lent tasks arrived after the agent had given its last grants back."""
        for pool in self._touched.values():
            while len(pool.unstarted) > pool.grants and not pool.revoking and not self._is_held(pool):
                shares = self._nodes.find(pool.shape.need, ~(1 << pool.node) | self.is_over_for(pool.shape, now))
                if shares is None:
                    break
                self._new_grant(pool.shape, shares)

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
        self.release_hold(node)
        self.sent_s.pop(node, None)
        return attempts

    def release_hold(self, node: NodeNo) -> None:
        """Nothing can be reserved on this node any more."""
        if self.held >> node & 1:
            self._end_reservation()

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

    # --- leases ---------------------------------------------------------------------------------------------------------

    def _lend(self, now: float) -> Entry | None:
        """Top up the pools something happened to; returns the latest work that was lent."""
        latest: Entry | None = None
        deep = self._deep_shape() if any(pool.pace.are_long for pool in self._touched.values()) else None
        for pool in self._touched.values():
            if not pool.grants or self._is_held(pool) or not self.in_time(pool.shape, now):
                continue
            if not self._nodes.usable >> pool.node & 1 or self.is_over_for(pool.shape, now) >> pool.node & 1:
                continue
            if pool.pace.are_long and not self._is_deep(pool, deep):
                continue
            room = pool.room(self.uptime(now))
            while room > 0:
                pending = pool.shape.head()
                if pending is None:
                    break
                room -= self._send_stretch(pending, pool, room, now)
                if latest is None or pending.key > latest.key:
                    latest = pending
        return latest

    def take_back_stale(self, now: float) -> None:
        """Ask for lent tasks that have waited too long: their cores turned out to be busy, others may be free."""
        alone = len(self._queue.heads()) <= 1
        free = self._nodes.free_count
        for pool in self.pools.values():
            if pool.revoking or not pool.stale(self.uptime(now)):
                continue
            if alone and pool.pace.are_many(len(self.grants)):  # lent although they are long: they hinder nobody else
                if free <= 0:
                    continue
                free -= len(pool.unstarted)
            pool.pace.distrust()
            self._revoke(pool)

    def _deep_shape(self) -> Shape | None:
        """The one shape that has work waiting, and more than there are grants.

        None where tasks must not start late: with a wall time limit, before the end of the allocation.
        """
        heads = self._queue.heads()
        if len(heads) != 1 or heads[0][2].live <= len(self.grants):
            return None
        shape = heads[0][2].shape
        return None if shape.wt_s and (self.ends_s is not None or self._nodes.times) else shape

    def _is_deep(self, pool: LeasePool, deep: Shape | None) -> bool:
        """Whether long tasks may be lent to this pool; see leases.py."""
        return pool.shape is deep and pool.pace.are_many(len(self.grants))

    def _revoke(self, pool: LeasePool) -> None:
        pool.revoking.update(pool.unstarted)
        self._decisions.orders_for(pool.node).revokes.extend(pool.unstarted)

    # --- reservation ----------------------------------------------------------------------------------------------------

    def _reserve_for(self, blocked: Pending, now: float) -> None:
        if self.reserved is not None and blocked.key < self.reserved.key:
            self._end_reservation()
        since = blocked.blocked_since
        if self.reserved is blocked and not self.held:
            self._hold_nodes(blocked, now)
        if self.reserved is not None or since is None or self.uptime(now) - since < self._reserve_after_s:
            return
        self.reserved = blocked
        need = self._need_to_hold(blocked)
        self.held_of_pool = frozenset(want.name for want in self._nodes.stocks.of_pool(need))
        self._hold_nodes(blocked, now)

    def _need_to_hold(self, blocked: Pending) -> Need:
        """The one that can be met at all; with several, that which is liked most."""
        needs = [entry.shape.need for entry in blocked.entries]
        return next((need for need in needs[:-1] if why_never(self._nodes, need) is None), needs[-1])

    def _hold_nodes(self, blocked: Pending, now: float) -> None:
        """For the reserved work, once the pool has what it takes of it."""
        need = self._need_to_hold(blocked)
        if self._nodes.stocks.pool_fits(need):
            self.held = choose_to_hold(self._nodes, need, self.is_over_for(blocked.shape, now))
            if not self.held:
                self._end_reservation()
                return
        for pool in self.pools.values():
            if self._is_held(pool) and pool.unstarted and not pool.revoking:
                self._revoke(pool)

    def _end_reservation(self) -> None:
        self.reserved, self.held, self.held_of_pool = None, 0, frozenset()


_ALL = -1
"""The set of all nodes."""
