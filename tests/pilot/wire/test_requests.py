"""Whatever bytes come in, a request comes out or an error that can be answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import PilotfishError
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.wire import requests
from pilotfish.pilot.wire.legacy import wire_message
from pilotfish.pilot.wire.records import Submitted
from pilotfish.pilot.wire.reply_bytes import error_reply
from pilotfish.pilot.wire.requests import from_value, parse, submit_variables

PLAIN = {"name": "j", "execution": {"exec": "x"}}


def variables() -> Mapping[str, str]:
    return submit_variables(3, "u-1", "2026-01-02 03:04:05.000006")


def parsed(name: str, **members: Any) -> requests.Request:
    return parse(json.dumps({"request": name, **members}).encode(), variables)


def message_of(body: bytes) -> str:
    with pytest.raises(PilotfishError) as caught:
        parse(body, variables)
    return wire_message(caught.value)


@pytest.mark.parametrize(
    ("name", "members", "request_"),
    [
        ("jobStatus", {"jobNames": ["a", 5]}, requests.JobStatus(["a", 5])),
        ("jobInfo", {"jobNames": ["a"]}, requests.JobInfo(["a"], False)),
        ("jobInfo", {"jobNames": ["a"], "params": {"withChilds": 1}}, requests.JobInfo(["a"], True)),
        ("jobInfo", {"jobNames": ["a"], "params": None}, requests.JobInfo(["a"], False)),
        ("listJobs", {"unknown": 1}, requests.ListJobs()),
        ("cancelJob", {"jobNames": ["a:1"]}, requests.CancelJob(["a:1"])),
        ("removeJob", {"jobNames": ["a"]}, requests.RemoveJob(["a"])),
        ("resourcesInfo", {}, requests.ResourcesInfo()),
        ("status", {}, requests.Status(False)),
        ("status", {"options": {"allJobsFinished": "yes"}}, requests.Status(True)),
        ("control", {"command": "finishAfterAllTasksDone"}, requests.Control("finishAfterAllTasksDone")),
        ("finish", {}, requests.Finish(False, 2.0)),
        ("finish", {"options": {"kill": True, "delay": 0}}, requests.Finish(True, 0.0)),
        ("finish", {"options": None}, requests.Finish(False, 2.0)),
        ("jobInfo", {"jobNames": ["a"], "params": []}, requests.JobInfo(["a"], False)),
        ("events", {}, requests.Events(0)),
        ("events", {"after": 17}, requests.Events(17)),
        (
            "register",
            {"entity": "manager", "params": {"id": 1, "address": 2, "resources": 3}},
            requests.Register({"id": 1, "address": 2, "resources": 3}),
        ),
        (
            "notify",
            {"entity": "job", "params": {"name": 1, "state": 2, "attributes": 3}},
            requests.Notify({"name": 1, "state": 2, "attributes": 3}),
        ),
    ],
)
def test_requests(name: str, members: dict[str, Any], request_: requests.Request) -> None:
    assert parsed(name, **members) == request_


def test_a_submit_has_its_variables_filled_in() -> None:
    request = parsed("submit", jobs=[{**PLAIN, "name": "j$rcnt"}])
    assert isinstance(request, requests.Submit)
    assert [spec.name for spec in request.jobs] == ["j3"]


def test_an_escaped_dollar_is_a_dollar() -> None:
    body = b'{"request": "submit", "jobs": [{"name": "j\\u0024rcnt", "execution": {"exec": "x"}}]}'
    request = parse(body, variables)
    assert isinstance(request, requests.Submit)
    assert request.jobs[0].name == "j3"


@pytest.mark.parametrize(("jobs", "calls"), [([PLAIN], 1), ([{}], 1), ([], 0), ("a", 0)])
def test_a_submit_is_counted_when_it_has_jobs(jobs: object, calls: int) -> None:
    counted = []

    def count() -> Mapping[str, str]:
        counted.append(1)
        return variables()

    try:
        from_value({"request": "submit", "jobs": jobs}, count)
    except PilotfishError:
        pass
    assert len(counted) == calls


def test_submit_variables() -> None:
    now = "2026-01-02 03:04:05.000006"
    assert variables() == {
        "rcnt": "3",
        "uniq": "u-1",
        "sname": "local",
        "date": now,
        "dateTime": now,
        "time": "00:00:00",
    }


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"1", b'"a"', b'{"request": null}', b'{"request": ""}'])
def test_what_is_no_request(body: bytes) -> None:
    assert message_of(body) == "Invalid request: Invalid request"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"request": "resourceInfo"}, "Unknown request name: resourceInfo"),
        ({"request": "Submit"}, "Unknown request name: Submit"),
        ({"request": ["submit"]}, "Unknown request name: ['submit']"),
        ({"request": "submit"}, "Wrong submit request - missing jobs data"),
        ({"request": "submit", "jobs": {}}, "Wrong submit request - missing jobs data"),
        ({"request": "jobStatus"}, "Wrong job status request - missing job names"),
        ({"request": "jobStatus", "jobNames": "a"}, "Wrong job status request - missing job names"),
        ({"request": "jobInfo", "jobNames": []}, "Wrong job info request - missing job names"),
        (
            {"request": "jobInfo", "jobNames": ["a"], "params": 5},
            "params: 5 is not an object",
        ),
        ({"request": "cancelJob"}, "Wrong cancel job request - missing job names"),
        ({"request": "removeJob"}, "Wrong remove job request - missing job names"),
        ({"request": "status", "options": [1]}, "options: [1] is not an object"),
        ({"request": "status", "options": []}, "options: [] is not an object"),
        ({"request": "finish", "options": False}, "options: false is not an object"),
        ({"request": "control"}, "Wrong control request - missing command"),
        ({"request": "control", "command": 5}, "Wrong control request - missing command"),
        ({"request": "control", "command": "X"}, 'Wrong control request - unknown command "X"'),
        (
            {"request": "finish", "options": {"delay": 1e300}},
            "options.delay: 1e+300 is not a number of seconds; write 2 or 0.5",
        ),
        (
            {"request": "finish", "options": {"delay": True}},
            "options.delay: true is not a number of seconds; write 2 or 0.5",
        ),
        ({"request": "events", "after": "1"}, 'after: "1" is not an event number'),
        ({"request": "register"}, "Wrong register request - missing/unknown entity"),
        ({"request": "register", "entity": "manager"}, "Wrong register request - missing register parameters"),
        (
            {"request": "register", "entity": "manager", "params": {}},
            "Wrong register request - missing key register parameters",
        ),
        ({"request": "notify"}, "Wrong notify request - missing/unknown entity"),
        ({"request": "notify", "entity": "job"}, "Wrong notify request - missing register parameters"),
        ({"request": "notify", "entity": "job", "params": {}}, "Wrong notify request - missing key notify parameters"),
    ],
)
def test_errors_of_form(value: dict[str, Any], message: str) -> None:
    assert message_of(json.dumps(value).encode()) == f"Invalid request: {message}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "this JSON cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (b'{"request":\n"status",}', "this JSON cannot be read: "),
        (b"1 2", "this JSON cannot be read: Extra data: line 1 column 3 (char 2)"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8 text"),
        (b"[" * 100_000, "this JSON cannot be read: "),
        (b"1" * 5000, "this JSON cannot be read: "),
        (b'{"a": 18446744073709551616}', "it contains a number of more than 64 bits"),
        (b'{"a": "\\ud800"}', "it contains a lone surrogate"),
    ],
)
def test_what_cannot_be_read_or_kept(body: bytes, message: str) -> None:
    assert message_of(body).startswith(f"Invalid request: {message}")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_beyond_strict_json(number: bytes) -> None:
    assert parse(b' {"request": "status", "a": 1, "a": ' + number + b"} ", variables) == requests.Status(False)


@pytest.mark.parametrize("depth", [50, 300, 400, 500, 700, 850, 900])
@pytest.mark.parametrize("member", ["name", "args", "env", "resources", "attributes", "after", "values"])
@pytest.mark.parametrize("dollar", ["", "$"])
def test_nesting_is_an_error_or_can_be_kept(depth: int, member: str, dollar: str) -> None:
    deep = "[" * depth + f'"{dollar}"' + "]" * depth
    members = {
        "name": f'"name": {deep}, "execution": {{"exec": "x"}}',
        "args": f'"name": "j", "execution": {{"exec": "x", "args": [{deep}]}}',
        "env": f'"name": "j", "execution": {{"exec": "x", "env": {{"A": {deep}}}}}',
        "resources": f'"name": "j", "execution": {{"exec": "x"}}, "resources": {{"numCores": {deep}}}',
        "attributes": f'"name": "j", "execution": {{"exec": "x"}}, "attributes": {{"a": {deep}}}',
        "after": f'"name": "j", "execution": {{"exec": "x"}}, "dependencies": {{"after": [{deep}]}}',
        "values": f'"name": "j", "execution": {{"exec": "x"}}, "iteration": {{"values": [{deep}]}}',
    }
    must_be_answerable(f'{{"request": "submit", "jobs": [{{{members[member]}}}]}}'.encode())


def must_be_answerable(body: bytes) -> None:
    """`body` becomes a request that the journal can hold, or an error that can be sent."""
    try:
        request = parse(body, variables)
    except PilotfishError as error:
        error_reply(error)
        return
    if isinstance(request, requests.Submit):
        msgspec.msgpack.encode(Submitted(JobNo(1), 0.0, request.jobs))


@given(st.binary(max_size=40))
def test_any_bytes(body: bytes) -> None:
    must_be_answerable(body)


texts = st.text(alphabet='ab:$\0"é', max_size=5)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.sampled_from(["$it", "a:1", "2G", "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@given(
    st.sampled_from(
        ["submit", "jobStatus", "jobInfo", "status", "control", "finish", "events", "register", "notify", "listJobs"]
    ),
    st.dictionaries(
        st.sampled_from(["jobs", "jobNames", "params", "options", "command", "entity", "after"]), values, max_size=3
    ),
)
def test_any_members(name: str, members: dict[str, Any]) -> None:
    must_be_answerable(json.dumps({"request": name, **members}).encode())


@given(
    st.fixed_dictionaries(
        {
            "name": st.one_of(st.just("j"), values),
            "execution": st.one_of(
                st.dictionaries(
                    st.sampled_from(["exec", "script", "args", "env", "wd", "modules", "model", "model_opts"]), values
                ),
                values,
            ),
        },
        optional={
            "resources": st.dictionaries(
                st.sampled_from(["numCores", "numNodes", "wt", "nodeCrs", "mem"]),
                st.one_of(values, st.dictionaries(st.sampled_from(["min", "max", "exact", "scheduler"]), values)),
            ),
            "iteration": st.dictionaries(st.sampled_from(["start", "stop", "values"]), values),
            "dependencies": st.fixed_dictionaries({"after": values}),
            "attributes": values,
            "priority": values,
            "retries": values,
        },
    )
)
def test_any_description(raw: dict[str, Any]) -> None:
    must_be_answerable(json.dumps({"request": "submit", "jobs": [raw]}).encode())
