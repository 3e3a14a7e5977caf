"""A record that cannot be true costs what it says: never the resume, and never what other records say."""

from __future__ import annotations

import io
import math
import random
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from pilotfish.pilot.manager.compacting import compact
from pilotfish.pilot.manager.job_info import Views
from pilotfish.pilot.manager.resume import Replayed, replay
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model import invariants
from pilotfish.pilot.model.decisions import Changes, each_change
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Dependency, Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import PARTS, NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.model.steps import finish
from pilotfish.pilot.wire import journal, records
from pilotfish.pilot.wire.records import PlacedPart, PlacedShare, Record, Result, Successes
from pilotfish.pilot.wire.report import encode_json


def spec(name: str, count: int | None = None, after: str = "") -> JobSpec:
    iteration = None if count is None else Iteration(0, count)
    return JobSpec(name, Execution(exec="true"), iteration=iteration, after=(Dependency(after),) if after else ())


def key(job_no: int, pos: int = 0, run: int = 1) -> TaskKey:
    return TaskKey(JobNo(job_no), pos, run)


def result(of: TaskKey, state: State = State.SUCCEED, exit_code: int = 0, **other: Any) -> Result:
    share = PlacedShare(NodeNo(1), "2", "0")
    ended = Result(*of, state, Cause.EXITED, exit_code, 77, 1e9, 1e9 + 1, 1e9 + 2, 0.5, 1024, "", (share,))
    return ended._replace(**other)


def successes(job_no: int, *positions: int) -> Successes:
    places: list[tuple[PlacedShare, ...]] = [(PlacedShare(NodeNo(1), "1", "0"),), (PlacedShare(NodeNo(1), "2", "0"),)]
    count = len(positions)
    times = [1e9 + 1] * count, [1e9 + 2] * count
    columns = list(positions), [pos % 2 for pos in positions], [77] * count, *times, [0.5] * count, [1024] * count
    return Successes(JobNo(job_no), 1, 1e9, places, *columns)


ALL: list[Record] = [
    records.Opened("id", "epoch", 1e9),
    records.NodeJoined(NodeSpec("n0", ("0", "1"))),
    records.NodeJoined(NodeSpec("n1", ("0", "1"), ("0",), 1 << 30)),
    records.AgentUp(NodeNo(0), "n0", "n0-a", "h", 5, ["7", "8"]),
    records.AgentUp(NodeNo(1), "n1", "n1-a", "h", 6),
    records.Submitted(JobNo(1), 1e9, [spec("a"), spec("b", 5, after="a"), spec("c", 3)]),
    records.Sent(NodeNo(0), 1e9, [key(1), key(3, 0), key(3, 1)]),
    records.Ended([result(key(1)), result(key(3, 0), State.FAILED, 9)]),
    records.Sent(NodeNo(1), 1e9, [key(2, pos) for pos in range(4)]),
    records.Taken([key(2, 3)]),
    records.Submitted(JobNo(4), 1e9, [spec("d")]),
    records.Canceled(JobNo(4), None, 1e9),
    records.Removed([JobNo(4)]),
    records.AgentDown(NodeNo(0), "n0-a"),
    records.Ended([result(key(3, 1), State.QUEUED, -1, cause=Cause.LOST)]),
    records.Sent(NodeNo(1), 1e9, [key(3, 1, 2)]),
    records.Ended([result(key(2, 0)), result(key(2, 1), State.FAILED, -9, message="killed")]),
    records.Canceled(JobNo(3), 2, 1e9),
    records.NodeLeft(NodeNo(0), 1e9),
    records.NodeJoined(NodeSpec("n2", ("0",))),
    records.Submitted(JobNo(5), 1e9, [spec("e", after="c")]),
    records.Sent(NodeNo(1), 1e9, [key(2, 4)]),
    records.Submitted(JobNo(6), 1e9, [spec("f", 4)]),
    records.Sent(NodeNo(1), 1e9, [key(6, pos) for pos in range(4)]),
    records.Succeeded(successes(6, 0, 1, 3)),
    records.Closed(1e9, True),
]


def resumed(data: bytes) -> tuple[Scheduler, Replayed, list[str]]:
    """What a manager makes of a journal: its state, its report, and all that can be asked about it."""
    scheduler = Scheduler()
    views = Views(scheduler, Path("/wd"))

    def report(changes: list[Changes]) -> None:
        for change in each_change(changes):
            if change.state.final:
                encode_json(views.report_entry(change))

    reader = journal.Reader(io.BytesIO(data), "J")
    replayed = replay(reader, scheduler, report, lambda size: None)
    invariants.check(scheduler)
    for job in scheduler.jobs:
        views.info(job, None, job.spec.name)
        if job.is_iteration:
            finish(views.children(job, 0, job.spec.task_count))
    return scheduler, replayed, reader.senseless


