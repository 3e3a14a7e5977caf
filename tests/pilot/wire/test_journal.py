"""Journal bytes: what is written is read, a torn tail is seen, damage before the last record is an error."""

from __future__ import annotations

import io
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import JournalError
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import (
    Dependency,
    Execution,
    Iteration,
    IterationScheduler,
    JobSpec,
    Need,
    Resources,
    Size,
)
from pilotfish.pilot.model.resources import NamedResource, NodeSpec
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.wire import journal
from pilotfish.pilot.wire.journal import HEADER, Reader, TornTail, encode
from pilotfish.pilot.wire.records import (
    AgentDown,
    AgentExpected,
    AgentUp,
    Canceled,
    Closed,
    Compacted,
    Ended,
    NodeJoined,
    NodeLeft,
    Opened,
    PlacedPart,
    PlacedShare,
    Record,
    Removed,
    Result,
    Sent,
    Submitted,
    SubmittedPart,
    Succeeded,
    Successes,
    Taken,
)

FULL_JOB = JobSpec(
    name="j",
    execution=Execution(
        exec="e", args=("a", "ü"), env={"A": "1"}, wd="w", modules=("m",), model="m", model_opts={"k": [1, None]}
    ),
    resources=Resources(
        Need(Size(1, None), Size.exactly(2), 3, 1 << 40), 1.5, IterationScheduler("split-into", True, 4)
    ),
    iteration=Iteration(-2, 0, ("x", "y")),
    after=(Dependency("a"), Dependency("b", 3), Dependency("c", same_index=True)),
    attributes={"any": {"thing": 1}},
    priority=-1,
    retries=2,
)
KEY = TaskKey(JobNo(1), 0, 1)
RESULT = Result(
    JobNo(1),
    0,
    1,
    State.FAILED,
    Cause.EXITED,
    -9,
    77,
    1.0,
    2.0,
    3.0,
    0.5,
    1024,
    "why",
    (PlacedShare(NodeNo(0), "f", "0", (PlacedPart("nvme", 0, "3", 0), PlacedPart("licence", 2, "0", 0))),),
)
ONE_OF_EACH: list[Record] = [
    Opened("id", "epoch", 1.5),
    Submitted(JobNo(1), 2.0, [FULL_JOB, JobSpec("k", Execution(script="x"))]),
    Sent(NodeNo(0), 1.0, [KEY]),
    Ended([RESULT]),
    Succeeded(
        Successes(
            JobNo(1),
            1,
            1.0,
            [(PlacedShare(NodeNo(0), "1", "0"),), (PlacedShare(NodeNo(0), "2", "0"),)],
            [3, 5],
            [1, 0],
            [7, 8],
            [1.0, 2.0],
            [3.0, 4.0],
            [0.5, 0.0],
            [9, 10],
        )
    ),
    Taken([KEY]),
    Canceled(JobNo(1), None, 2.0),
    Canceled(JobNo(1), 3, 2.0),
    Removed([JobNo(1)]),
    NodeJoined(NodeSpec("n", ("0", "1&9"), ("0",), 1 << 40, bind=True)),
    NodeJoined(NodeSpec("m", ("0",), named=(NamedResource("nvme", ("0", "1")), NamedResource("x", (), 9, True)))),
    NodeLeft(NodeNo(0), 3.0),
    AgentExpected(NodeNo(0), "a"),
    AgentUp(NodeNo(0), "n", "a", "h", 5, ["0&4"]),
    AgentDown(NodeNo(0), "a"),
    Submitted(JobNo(3), 2.0, [FULL_JOB], [JobNo(7)]),
    Compacted(JobNo(8), None),
    Closed(9.0, True),
]


def written(records: list[Record]) -> bytes:
    return HEADER + b"".join(map(encode, records))


def read(data: bytes) -> tuple[list[Record], int, TornTail | None]:
    reader = Reader(io.BytesIO(data), "J")
    records = list(reader)
    return records, reader.end, reader.torn


def test_every_record_comes_back_as_it_was() -> None:
    data = written(ONE_OF_EACH)
    assert read(data) == (ONE_OF_EACH, len(data), None)


def test_cut_at_any_byte_the_whole_records_before_it_remain_and_the_rest_is_reported() -> None:
    records: list[Record] = [Opened("id", "e", 1.0), Sent(NodeNo(0), 1.0, [KEY]), Ended([RESULT])]
    ends = [len(written(records[:count])) for count in range(len(records) + 1)]
    for cut in range(len(written(records)) + 1):
        kept = sum(end <= cut for end in ends[1:])
        end = ends[kept] if cut >= len(HEADER) else 0
        torn = TornTail(end, cut - end) if cut > end else None
        assert read(written(records)[:cut]) == (records[:kept], end, torn)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(ONE_OF_EACH), max_size=5), st.binary(max_size=60))
