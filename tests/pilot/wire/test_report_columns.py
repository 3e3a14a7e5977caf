"""The report in columns: what goes in comes out."""

from __future__ import annotations

import pytest

from pilotfish.pilot.model.ids import JobNo, NodeNo
from pilotfish.pilot.model.results import PlacedShare, Successes
from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire.report_columns import (
    HEADER,
    EndedTask,
    Ends,
    PlaceLine,
    decode,
    of_place,
    of_successes,
    of_tasks,
)

SHARES = (PlacedShare(NodeNo(0), "1", "0"),)


def test_successes_of_one_turn_are_one_line() -> None:
    ends = Successes(
        JobNo(3), 1, 100.5, [SHARES], [4, 6], [0, 0], [11, 12], [101.0, 101.5], [101.25, 102.0], [0.5, 0.25], [10, 20]
    )
    line = of_successes("sweep", 10, ends, [7])
    batch = decode(line)
    assert isinstance(batch, Ends)
    assert line.startswith(b'{"job":"sweep","index":[14,16],"place":[7,7],"since_s":100.5,')
    assert (batch.names(), batch.pid, batch.column(batch.state)) == (
        ["sweep:14", "sweep:16"],
        [11, 12],
        ["SUCCEED"] * 2,
    )
    assert (batch.started_us, batch.took_us) == ([500_000, 1_000_000], [250_000, 500_000])
    assert (batch.cpu_us, batch.max_rss_kib) == ([500_000, 250_000], [10, 20])


def ended(name: str, state: State, code: int, reason: str = "", of_job: int | None = None) -> EndedTask:
    return EndedTask(name, of_job, state, code, 9, 2, 30, 0.5, 100.0, 100.5, 101.0, 1, reason)


def test_what_is_equal_is_said_once() -> None:
    batch = decode(of_tasks(None, [ended("a", State.FAILED, 3), ended("b", State.FAILED, 4, "out of memory")]))
    assert isinstance(batch, Ends)
    assert (batch.names(), batch.state, batch.attempts) == (["a", "b"], "FAILED", 1)
    assert (batch.exit_code, batch.reason) == ([3, 4], ["", "out of memory"])
    assert decode(of_tasks("j", [ended("j:5", State.FAILED, 3, of_job=5)])) == Ends(
        job="j",
        index=[5],
        place=[2],
        since_s=100.0,
        started_us=[500_000],
        took_us=[500_000],
        pid=[9],
        cpu_us=[500_000],
        max_rss_kib=[30],
        state="FAILED",
        exit_code=3,
    )


def test_the_other_lines() -> None:
    assert decode(HEADER) is None
    assert decode(of_place(3, "n1", "n1[0:1]")) == PlaceLine(3, "n1", "n1[0:1]")


@pytest.mark.parametrize(
    "line",
    [
        b'{"job":"a","index":[1,',
        b'{"job":"a","index":[1,2],"place":[1],"since_s":0,"started_us":[1],"took_us":[1],"pid":[1],"cpu_us":[1],'
        b'"max_rss_kib":[1]}\n',
        b'{"place":1,"no',
    ],
)
def test_a_line_that_is_torn_or_makes_no_sense_is_no_line(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)
