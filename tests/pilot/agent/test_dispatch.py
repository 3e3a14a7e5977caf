"""How an agent shares its work out to its workers."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from pilotfish.pilot.agent import worker_pool
from pilotfish.pilot.agent.dispatch import Dispatcher, Orders
from pilotfish.pilot.agent.report_buffer import ReportBuffer, unstarted
from pilotfish.pilot.agent.tasks import key_of
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId, TaskKey
from pilotfish.pilot.wire.frames import Cause, Finished, NewGrant, NodeShare, Report, Started, TaskStart

POOL = PoolId(1)


def grant(number: int, pool: int = 1, cores: int = 1) -> NewGrant:
    share = NodeShare("n1", [str(core) for core in range(cores)], [])
    return NewGrant(GrantId(number), PoolId(pool), [share], bind=False, mem_bytes=0)


def task(pos: int) -> TaskStart:
    return TaskStart(JobNo(1), pos, 1, None, None)


def end(start: TaskStart, of: GrantId, seconds: float = 0.001, returns: bool = False) -> Finished:
    return Finished(*start[:3], of, 1, 0.0, seconds, 0, Cause.EXITED, 0.0, 0, "", returns)


class Desk:
    """A dispatcher, and what its workers have been told."""

    def __init__(self, workers: int = 2) -> None:
        self.report_buffer = ReportBuffer()
        self.dispatcher = Dispatcher(workers, self.report_buffer)

    def work(self, grants: list[NewGrant], tasks: list[TaskStart]) -> list[list[int]]:
        """Returns, for each worker, the tasks that it gets."""
        self.dispatcher.take_work(grants, {POOL: tasks})
        return self.deal()

    def deal(self) -> list[list[int]]:
        self.dispatcher.deal()
        return [[start.pos for start in orders.starts.get(POOL, [])] for orders in self.take()]

    def take(self) -> list[Orders]:
        return [self.dispatcher.take_orders(worker) or Orders() for worker in range(len(self.dispatcher.orders))]


@pytest.mark.parametrize(("processors", "workers"), [(1, 1), (2, 2), (16, 16), (64, 28), (128, 44)])
def test_a_core_has_a_worker_of_its_own_up_to_sixteen_and_a_quarter_beyond(processors: int, workers: int) -> None:
    assert worker_pool.count_for(processors) == workers


def test_grants_go_to_the_worker_with_the_fewest_cores() -> None:
    desk = Desk()
    desk.dispatcher.take_work([grant(1, 1, cores=3), grant(2, 2), grant(3, 2), grant(4, 2)], {POOL: [task(0)]})
    desk.dispatcher.take_work([], {PoolId(2): [task(1), task(2), task(3)]})
    desk.dispatcher.deal()
    assert [[len(given.nodes[0].core_ids) for given in orders.grants] for orders in desk.take()] == [[3], [1, 1, 1]]


def test_while_nothing_is_known_of_a_pool_a_worker_gets_what_it_can_start() -> None:
    desk = Desk()
    assert desk.work([grant(1), grant(2)], [task(pos) for pos in range(10)]) == [[0], [1]]


def test_of_short_tasks_workers_get_equal_lots_ahead() -> None:
    desk = Desk()
    desk.work([grant(1), grant(2)], [task(pos) for pos in range(20)])
    desk.dispatcher.on_finished(end(task(0), GrantId(1)))
    assert desk.deal() == [list(range(2, 12)), list(range(12, 21 - 1))]


def test_of_tasks_of_a_second_a_worker_gets_one_at_a_time() -> None:
    desk = Desk()
    desk.work([grant(1), grant(2)], [task(pos) for pos in range(20)])
    desk.dispatcher.on_finished(end(task(0), GrantId(1), seconds=1.0))
    assert desk.deal() == [[2], []]


def test_a_worker_that_has_run_out_gets_half_of_what_another_cannot_start_yet() -> None:
    desk = Desk()
    desk.work([grant(1), grant(2)], [task(pos) for pos in range(20)])
    for pos in (0, *range(2, 11)):
        desk.dispatcher.on_finished(end(task(pos), GrantId(1)))
        desk.deal()
    desk.dispatcher.on_finished(end(task(11), GrantId(1), returns=True))
    desk.dispatcher.deal()
    (_, slow) = desk.take()
    assert [key.pos for key in slow.revokes] == [16, 17, 18, 19]
    desk.dispatcher.on_revoked(slow.revokes)
    assert desk.deal()[0][:1] == [16], "and the first of those starts next"


def test_a_grant_goes_back_with_the_end_of_the_last_task() -> None:
    desk = Desk()
    desk.work([grant(1)], [task(0)])
    desk.dispatcher.on_finished(end(task(0), GrantId(1), returns=True))
    (finished,) = desk.report_buffer.seal().finished
    assert finished.returns_grant
    assert not desk.dispatcher.grants


def test_a_grant_that_crosses_more_work_goes_back_to_where_that_is() -> None:
    desk = Desk()
    desk.work([grant(1), grant(2)], [task(pos) for pos in range(2)])
    desk.dispatcher.on_finished(end(task(0), GrantId(1)))
    assert desk.work([], [task(2), task(3), task(4)])[0] == [2, 3]
    desk.dispatcher.on_returned(GrantId(1))
    desk.dispatcher.deal()
    first, second = desk.take()
    assert [given.grant_id for given in first.grants] == [1]
    assert not second.revokes


def test_a_task_that_was_killed_on_its_way_between_workers_is_not_started() -> None:
    desk = Desk()
    desk.work([grant(1)], [task(0)])
    key = key_of(task(0))
    desk.dispatcher.kill([key])
    desk.dispatcher.on_revoked([key])
    desk.dispatcher.deal()
    (finished,) = desk.report_buffer.seal().finished
    assert (TaskKey(*finished[:3]), finished.cause) == (key, Cause.CANCELED)
    assert desk.dispatcher.empty


class SimulatedHand:
    """What a TaskRunner does with orders, without processes. Orders and reports may wait, so they cross."""

    def __init__(self) -> None:
        self.orders: deque[Orders] = deque()
        self.report_buffer = ReportBuffer()
        self.reports: deque[Report] = deque()
        self.idle: dict[PoolId, list[NewGrant]] = {}
        self.waiting: dict[PoolId, list[TaskStart]] = {}
        self.running: dict[TaskKey, tuple[TaskStart, NewGrant]] = {}

    def obey(self) -> list[TaskKey]:
        """Take the next orders; returns what has been started."""
        orders = self.orders.popleft()
        for given in orders.grants:
            self.idle.setdefault(given.pool, []).append(given)
        for pool, starts in orders.starts.items():
            self.waiting.setdefault(pool, []).extend(starts)
        for key in self._take_waiting(orders.kills):
            self.report_buffer.finished(unstarted(key))
        for key in orders.kills:
            if key in self.running:
                self.end(key, 0.01)
        for key in self._take_waiting(orders.revokes):
            self.report_buffer.revoked(key)
        return self.start()

    def _take_waiting(self, keys: list[TaskKey]) -> list[TaskKey]:
        taken = []
        for pool, starts in self.waiting.items():
            taken += [key_of(start) for start in starts if key_of(start) in keys]
            self.waiting[pool] = [start for start in starts if key_of(start) not in keys]
        return taken

    def start(self) -> list[TaskKey]:
        begun = []
        for pool, idle in self.idle.items():
            waiting = self.waiting.setdefault(pool, [])
            while idle and waiting:
                start, on = waiting.pop(0), idle.pop()
                self.running[key_of(start)] = start, on
                begun.append(key_of(start))
            for left in idle:
                self.report_buffer.returned(left.grant_id)
            idle.clear()
        return begun

    def announce(self, key: TaskKey) -> None:
        _, on = self.running[key]
        self.report_buffer.started(Started(*key, on.grant_id, 1, 0.0))

    def end(self, key: TaskKey, seconds: float) -> None:
        start, on = self.running.pop(key)
        returns = not self.waiting.get(on.pool)
        if not returns:
            self.idle[on.pool].append(on)
        self.report_buffer.finished(end(start, on.grant_id, seconds, returns))

    def report(self) -> None:
        if not self.report_buffer.empty:
            self.reports.append(self.report_buffer.seal())


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: each attempt is started at most once, ends once, and every grant comes back once."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.report_buffer = ReportBuffer()
        self.dispatcher = Dispatcher(3, self.report_buffer)
        self.workers = [SimulatedHand() for _ in range(3)]
        self.given: set[GrantId] = set()
        self.told: set[TaskKey] = set()
        self.killed: set[TaskKey] = set()
        self.started: Counter[TaskKey] = Counter()
        self.settled: Counter[TaskKey] = Counter()
        self.returned: Counter[GrantId] = Counter()

    @rule(target=keys, pool=st.integers(1, 2), grants=st.integers(0, 4), tasks=st.integers(1, 30))
    def work(self, pool: int, grants: int, tasks: int) -> Any:
        new = [grant(len(self.given) + number, pool) for number in range(grants)]
        starts = [task(len(self.told) + number) for number in range(tasks)]
        self.given |= {each.grant_id for each in new}
        self.told |= {key_of(start) for start in starts}
        self.dispatcher.take_work(new, {PoolId(pool): starts})
        return multiple(*map(key_of, starts))

    @rule(key=keys)
    def kill(self, key: TaskKey) -> None:
        if not self.settled[key]:
            self.killed.add(key)
        self.dispatcher.kill([key])

    @rule(key=keys)
    def revoke(self, key: TaskKey) -> None:
        self.dispatcher.revoke([key])

    @rule()
    def close(self) -> None:
        if len(self.told) > 60:
            self.dispatcher.closed = True
            self.dispatcher.revoke_all()

    @rule()
    def turn(self) -> None:
        self.dispatcher.deal()
        for number, worker in enumerate(self.workers):
            orders = self.dispatcher.take_orders(number)
            if orders is not None:
                worker.orders.append(orders)
        self._hear()

    def _hear(self) -> None:
        report = self.report_buffer.seal()
        for finished in report.finished:
            self.settled[TaskKey(*finished[:3])] += 1
            if finished.returns_grant:
                self.returned[finished.grant_id] += 1
        self.settled.update(report.revoked)
        self.returned.update(report.returned)

    @rule(number=st.integers(0, 2))
    def obey(self, number: int) -> None:
        if self.workers[number].orders:
            self.started.update(self.workers[number].obey())

    @rule(
        number=st.integers(0, 2), data=st.data(), seconds=st.sampled_from([0.0005, 0.02, 3.0]), count=st.integers(1, 9)
    )
    def end(self, number: int, data: st.DataObject, seconds: float, count: int) -> None:
        worker = self.workers[number]
        for _ in range(count):
            if worker.running:
                worker.end(data.draw(st.sampled_from(sorted(worker.running))), seconds)
                self.started.update(worker.start())

    @rule(number=st.integers(0, 2), data=st.data())
    def announce(self, number: int, data: st.DataObject) -> None:
        worker = self.workers[number]
        if worker.running:
            worker.announce(data.draw(st.sampled_from(sorted(worker.running))))

    @rule(number=st.integers(0, 2))
    def send_report(self, number: int) -> None:
        self.workers[number].report()

    @rule(number=st.integers(0, 2))
    def read_report(self, number: int) -> None:
        if self.workers[number].reports:
            report = self.workers[number].reports.popleft()
            for started in report.started:
                self.dispatcher.on_started(started)
            for finished in report.finished:
                self.dispatcher.on_finished(finished)
            self.dispatcher.on_revoked(report.revoked)
            for grant_id in report.returned:
                self.dispatcher.on_returned(grant_id)

    @invariant()
    def nothing_twice(self) -> None:
        assert all(count == 1 for count in self.started.values())
        assert all(count == 1 for count in self.settled.values())
        assert all(count == 1 for count in self.returned.values())

    def teardown(self) -> None:
        if not self.given and self.told:
            self.work(1, 1, 1)
        self.dispatcher.take_work([grant(len(self.given), 1), grant(len(self.given) + 1, 2)], {})
        self.given |= {GrantId(len(self.given)), GrantId(len(self.given) + 1)}
        for _ in range(2000):
            self.turn()
            for number, worker in enumerate(self.workers):
                while worker.orders:
                    self.obey(number)
                for key in list(worker.running)[:1]:
                    worker.end(key, 0.0005)
                    self.started.update(worker.start())
                worker.report()
                while worker.reports:
                    self.read_report(number)
            self.nothing_twice()
            if self.dispatcher.empty and not self.dispatcher.grants:
                break
        self.turn()
        assert set(self.returned) == self.given
        waits_for_a_grant = {key for keys in self.dispatcher.waiting.values() for key in keys}
        assert set(self.settled) | waits_for_a_grant == self.told
        assert not waits_for_a_grant & self.killed


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
