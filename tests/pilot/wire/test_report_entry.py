"""Entries of jobs.report, whole."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.model.tasks import TaskRecord
from pilotfish.pilot.wire.report import ReportEntry, TaskLines, encode_json, encode_text, place_texts
from pilotfish.pilot.wire.runtime import Ran, encode_ended, texts

NOON = datetime(2026, 1, 2, 12, 0, 0).timestamp()
HISTORY = [(State.QUEUED, NOON), (State.SUCCEED, NOON + 1.25)]
RECORD = TaskRecord(State.FAILED, exit_code=-15, pid=7, started_s=NOON, ended_s=NOON + 1.25, cpu_s=0.5, max_rss_kib=9)
RAN = Ran(RECORD, "n[0]", "/ä", "e", "n", 1)


def test_json_of_a_whole_job() -> None:
    entry = ReportEntry(
        "j",
        State.SUCCEED,
        HISTORY,
        RAN,
        {"exec": "e"},
        {"numCores": {"exact": 1}},
        {"after": ["a"]},
        'x"',
    )
    assert encode_json(entry) == (
        b'{"name": "j","state": "SUCCEED","history": [{"state": "QUEUED","date": "2026-01-02T12:00:00"},'
        b'{"state": "SUCCEED","date": "2026-01-02T12:00:01.250000"}],"runtime": {"allocation": "n[0]",'
        b'"wd": "/\\u00e4","rtime": "0:00:01.250000","exit_code": "-15","pid": "7","pname": "e","node": "n","signal": "15",'
        b'"cpu_s": "0.500000","max_rss_kib": "9","attempts": "1"},'
        b'"execution": {"exec": "e"},"resources": {"numCores": {"exact": 1}},"dependencies": {"after": ["a"]},'
        b'"messages": "x\\""}\n'
    )


def test_json_of_an_iteration_has_no_description() -> None:
    entry = ReportEntry("j:0", State.OMITTED, [], None)
    assert encode_json(entry) == b'{"name": "j:0","state": "OMITTED","history": [],"runtime": {}}\n'


def test_text() -> None:
    entry = ReportEntry("j", State.SUCCEED, HISTORY, RAN, messages="why")
    assert encode_text(entry).decode() == (
        "j (SUCCEED) why\n\t2026-01-02 12:00:00: QUEUED\n\t2026-01-02 12:00:01.250000: SUCCEED\n"
        "\tallocation: n[0]\n\twd: /ä\n\trtime: 0:00:01.250000\n\texit_code: -15\n\tpid: 7\n\tpname: e\n\tnode: n\n"
        "\tsignal: 15\n\tcpu_s: 0.500000\n\tmax_rss_kib: 9\n\tattempts: 1\n"
    )


@pytest.mark.parametrize("exit_code", [0, -1, -9])
def test_the_runtime_is_the_same_as_text_and_as_json(exit_code: int) -> None:
    ran = RAN._replace(record=replace(RECORD, exit_code=exit_code))
    assert json.loads(encode_ended(ran)) == texts(ran)
    assert list(json.loads(encode_ended(ran))) == list(texts(ran))


def test_a_task_that_runs_has_no_end() -> None:
    ran = RAN._replace(record=replace(RECORD, state=State.EXECUTING))
    assert list(texts(ran)) == ["allocation", "wd", "pid", "pname", "node", "attempts"]


MOMENTS = st.floats(1.7e9, 1.7e9 + 300) | st.integers(1_700_000_000, 1_700_000_300).map(float)


@given(MOMENTS, MOMENTS, MOMENTS, st.sampled_from([State.SUCCEED, State.FAILED]), st.integers(0, 255))
@example(1.7e9 + 39.9999999, 1.7e9 + 39.9999999, 1.7e9 + 99.9999999, State.SUCCEED, 0)
def test_lines_of_tasks_that_differ_only_in_numbers_are_the_same_bytes(
    scheduled_s: float, started_s: float, ended_s: float, state: State, exit_code: int
) -> None:
    record = TaskRecord(state, 1, Cause.EXITED, exit_code, 77, scheduled_s, started_s, ended_s, 0.25, 4096)
    ran = Ran(record, 'n"1[0]', "/ä", "e", 'n"1', 1)
    history = [(State.SCHEDULED, scheduled_s), (State.EXECUTING, started_s), (state, ended_s)]
    lines = TaskLines("jö", "/ä", "e")
    line = lines.encode(
        12, state, (exit_code, 77, 1, 4096, 0.25, scheduled_s, started_s, ended_s, 0), place_texts('n"1[0]', 'n"1')
    )
    assert line.encode() == encode_json(ReportEntry("jö:12", state, history, ran))


@given(MOMENTS)
def test_a_date_is_what_the_library_says(time_s: float) -> None:
    (date,) = json.loads(encode_json(ReportEntry("j", State.SUCCEED, [(State.SUCCEED, time_s)], None)))["history"]
    assert date["date"] == datetime.fromtimestamp(time_s).isoformat()
