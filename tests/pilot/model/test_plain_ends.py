"""The paths for many tasks at once lead to what the general ones lead to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from functools import partial
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import job, node

from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Change, Lent, Succeeded, each_change
from pilotfish.pilot.model.ids import GrantId, NodeNo, PoolId, TaskKey
from pilotfish.pilot.model.jobs import Pending
from pilotfish.pilot.model.plain_ends import EndReport, StartReport
from pilotfish.pilot.model.results import Result, Successes
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.ends import ends_of, one_of, together

JOBS = [
    job("plain", count=40),
    job("retried", count=8, retries=1),
    job("awaited", count=5),
    job("after", count=5, after=["awaited:*"]),
    job("single"),
    job("spread", 2, 2, count=3),
]

HOWS = st.sampled_from(["ends", "ends", "ends", "ends", "fails", "stopped", "is slow", "is announced", "is canceled"])
"""What happens to the oldest task that runs; mostly what happens to most."""


class How(Enum):
    """How the ends of a turn are taken in, always in the order that a report has them in."""

    ONE_BY_ONE = 0
    AT_ONCE = 1
    IN_COLUMNS = 2


class Pilot:
    """A scheduler and agents that report the ends of a turn together."""

    def __init__(self, how: How) -> None:
        self.decisions: list[Any] = []
        self.taken_singly = 0
        self._how = how
        self._scheduler = Scheduler([node("n1", 3), node("n2", 3)])
        self._now = 1000.0
        self._idle: dict[PoolId, list[GrantId]] = {}
        self._waiting: dict[PoolId, deque[TaskKey]] = {}
        self._running: deque[tuple[TaskKey, GrantId, PoolId]] = deque()
        for number in range(2):
            self._scheduler.on_node_up(NodeNo(number))
        self._scheduler.submit(JOBS, self._now)
        self._settle()

    def play(self, turns: list[list[str]]) -> None:
        for hows in turns:
            self._now += 0.0625
            ends = [end for how in hows if self._running and (end := self._happen(how)) is not None]
            for number, of_node in groupby(ends, key=self._node_of):
                self._take(number, _report(of_node))
            self._settle()

    def _take(self, node: NodeNo, report: frames.Report) -> None:
        if self._how is How.ONE_BY_ONE:
            for end in ends_of(report):
                self._take_one(end)
        elif self._how is How.AT_ONCE:
            self._scheduler.on_ended(node, ends_of(report), self._take_one)
        else:
            self._take_columns(node, report, returns_grants=False)
            self._scheduler.on_ended(node, report.finished, self._take_one)
            self._take_columns(node, report, returns_grants=True)

    def _take_columns(self, node: NodeNo, report: frames.Report, returns_grants: bool) -> None:
        for ends in report.succeeded:
            if ends.returns_grants is returns_grants:
                self._scheduler.on_succeeded(node, ends, partial(self._take_at, ends))

    def _take_at(self, ends: frames.Succeeded, place: int) -> None:
        self._take_one(one_of(ends, place))

    def states(self) -> list[Any]:
        """Everything that is kept of each task, and how far the jobs are."""
        jobs = self._scheduler.jobs
        kept = [[job.tasks.load(pos) for pos in range(job.spec.task_count)] for job in jobs]
        return [kept, [(job.state, job.finished, job.failed) for job in jobs], jobs.tasks_in, jobs.jobs_in]

    def _node_of(self, end: EndReport) -> NodeNo:
        return self._node_of_key(TaskKey(*end[:3]))

    def _node_of_key(self, key: TaskKey) -> NodeNo:
        number = self._scheduler.node_of(key)
        assert number is not None
        return number

    def _start_one(self, report: StartReport) -> None:
        job_no, pos, run, grant_id, pid, started_s = report
        self._scheduler.on_started(TaskKey(job_no, pos, run), grant_id, pid, started_s)

    def _take_one(self, report: EndReport) -> None:
        self.taken_singly += 1
        job_no, pos, run, grant_id, pid, began, ended, code, cause, cpu_s, rss, message, returns = report
        end = End(pid, began, ended, code, cause, cpu_s, rss, message)
        self._scheduler.on_finished(TaskKey(job_no, pos, run), grant_id, end, returns, self._now)

    def _happen(self, how: str) -> EndReport | None:
        key, grant_id, pool = held = self._running.popleft()
        task = self._scheduler.jobs.by_no(key.job_no)
        assert task is not None
        if how == "is slow":
            self._running.append(held)
            return None
        if how == "is announced":
            if self._how is How.ONE_BY_ONE:
                self._scheduler.on_started(key, grant_id, 7, self._now - 0.5)
            else:
                number = self._node_of_key(key)
                self._scheduler.on_all_started(number, [(*key, grant_id, 7, self._now - 0.5)], self._start_one)
            self._running.append(held)
            return None
        if how == "is canceled" and not task.canceling and not task.tasks.state(key.pos).final:
            self._scheduler.cancel_task(task, key.pos, self._now)
        waiting = self._waiting.get(pool)
        returns = not waiting
        if waiting:
            self._running.append((waiting.popleft(), grant_id, pool))
        code = {"fails": 1, "stopped": -15}.get(how, 0)
        cause = Cause.CANCELED if how == "stopped" else Cause.EXITED
        times = self._now - 0.015625, self._now
        return (*key, grant_id, 7, *times, code, cause, 0.5, 9, "killed" if code < 0 else "", returns)

    def _settle(self) -> None:
        self._scheduler.plan(self._now)
        turn = self._scheduler.take_decisions()
        changes = list(map(_comparable, each_change(turn.changes)))
        results = [each for result in turn.results for each in _results(result)]
        self.decisions.append((results, changes, turn.taken, turn.sent, turn.orders, turn.canceled))
        invariants.check(self._scheduler)
        for orders in turn.orders.values():
            for grant in orders.grants:
                self._idle.setdefault(grant.pool, []).append(grant.grant_id)
            for pool, keys in orders.starts.items():
                self._waiting.setdefault(pool, deque()).extend(keys)
            for pool, grants in self._idle.items():
                waiting = self._waiting.get(pool, deque())
                while grants and waiting:
                    self._running.append((waiting.popleft(), grants.pop(0), pool))


def _report(ends: Iterable[EndReport]) -> frames.Report:
    succeeded, finished = together([frames.Finished(*end) for end in ends])
    return frames.Report(1, [], finished, [], [], succeeded)


def _results(result: Result | Successes) -> Iterable[Result]:
    return [result] if isinstance(result, Result) else result.each()


def _comparable(change: Change) -> Any:
    return change.job.no, *change[1:]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([How.AT_ONCE, How.IN_COLUMNS]), st.lists(st.lists(HOWS, min_size=1, max_size=12), max_size=12))
def test_ends_taken_at_once_have_the_same_consequences_as_one_by_one(how: How, turns: list[list[str]]) -> None:
    at_once, one_by_one = Pilot(how), Pilot(How.ONE_BY_ONE)
    at_once.play(turns)
    one_by_one.play(turns)
    assert at_once.states() == one_by_one.states()
    assert at_once.decisions == one_by_one.decisions


@pytest.mark.parametrize("how", [How.AT_ONCE, How.IN_COLUMNS])
def test_only_what_means_something_for_others_is_taken_by_itself(how: How) -> None:
    pilot = Pilot(how)
    pilot.play([["ends"] * 6] * 20)
    last_ones = 3  # of plain, retried and after
    assert pilot.taken_singly == last_ones + len(["awaited"] * 5 + ["single"] + ["spread"] * 3)


def test_many_ends_are_one_result_and_one_change() -> None:
    """What is lent together and ends together goes to the journal and to subscribers as one."""
    scheduler = Scheduler([node("n1", 1)])
    scheduler.on_node_up(NodeNo(0))
    (many,) = scheduler.submit([job("many", count=100)], 1000.0)
    scheduler.plan(1000.0)
    (grant,) = scheduler.take_decisions().orders[NodeNo(0)].grants
    scheduler.on_finished(
        TaskKey(many.no, 0, 1), grant.grant_id, End(7, 1000.0, 1000.01, 0, Cause.EXITED), False, 1000.0
    )
    scheduler.plan(1001.0)
    (lent,) = [change for change in scheduler.take_decisions().changes if isinstance(change, Lent)]
    positions = list(lent.positions)
    count = len(positions)
    times = [1001.0] * count, [1001.01] * count
    ends = frames.Succeeded(
        many.no, 1, False, positions, [grant.grant_id] * count, [7] * count, *times, [0.5] * count, [9] * count
    )
    scheduler.on_succeeded(
        NodeNo(0), ends, lambda place: pytest.fail(f"{positions[place]} was not taken with the others")
    )
    turn = scheduler.take_decisions()
    (results,), (change,) = turn.results, turn.changes
    assert isinstance(results, Successes)
    assert isinstance(change, Succeeded)
    assert (count, results.pos, len(results.places), change.count) == (25, positions, 1, 2 * count)


@settings(max_examples=30, deadline=None)
@given(turns=st.lists(st.lists(HOWS, min_size=1, max_size=12), min_size=1, max_size=12))
def test_a_stretch_is_sent_as_its_tasks_one_by_one_would_be(turns: list[list[str]]) -> None:
    as_stretch, singly = Pilot(How.AT_ONCE), None
    as_stretch.play(turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pending, "take_stretch", lambda self, most: range(0))
        singly = Pilot(How.AT_ONCE)
        singly.play(turns)
    assert as_stretch.decisions == singly.decisions
    assert as_stretch.states() == singly.states()
