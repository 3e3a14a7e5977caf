"""Which worker of an agent gets which grants and tasks. No processes and no sockets here.

Grants go to the worker that holds the fewest cores. Tasks wait here, in the order they came, and go to the workers in lots:
what the tasks of a pool are likely to take AHEAD_S for, so that a worker never waits for the next one, and little has to be
taken back when it turns out that another could start it sooner. That is done when a grant is idle and nothing waits here
any more.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..model.ids import GrantId, PoolId, TaskKey
from ..model.leases import LENT_WORK_S, moving_mean
from ..wire.frames import Cause, Finished, NewGrant, Started, TaskStart, each
from .report_buffer import ReportBuffer, unstarted
from .tasks import key_of

AHEAD_S = 0.15
"""Work that a worker has beyond what it runs. It reports every 0.05 s and is topped up from a half of it on."""
_MOST_AHEAD = 128
_SHORTEST_S = 0.0003


@dataclass(slots=True)
class Orders:
    """What goes to one worker next."""

    grants: list[NewGrant] = field(default_factory=list)
    starts: dict[PoolId, list[TaskStart]] = field(default_factory=dict)
    revokes: list[TaskKey] = field(default_factory=list)
    kills: list[TaskKey] = field(default_factory=list)


class WorkerSlot:
    """What one worker has of one pool."""

    __slots__ = ("asked", "grants", "worker", "running", "unstarted")

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.grants = 0
        self.unstarted: dict[TaskKey, TaskStart] = {}
        """In the order sent; what has been started lately may still be among them."""
        self.running = 0
        self.asked = False
        """Some have been asked back for another worker, and it has not answered."""

    @property
    def has(self) -> int:
        return len(self.unstarted) + self.running

    @property
    def surplus(self) -> int:
        """How many of its tasks are sure not to run."""
        return min(len(self.unstarted), self.has - self.grants)


class Pool:
    """Grants of one shape and the tasks for them, at the workers and here."""

    __slots__ = ("idle", "mean_s", "pool_id", "slots", "waiting")

    def __init__(self, pool_id: PoolId, workers: int) -> None:
        self.pool_id = pool_id
        self.waiting: deque[TaskStart] = deque()
        self.idle: list[NewGrant] = []
        self.slots = [WorkerSlot(worker) for worker in range(workers)]
        self.mean_s: float | None = None
        """Moving average of how long tasks take."""

    def ran(self, seconds: float) -> None:
        self.mean_s = moving_mean(self.mean_s, seconds)

    @property
    def ahead(self) -> int:
        """How many tasks a worker gets for each grant beyond the one that runs. Long ones, which are not lent either, none."""
        if self.mean_s is None or self.mean_s > LENT_WORK_S:
            return 0
        return max(1, min(_MOST_AHEAD, int(AHEAD_S / max(self.mean_s, _SHORTEST_S))))


@dataclass(slots=True)
class _Held:
    """One attempt: where it is, and what is known of it. `slot` None: it waits here."""

    start: TaskStart
    pool: Pool
    slot: WorkerSlot | None = None
    started: Started | None = None
    wanted_back: bool = False
    """The manager has asked for it."""
    killed: bool = False
    """The manager has ordered its end. The worker may have given it back before it heard of that."""


class Dispatcher:
    """Everything that an agent holds, and which worker has it. What the manager has to learn goes to `report_buffer`."""

    def __init__(self, workers: int, report_buffer: ReportBuffer) -> None:
        self.orders = [Orders() for _ in range(workers)]
        self.grants: dict[GrantId, NewGrant] = {}
        self.closed = False
        """Nothing is started any more: what comes back from the workers goes back to the manager."""
        self._report_buffer = report_buffer
        self._seat_of: dict[GrantId, WorkerSlot] = {}
        """Of the grants that workers have; the others are idle."""
        self._cores = [0] * workers
        self._pools: dict[PoolId, Pool] = {}
        self._held: dict[TaskKey, _Held] = {}
        self._touched: dict[PoolId, Pool] = {}

    @property
    def running(self) -> list[Started]:
        return [held.started for held in self._held.values() if held.started is not None]

    @property
    def waiting(self) -> dict[PoolId, list[TaskKey]]:
        """By pool, what is not known to have started."""
        found: dict[PoolId, list[TaskKey]] = {}
        for key, held in self._held.items():
            if held.started is None:
                found.setdefault(held.pool.pool_id, []).append(key)
        return found

    @property
    def empty(self) -> bool:
        """No attempt is held, started or not."""
        return not self._held

    # --- orders of the manager --------------------------------------------------------------------------------------------

    def take_work(self, grants: Iterable[NewGrant], tasks: dict[PoolId, list[TaskStart]]) -> None:
        for grant in grants:
            self.grants[grant.grant_id] = grant
            self._pool(grant.pool).idle.append(grant)
        for pool_id, stretches in tasks.items():
            pool, starts = self._pool(pool_id), list(each(stretches))
            pool.waiting.extend(starts)
            self._held.update((key_of(start), _Held(start, pool)) for start in starts)

    def _pool(self, pool_id: PoolId) -> Pool:
        """The pool of that number, made if need be; counts as touched."""
        pool = self._pools.get(pool_id)
        if pool is None:
            pool = self._pools[pool_id] = Pool(pool_id, len(self.orders))
        self._touched[pool_id] = pool
        return pool

    def revoke(self, keys: Iterable[TaskKey]) -> None:
        """Give back those that have not started."""
        here, at_hands = self._found(keys)
        for held in at_hands:
            if held.started is None:
                held.wanted_back = True
                self._order(held).revokes.append(key_of(held.start))
        for held in self._taken_back(here):
            self._report_buffer.revoked(key_of(held.start))

    def revoke_all(self) -> None:
        self.revoke(list(self._held))

    def kill(self, keys: Iterable[TaskKey]) -> None:
        """Stop those that run, drop those that wait; each is reported as CANCELED."""
        here, at_hands = self._found(keys)
        for held in at_hands:
            held.killed = True
            self._order(held).kills.append(key_of(held.start))
        for held in self._taken_back(here):
            self._report_buffer.finished(unstarted(key_of(held.start)))

    def _found(self, keys: Iterable[TaskKey]) -> tuple[list[_Held], list[_Held]]:
        """Those of `keys` that we hold: the ones that wait here, and the ones at the workers."""
        found = [held for key in keys if (held := self._held.get(key)) is not None]
        return [held for held in found if held.slot is None], [held for held in found if held.slot is not None]

    def _order(self, held: _Held) -> Orders:
        assert held.slot is not None
        return self.orders[held.slot.worker]

    def _taken_back(self, here: Sequence[_Held]) -> Iterator[_Held]:
        """They leave the queues they wait in, and us."""
        gone = {key_of(held.start) for held in here}
        for pool in {held.pool.pool_id: held.pool for held in here}.values():
            pool.waiting = deque(start for start in pool.waiting if key_of(start) not in gone)
            self._touched[pool.pool_id] = pool
        for held in here:
            del self._held[key_of(held.start)]
            yield held

    def forget(self) -> None:
        """Drop pools that hold nothing."""
        used = {held.pool.pool_id for held in self._held.values()} | {grant.pool for grant in self.grants.values()}
        self._pools = {pool_id: pool for pool_id, pool in self._pools.items() if pool_id in used}

    # --- reports of a worker ------------------------------------------------------------------------------------------------

    def on_started(self, started: Started) -> None:
        held = self._held.get(TaskKey(*started[:3]))
        if held is not None and held.slot is not None and held.started is None:
            held.started = started
            del held.slot.unstarted[TaskKey(*started[:3])]
            held.slot.running += 1
            self._report_buffer.started(started)

    def on_finished(self, finished: Finished) -> None:
        key = TaskKey(*finished[:3])
        held = self._held.pop(key, None)
        if held is not None and held.slot is not None:
            if held.started is None:
                del held.slot.unstarted[key]
            else:
                held.slot.running -= 1
            if finished.pid > 0:
                held.pool.ran(finished.ended_s - finished.started_s)
            self._answered(held.pool, held.slot)
        if finished.returns_grant:
            self.on_returned(finished.grant_id)
            finished = finished._replace(returns_grant=self._is_spare(finished.grant_id))
        if self.closed and is_of_foreign_signal(finished):
            finished = finished._replace(cause=Cause.CANCELED)
        self._report_buffer.finished(finished)

    def _is_spare(self, grant_id: GrantId) -> bool:
        """Whether nothing needs the grant that has just come back. Then it goes with the message of its last task."""
        grant = self.grants[grant_id]
        pool = self._pools[grant.pool]
        if pool.waiting or any(slot.surplus > 0 for slot in pool.slots):
            return False
        pool.idle.remove(grant)
        del self.grants[grant_id]
        return True

    def on_returned(self, grant_id: GrantId) -> None:
        """A worker process has given a grant back; whether it goes back to the manager is decided when all reports are read."""
        grant, slot = self.grants[grant_id], self._seat_of.pop(grant_id)
        slot.grants -= 1
        self._cores[slot.worker] -= _cores_of(grant)
        self._pool(grant.pool).idle.append(grant)

    def on_revoked(self, keys: Sequence[TaskKey]) -> None:
        """A worker process has given attempts back: because the manager wants them, or another worker could start them."""
        for key in reversed(keys):
            held = self._held[key]
            assert held.slot is not None
            del held.slot.unstarted[key]
            self._answered(held.pool, held.slot)
            if held.killed:
                del self._held[key]
                self._report_buffer.finished(unstarted(key))
            elif held.wanted_back or self.closed:
                del self._held[key]
                self._report_buffer.revoked(key)
            else:
                held.slot = None
                held.pool.waiting.appendleft(held.start)

    def _answered(self, pool: Pool, slot: WorkerSlot) -> None:
        slot.asked = False
        self._touched[pool.pool_id] = pool

    # --- giving out ----------------------------------------------------------------------------------------------------------

    def deal(self) -> None:
        """Hand out what can be started soon, give back grants for which there is nothing; call at the end of a turn."""
        for pool in self._touched.values():
            if self.closed:
                self._give_back(pool)
                continue
            for slot in pool.slots:
                if pool.idle and slot.unstarted and not slot.grants:  # more came there as it gave its last grant back
                    self._seat(pool, slot)
            while pool.idle and pool.waiting:
                free = min(pool.slots, key=lambda slot: self._cores[slot.worker])
                self._seat(pool, free)
                self._send(pool, free, 1)
            if pool.waiting:
                self._fill(pool)
            if pool.idle:
                self._even_out(pool)
            elif pool.ahead and not pool.waiting:
                self._report_buffer.urgent = True  # the manager may have more of them
        self._touched.clear()

    def _seat(self, pool: Pool, slot: WorkerSlot) -> None:
        """Give an idle grant to that worker."""
        grant = pool.idle.pop(0)
        slot.grants += 1
        self._cores[slot.worker] += _cores_of(grant)
        self._seat_of[grant.grant_id] = slot
        self.orders[slot.worker].grants.append(grant)

    def _fill(self, pool: Pool) -> None:
        """Send what grants can use soon; of little, each worker gets no more than its share, which leaves some for others."""
        ahead = pool.ahead
        granted = sum(slot.grants for slot in pool.slots)
        total = len(pool.waiting) + sum(slot.has for slot in pool.slots)
        for slot in pool.slots:
            room = slot.grants * (1 + ahead) - slot.has
            if not slot.grants or 2 * room < slot.grants * ahead:
                continue
            share = -(-total * slot.grants // granted)
            self._send(pool, slot, min(room, max(share, slot.grants) - slot.has, len(pool.waiting)))

    def _send(self, pool: Pool, slot: WorkerSlot, count: int) -> None:
        if count <= 0:
            return
        starts = [pool.waiting.popleft() for _ in range(count)]
        for start in starts:
            key = key_of(start)
            slot.unstarted[key] = start
            self._held[key].slot = slot
        self.orders[slot.worker].starts.setdefault(pool.pool_id, []).extend(starts)

    def _even_out(self, pool: Pool) -> None:
        """Nothing waits here and grants are idle: ask the worker that has the most for half of what it cannot start yet."""
        richest = max(pool.slots, key=lambda slot: slot.surplus)
        if richest.surplus <= 0:
            self._give_back(pool)
        elif not richest.asked:
            richest.asked = True
            count = (richest.surplus + 1) // 2
            self.orders[richest.worker].revokes.extend(list(richest.unstarted)[-count:])

    def _give_back(self, pool: Pool) -> None:
        for grant in pool.idle:
            del self.grants[grant.grant_id]
            self._report_buffer.returned(grant.grant_id)
        pool.idle.clear()

    def take_orders(self, worker: int) -> Orders | None:
        """What the worker is to be told; None for nothing."""
        orders = self.orders[worker]
        if not (orders.grants or orders.starts or orders.revokes or orders.kills):
            return None
        self.orders[worker] = Orders()
        return orders


def is_of_foreign_signal(finished: Finished) -> bool:
    """Whether a SIGTERM or SIGKILL that is not ours ended the task.

    Batch systems send them to all processes of a job, or of a node that was taken away, one after the other: then the task
    has not failed.
    """
    return finished.exit_code in (-signal.SIGTERM, -signal.SIGKILL) and finished.cause is Cause.EXITED


def _cores_of(grant: NewGrant) -> int:
    return len(grant.nodes[0].core_ids)