def test_any_bytes_after_the_records_are_a_torn_tail(records: list[Record], noise: bytes) -> None:
    data = written(records)
    assert read(data + noise) == (records, len(data), TornTail(len(data), len(noise)) if noise else None)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_torn_tail_in_the_last_record_and_an_error_before_it(data: st.DataObject) -> None:
    records: list[Record] = [Opened("id", "e", 1.0), Sent(NodeNo(0), 1.0, [KEY]), Ended([RESULT])]
    whole = bytearray(written(records))
    last = len(written(records[:-1]))
    at = data.draw(st.integers(len(HEADER), len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    if at >= last:
        assert read(bytes(whole)) == (records[:-1], last, TornTail(last, len(whole) - last))
    else:
        begin = len(HEADER) if at < len(written(records[:1])) else len(written(records[:1]))
        with pytest.raises(JournalError) as caught:
            read(bytes(whole))
        assert caught.value.where == f"J at byte {begin}"


def test_a_damaged_length_is_not_believed() -> None:
    record = encode(Closed(1.0, False))
    huge = record[:4] + b"\xff\xff\xff\xff" + record[8:]
    assert read(HEADER + huge)[2] == TornTail(len(HEADER), len(huge))


def test_zeros_after_a_crash_of_the_machine_are_a_torn_tail() -> None:
    data = written(ONE_OF_EACH[:1])
    assert read(data + bytes(4096)) == (ONE_OF_EACH[:1], len(data), TornTail(len(data), 4096))


def test_another_version_and_another_file_are_told_apart() -> None:
    with pytest.raises(JournalError, match="version 9, this Pilotfish knows 8"):
        read(HEADER[:-2] + b"\x09\x00")
    with pytest.raises(JournalError, match="not a Pilotfish journal"):
        read(b"#!/bin/sh\n" * 5)


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x04\x00", b"\x05\x00", b"\x06\x00", b"\x07\x00"])
def test_a_journal_of_a_version_before_is_read(version: bytes) -> None:
    """It lacks a kind of record; the others are what they were."""
    assert read(HEADER[:-2] + version + encode(ONE_OF_EACH[0])) == (
        ONE_OF_EACH[:1],
        len(HEADER) + len(encode(ONE_OF_EACH[0])),
        None,
    )


def test_a_whole_record_of_an_unknown_kind_is_an_error() -> None:
    strange = journal._encoder.encode(["Nonsense", 1])
    head = journal._HEAD.pack(journal._MARK, len(strange), crc32(strange, crc32(journal._LENGTH.pack(len(strange)))))
    with pytest.raises(JournalError, match="cannot be read"):
        read(HEADER + head + strange)


def part(place: int, *names: str, of: int = 7) -> SubmittedPart:
    return SubmittedPart(of, place, [JobSpec(name, Execution("true")) for name in names])


def whole(parts: int, *names: str, of: int = 7) -> Submitted:
    return Submitted(JobNo(3), 1.0, [JobSpec(name, Execution("true")) for name in names], None, of, parts)


def names_read(*records: Record) -> tuple[list[list[str]], list[str]]:
    """The jobs of each submit that was read, and what was left out."""
    reader = Reader(io.BytesIO(written(list(records))), "J")
    submits = [record for record in reader if isinstance(record, Submitted)]
    return [[spec.name for spec in submit.jobs] for submit in submits], reader.senseless


def test_a_submit_that_was_written_in_parts_is_one_record() -> None:
    """Other submits, in parts or not, may stand between its parts."""
    records = (
        part(0, "a"),
        part(0, "x", of=8),
        part(1, "b"),
        whole(0, "small", of=0),
        whole(1, "y", of=8),
        whole(2, "c"),
    )
    assert names_read(*records) == ([["small"], ["x", "y"], ["a", "b", "c"]], [])


def test_a_submit_whose_last_record_is_missing_was_never_accepted() -> None:
    """The life that was killed over it leaves parts of a number that the next life uses again."""
    assert names_read(part(0, "a"), part(1, "b"), part(0, "c"), whole(1, "d")) == ([["c", "d"]], [])
    assert names_read(part(0, "a"), part(1, "b")) == ([], [])


def test_a_submit_of_which_a_part_is_lost_is_left_out_whole() -> None:
    """Its jobs would have the numbers of others."""
    submits, left_out = names_read(part(0, "a"), part(2, "c"), whole(3, "d"))
    assert submits == []
    assert "some of its 3 parts are not there" in left_out[0]