def as_bytes(body: bytes) -> bytes:
    length = journal._LENGTH.pack(len(body))
    return journal._HEAD.pack(journal._MARK, len(body), crc32(body, crc32(length))) + body


def written(all_records: list[Record]) -> bytes:
    return journal.HEADER + b"".join(map(journal.encode, all_records))


def states(scheduler: Scheduler, name: str) -> list[str]:
    job = scheduler.jobs.get(name)
    return [job.tasks.state(pos).name for pos in range(job.spec.task_count)]


ODD_NUMBERS: dict[str, dict[str, Any]] = {
    "in the year 10^292": {"ended_s": 1e300},
    "at no time": {"started_s": math.nan},
    "never": {"scheduled_s": math.inf},
    "before all time": {"ended_s": -1.0},
    "large exit code": {"exit_code": 2**62},
    "large process": {"pid": 2**40},
    "too much memory": {"max_rss_kib": 2**64 - 1},
    "endless computing": {"cpu_s": math.inf},
    "on a node that is not there": {"shares": (PlacedShare(NodeNo(9), "1", "0"),)},
    "on cores that are not there": {"shares": (PlacedShare(NodeNo(0), "ff", "0"),)},
    "on no cores": {"shares": (PlacedShare(NodeNo(0), "x", "0"),)},
    "with things of no name": {"shares": (PlacedShare(NodeNo(0), "1", "0", (PlacedPart("NO", 1, "0", 0),)),)},
    "with more than the whole": {"shares": (PlacedShare(NodeNo(0), "1", "0", (PlacedPart("x", 0, "1", PARTS),)),)},
}


@pytest.mark.parametrize("odd", ODD_NUMBERS)
def test_an_end_with_numbers_that_cannot_be_is_an_end(odd: str) -> None:
    """Clients have been told of it: the task does not run again."""
    changed = result(key(3, 0), State.FAILED, 9)._replace(**ODD_NUMBERS[odd])
    scheduler, replayed, _ = resumed(written([*ALL[:7], records.Ended([result(key(1)), changed]), *ALL[8:]]))
    assert (states(scheduler, "c")[0], states(scheduler, "a"), replayed.left_out) == ("FAILED", ["SUCCEED"], 1)


BEFORE_COLUMNS, COLUMNS = ALL[:-2], successes(6, 0, 1, 3)
SUCCEEDED_ALL_BUT_ONE = ["SUCCEED", "SUCCEED", "SCHEDULED", "SUCCEED"]


ODD_COLUMNS: dict[str, dict[str, Any]] = {
    "ended in the year 10^292": {"ended_s": [1e300, 1e9, 1e9]},
    "started at no time": {"started_s": [1e9, math.nan, 1e9]},
    "sent never": {"scheduled_s": math.inf},
    "large process": {"pid": [2**40, 5, 5]},
    "too much memory": {"max_rss_kib": [2**64 - 1, 5, 5]},
    "endless computing": {"cpu_s": [math.inf, 0.5, 0.5]},
    "on a node that is not there": {"places": [(PlacedShare(NodeNo(9), "1", "0"),)] * 2},
    "on cores that are not there": {"places": [(PlacedShare(NodeNo(1), "ff", "0"),)] * 2},
}


@pytest.mark.parametrize("odd", ODD_COLUMNS)
def test_an_end_in_columns_with_numbers_that_cannot_be_is_an_end(odd: str) -> None:
    changed = records.Succeeded(COLUMNS._replace(**ODD_COLUMNS[odd]))
    scheduler, replayed, _ = resumed(written([*BEFORE_COLUMNS, changed]))
    assert states(scheduler, "f") == SUCCEEDED_ALL_BUT_ONE
    assert replayed.left_out >= 1


@pytest.mark.parametrize(
    "changed",
    [{"pos": [0, 1]}, {"pid": [77] * 4}, {"place": [0, 1, 2]}, {"place": [0, 1, -1]}, {"places": []}, {"cpu_s": []}],
    ids=str,
)
def test_columns_that_do_not_belong_together_are_left_out(changed: dict[str, Any]) -> None:
    """Nobody can know which end is whose; the tasks are asked for again."""
    scheduler, replayed, _ = resumed(written([*BEFORE_COLUMNS, records.Succeeded(COLUMNS._replace(**changed))]))
    assert (states(scheduler, "f"), replayed.left_out) == (["SCHEDULED"] * 4, 1)


