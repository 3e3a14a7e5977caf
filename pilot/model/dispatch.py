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
# The words (*shape*, *grant*, *pool*) and what is true of them are in holdings.py. One thing more is true here:
#
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
# take, and what they say is a limit. To bind tasks to grants here: see holdings.py. To look at all work that waits for the best
# fit: O(queue).
#
# Example. Nodes n1, n2 with 2 cores each; `a` (3 iterations of 1 core), then `b` (2 cores). `plan` gives n1 two grants of
# the shape "1 core" and sends a:0, a:1; then n2 one grant and a:2. `b` does not fit: it is *blocked*. The next 1-core job
# passes it on n2's last core, and from then on `blocked_since` counts. After `reserve_after_s` n1 is held for `b`: its
# pools get no more grants, what was lent there is asked back, and when both its tasks have ended `b` starts there.

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from itertools import repeat
from operator import attrgetter

from .attempts import Attempt
from .capacity import choose_to_hold, why_never
from .decisions import Change, Decisions, Lent
from .holdings import Holdings
from .ids import NodeNo, TaskKey
from .job_spec import Need
from .jobs import Entry, Key, LeasePool, Pending, Shape
from .nodes import Nodes
from .queue import Queue, order
from .registry import Registry
from .states import State
from .tasks import ManyTasks


class Dispatch(Holdings):
    """Decides in each turn what starts and where, and which nodes are held; the records of it are those of `Holdings`."""

    def __init__(
        self, nodes: Nodes, jobs: Registry, queue: Queue, decisions: Decisions, reserve_after_s: float, life: int = 0
    ) -> None:
        super().__init__(nodes, queue, decisions, life)
        self.most_starts: int | None = None
        """How many tasks `plan` starts before it leaves the rest to the next one; None: all."""
        self.planned = True
        """Whether the last plan was not stopped by that."""
        self.reserved: Pending | None = None
        self.held = 0
        """The node set held for `reserved`."""
        self.held_of_pool: frozenset[str] = frozenset()
        """The named resources of the pool held for it."""
        self.ends_s: float | None = None
        """When the allocation ends, in seconds since the epoch; None: never, as far as is known."""
        self.margin_s = 0.0
        self._jobs = jobs
        self._reserve_after_s = reserve_after_s
        self.sent_s: dict[NodeNo, float] = {}
        """When something was last sent to a node."""
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

    def _grant_again(self, now: float) -> None:
        """Give cores to pools whose lent tasks arrived after the agent had given its last grants back."""
        for pool in self._touched.values():
            while len(pool.unstarted) > pool.grants and not pool.revoking and not self._is_held(pool):
                shares = self._nodes.find(pool.shape.need, ~(1 << pool.node) | self.is_over_for(pool.shape, now))
                if shares is None:
                    break
                self._new_grant(pool.shape, shares)

    def drop_node(self, node: NodeNo) -> list[Attempt]:
        attempts = super().drop_node(node)
        self.release_hold(node)
        self.sent_s.pop(node, None)
        return attempts

    def release_hold(self, node: NodeNo) -> None:
        """Nothing can be reserved on this node any more."""
        if self.held >> node & 1:
            self._end_reservation()

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
