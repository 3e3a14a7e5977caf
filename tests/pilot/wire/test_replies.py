"""Replies as they stand on the wire."""

from __future__ import annotations

import re

import pytest

from pilotfish.pilot.model.errors import InvalidJobError, JobExistsError, UnknownJobError
from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire.legacy import NO_NAME, FormError
from pilotfish.pilot.wire.replies import allocation, error_reply, history, moment, ok, rtime


def test_absent_members_are_left_out() -> None:
    assert ok() == b'{"code":0}'
    assert ok("done") == b'{"code":0,"message":"done"}'
    assert ok(data={}) == b'{"code":0,"data":{}}'


def test_members_come_in_order() -> None:
    assert ok("1 jobs submitted", {"submitted": 1, "jobs": ["ä"]}) == (
        '{"code":0,"message":"1 jobs submitted","data":{"submitted":1,"jobs":["ä"]}}'.encode()
    )


def test_an_error_of_form_has_exactly_the_old_text_and_the_place_beside_it() -> None:
    assert error_reply(FormError(NO_NAME, where="jobs[0].name")) == (
        b'{"code":1,"message":"Invalid request: Missing name in job description",'
        b'"error":{"code":"invalid-request","where":"jobs[0].name","remedy":""}}'
    )


def test_an_error_of_a_description_has_the_place_in_its_text() -> None:
    error = InvalidJobError("2 is less than min 4", where="jobs[3].resources.numCores.max")
    assert error_reply(error) == (
        b'{"code":1,"message":"Wrong submit request: jobs[3].resources.numCores.max: 2 is less than min 4",'
        b'"error":{"code":"invalid-job","where":"jobs[3].resources.numCores.max","remedy":""}}'
    )


def test_other_errors_stand_for_themselves() -> None:
    error = JobExistsError("Job a already exist", where="jobs[1].name", remedy="choose another name")
    assert error_reply(error) == (
        b'{"code":1,"message":"Job a already exist",'
        b'"error":{"code":"job-exists","where":"jobs[1].name","remedy":"choose another name"}}'
    )
    assert b'"message":"Job \'a\' doesn\'t exist"' in error_reply(UnknownJobError("Job 'a' doesn't exist"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00:00.000000"),
        (1.234567, "0:00:01.234567"),
        (3600.0, "1:00:00.000000"),
        (59.9999999, "0:01:00.000000"),
        (86_401.5, "1 day, 0:00:01.500000"),
        (2 * 86_400.0, "2 days, 0:00:00.000000"),
        (-0.1, "0:00:00.000000"),
    ],
)
def test_rtime_always_has_the_fraction(seconds: float, text: str) -> None:
    assert rtime(seconds) == text


def test_a_moment_has_the_fraction_unless_it_is_0() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", moment(1.5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", moment(1.0))


def test_history_has_a_line_break_before_each_entry() -> None:
    entries = [(State.QUEUED, 1.5), (State.SUCCEED, 2.5)]
    assert history(entries) == f"\n{moment(1.5)}: QUEUED\n{moment(2.5)}: SUCCEED"
    assert history([]) == ""


def test_allocation_names_nodes_and_cores() -> None:
    assert allocation([("n1", ["0", "1"]), ("n2", ["0&40"])]) == "n1[0:1],n2[0&40]"
