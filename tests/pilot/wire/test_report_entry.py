"""Entries of jobs.report, whole."""

from __future__ import annotations

from datetime import datetime

from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire.report import ReportEntry, encode_json, encode_text

NOON = datetime(2026, 1, 2, 12, 0, 0).timestamp()
HISTORY = [(State.QUEUED, NOON), (State.SUCCEED, NOON + 1.25)]


def test_json_of_a_whole_job() -> None:
    entry = ReportEntry(
        "j",
        State.SUCCEED,
        HISTORY,
        {"rtime": "0:00:01.25"},
        {"exec": "e"},
        {"numCores": {"exact": 1}},
        {"after": ["a"]},
        'x"',
    )
    assert encode_json(entry) == (
        b'{"name": "j","state": "SUCCEED","history": [{"state": "QUEUED","date": "2026-01-02T12:00:00"},'
        b'{"state": "SUCCEED","date": "2026-01-02T12:00:01.250000"}],"runtime": {"rtime": "0:00:01.25"},'
        b'"execution": {"exec": "e"},"resources": {"numCores": {"exact": 1}},"dependencies": {"after": ["a"]},'
        b'"messages": "x\\""}\n'
    )


def test_json_of_an_iteration_has_no_description() -> None:
    entry = ReportEntry("j:0", State.OMITTED, [], {})
    assert encode_json(entry) == b'{"name": "j:0","state": "OMITTED","history": [],"runtime": {}}\n'


def test_text() -> None:
    entry = ReportEntry("j", State.SUCCEED, HISTORY, {"wd": "/w", "pid": "7"}, messages="why")
    assert encode_text(entry) == (
        b"j (SUCCEED) why\n\t2026-01-02T12:00:00: QUEUED\n\t2026-01-02T12:00:01.250000: SUCCEED\n\twd: /w\n\tpid: 7\n"
    )