@pytest.mark.parametrize("number", range(1, len(ALL)), ids=lambda number: f"{number}-{type(ALL[number]).__name__}")
def test_a_record_that_is_there_twice_counts_once(number: int) -> None:
    once, _, _ = resumed(written(ALL))
    twice, _, _ = resumed(written([*ALL[: number + 1], *ALL[number:]]))
    for name in "abcef":
        assert states(twice, name) == states(once, name)
    assert [spec.name for spec in twice.nodes.specs] == [spec.name for spec in once.nodes.specs]


def test_a_record_with_values_of_another_kind_is_left_out_and_named(tmp_path: Path) -> None:
    body = msgspec.msgpack.encode(["Sent", "node", [], {}])
    data = written(ALL[:7]) + as_bytes(body) + b"".join(map(journal.encode, ALL[7:]))
    scheduler, _, senseless = resumed(data)
    assert states(scheduler, "a") == ["SUCCEED"]
    assert [reason.split(" at byte")[0] for reason in senseless] == ["Sent"]


def test_a_node_that_makes_no_sense_keeps_its_number() -> None:
    """What ran on the nodes behind it is told by theirs."""
    body = msgspec.msgpack.encode(["NodeJoined", 5])
    data = written(ALL[:1]) + as_bytes(body) + b"".join(map(journal.encode, ALL[2:]))
    scheduler, _, _ = resumed(data)
    assert [spec.name for spec in scheduler.nodes.specs] == ["", "n1", "n2"]
    assert NodeNo(0) not in scheduler.nodes.here


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    7,
    65536,
    2**31,
    2**53,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    math.nan,
    math.inf,
]
ODD += [-math.inf, 1e300, "", "x", "ü" * 300, "0", [], [0], [[1, 0, 1]], {}, {"a": 1}, b"\xff"]


def mutated(value: Any, chance: random.Random) -> Any:
    """The value with one thing in it changed."""
    if isinstance(value, (list, tuple)) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        choice = chance.random()
        if choice < 0.05:
            return [*value[:place], *value[place + 1 :]]
        if choice < 0.1:
            return [*value, value[place]]
        return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        return {**value, name: mutated(value[name], chance)}
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1)) if abs(value) < 2**60 else 0
    return chance.choice(ODD)


def change_some(chance: random.Random) -> bytes:
    """The journal with a few records changed, doubled, dropped or moved."""
    bodies = [msgspec.msgpack.decode(msgspec.msgpack.encode(record)) for record in ALL]
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(1, len(bodies))
        choice = chance.random()
        if choice < 0.7:
            # What a job is was checked when it was submitted, and nobody else writes it.
            field = (
                chance.choice((1, 2)) if bodies[place][0] == "Submitted" else chance.randrange(1, len(bodies[place]))
            )
            bodies[place][field] = mutated(bodies[place][field], chance)
        elif choice < 0.8:
            bodies.insert(chance.randrange(1, len(bodies)), bodies[place])
        elif choice < 0.9:
            del bodies[place]
        else:
            bodies.insert(chance.randrange(1, len(bodies)), bodies.pop(place))
    return journal.HEADER + b"".join(as_bytes(msgspec.msgpack.encode(body)) for body in bodies)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_changed_the_pilot_can_be_resumed(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        scheduler, _, _ = resumed(change_some(chance))
        scheduler.on_node_joined(NodeSpec("new", ("0",)))
        scheduler.submit([spec("new")], 2e9)
        scheduler.plan(2e9)


def test_what_was_left_out_does_not_hinder_a_compaction(tmp_path: Path) -> None:
    chance = random.Random(1)
    for number in range(15):
        path = tmp_path / f"j{number}"
        path.touch(mode=0o600)
        path.write_bytes(change_some(chance))
        store, scheduler = Store.open(path), Scheduler()
        replay(store.replay(), scheduler, lambda changes: None, lambda size: None)
        store.sync()
        compact(store, None, scheduler.jobs)
        store.close()
        again, _, _ = resumed(path.read_bytes())
        assert [job.spec.name for job in again.jobs] == [job.spec.name for job in scheduler.jobs]
