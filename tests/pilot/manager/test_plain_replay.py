"""What a replay does for many tasks at once is what it does one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pilotfish.pilot.manager.resume import replay
from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.decisions import Changes, each_change
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Dependency, Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.results import PlacedShare, Result, Successes
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.wire import records

JOB = JobNo(1)
SHARES: list[tuple[PlacedShare, ...]] = [(PlacedShare(NodeNo(0), "1", "0"),), (PlacedShare(NodeNo(0), "2", "0"),)]


def sent(*positions: int, run: int = 1) -> records.Sent:
    return records.Sent(NodeNo(0), 10.0, [TaskKey(JOB, pos, run) for pos in positions])


def succeeded(*positions: int, run: int = 1, started_s: float = 11.0) -> records.Succeeded:
    count = len(positions)
    times = [started_s + pos / 8 for pos in positions], [12.0 + pos / 8 for pos in positions]
    usage = [0.25] * count, [100 + pos for pos in positions]
    places = [pos % 2 for pos in positions]
    return records.Succeeded(
        Successes(JOB, run, 10.0, SHARES, list(positions), places, [70 + pos for pos in positions], *times, *usage)
    )


def failed(pos: int, state: State = State.FAILED) -> records.Ended:
    return records.Ended([Result(JOB, pos, 1, state, Cause.EXITED, 3, 70, 10.0, 11.0, 12.0, 0.5, 10, "", SHARES[0])])


def one_by_one(journal: list[records.Record]) -> Iterator[records.Record]:
    for record in journal:
        if isinstance(record, records.Sent):
            yield from (records.Sent(record.node, record.time_s, [key]) for key in reversed(record.tasks))
        elif isinstance(record, records.Succeeded):
            yield records.Ended(list(record.results.each()))
        else:
            yield record


def story(journal: list[records.Record] | Iterator[records.Record]) -> tuple[object, ...]:
    """All that can be seen of where a replay ends."""
    scheduler = Scheduler([])
    changes: list[Changes] = []
    found = replay(journal, scheduler, changes.extend, lambda size: None)
    invariants.check(scheduler)
    tasks = [
        (job.spec.name, job.state, job.finished, job.failed, job.attempts(pos), job.tasks.load(pos))
        for job in scheduler.jobs
        for pos in range(job.spec.task_count)
    ]
    attempts = {key: (attempt.node, attempt.state) for key, attempt in scheduler.dispatch.attempts.items()}
    live = [(shape.need, (head := shape.head()) and head.live) for shape in scheduler.queue]
    told = sorted(str((change.job.spec.name, *change[1:])) for change in each_change(changes))
    return tasks, attempts, live, told, scheduler.jobs.tasks_in, found.left_out


PLAIN = JobSpec("a", Execution(exec="x"), iteration=Iteration(3, 13))
NEEDED = JobSpec("b", Execution(exec="x"), iteration=Iteration(0, 10), after=(Dependency("a", same_index=True),))

JOURNALS: dict[str, list[records.Record]] = {
    "in order": [sent(*range(6)), succeeded(0, 2, 1), sent(*range(6, 10)), succeeded(3, 4, 5, 6, 7, 8), succeeded(9)],
    "all at once": [sent(*range(10)), succeeded(*range(10))],
    "some are left": [sent(*range(4)), succeeded(1, 3)],
    "a failure and another attempt": [
        sent(*range(3)),
        failed(1, State.QUEUED),
        succeeded(0, 2),
        sent(3, 1),
        sent(1, run=2),
        succeeded(1, run=2),
        failed(3),
    ],
    "not one behind the other": [sent(1, 3, 2), succeeded(3, 1), sent(0), sent(4, 5), succeeded(0, 5)],
    "canceled meanwhile": [
        sent(0, 1, 2),
        records.Canceled(JOB, 1, 10.5),
        succeeded(0, 1),
        records.Canceled(JOB, None, 11.0),
    ],
    "never sent, or twice over": [sent(0, 1), succeeded(0, 2), succeeded(1, 1), succeeded(0, 1)],
    "with numbers that cannot be": [sent(0, 1, 2), succeeded(0, 1, started_s=float("nan")), succeeded(2)],
    "the node has left": [sent(0, 1, 2), records.NodeLeft(NodeNo(0), 11.0), succeeded(0, 1)],
}


@pytest.mark.parametrize("journal", JOURNALS.values(), ids=JOURNALS.keys())
@pytest.mark.parametrize("jobs", [[PLAIN], [PLAIN, NEEDED]], ids=["alone", "with dependents"])
def test_both_ways_come_to_the_same(journal: list[records.Record], jobs: list[JobSpec]) -> None:
    begin: list[records.Record] = [
        records.NodeJoined(NodeSpec("n1", ("0", "1"))),
        records.Submitted(JOB, 1.0, jobs, [JobNo(1 + number) for number in range(len(jobs))]),
    ]
    assert story([*begin, *journal]) == story(one_by_one([*begin, *journal]))


def test_the_fast_way_is_taken() -> None:
    scheduler = Scheduler([NodeSpec("n1", ("0", "1"))])
    scheduler.replay_submitted([PLAIN], 1.0)
    (job,) = scheduler.jobs
    assert job.no == JOB
    assert scheduler.recovery.plain.sent(NodeNo(0), sent(0, 1, 2).tasks, 10.0)
    assert not scheduler.recovery.plain.sent(NodeNo(0), sent(2, 3).tasks, 10.0)
    assert scheduler.recovery.plain.succeeded(succeeded(0, 2).results)
    assert [job.tasks.state(pos).name for pos in range(4)] == ["SUCCEED", "SCHEDULED", "SUCCEED", "QUEUED"]
