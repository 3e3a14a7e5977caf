"""Replies as they stand on the wire."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import chain

import msgspec
import pytest
from msgspec import Struct

from pilotfish.pilot.model.errors import InvalidJobError, JobExistsError, SplitToZeroError, UnknownJobError
from pilotfish.pilot.model.states import State
from pilotfish.pilot.model.steps import Steps
from pilotfish.pilot.wire import reply_bytes
from pilotfish.pilot.wire.events import Event
from pilotfish.pilot.wire.legacy import NO_NAME, FormError, wire_message
from pilotfish.pilot.wire.replies import (
    AllFinished,
    Canceled,
    Entries,
    Entry,
    Envelope,
    EventList,
    FinishTime,
    IterationInfo,
    Iterations,
    JobCounts,
    JobInfo,
    JobList,
    JobStatus,
    ListedJob,
    NodeCounts,
    Removed,
    Resources,
    Runtime,
    Status,
    Submitted,
    System,
    TaskCounts,
)
from pilotfish.pilot.wire.reply_bytes import error_reply, ok
from pilotfish.pilot.wire.reply_texts import (
    allocation,
    history,
    moment,
    parse_allocation,
    parse_history,
    parse_rtime,
    rtime,
)


def test_absent_members_are_left_out() -> None:
    assert ok() == b'{"code":0}'
    assert ok("done") == b'{"code":0,"message":"done"}'


def test_members_come_in_order() -> None:
    assert ok("1 jobs submitted", Submitted(1, ["ä"])) == (
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


def test_a_share_of_nothing_has_the_old_text_and_the_numbers() -> None:
    error = SplitToZeroError("split-into leaves nothing for a part", remedy="there are 2 for 3 parts")
    assert wire_message(error) == "Wrong submit request - split-into resolved to zero: there are 2 for 3 parts"


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
    assert parse_rtime(text) == timedelta(seconds=max(0.0, round(seconds, 6)))


def test_a_moment_has_the_fraction_unless_it_is_0() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", moment(1.5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", moment(1.0))


def test_history_has_a_line_break_before_each_entry() -> None:
    entries = [(State.QUEUED, 1.5), (State.SUCCEED, 2.5)]
    assert history(entries) == f"\n{moment(1.5)}: QUEUED\n{moment(2.5)}: SUCCEED"
    assert [(time.timestamp(), state) for time, state in parse_history(history(entries))] == [
        (1.5, "QUEUED"),
        (2.5, "SUCCEED"),
    ]
    assert history([]) == ""


def test_allocation_names_nodes_and_cores() -> None:
    parts = [("n1", ["0", "1"]), ("n2", ["0&40"])]
    assert allocation(parts) == "n1[0:1],n2[0&40]"
    assert parse_allocation(allocation(parts)) == parts


_RAN = '{"allocation":"n0[0]","wd":"/w","rtime":"0:00:01.000000","exit_code":"0","pid":"7","pname":"sh","node":"n0"'
_COUNTS = (3, 1, 0, 1, 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            Entries({"a": Entry(0, data=JobStatus("a", "QUEUED"))}),
            '{"jobs":{"a":{"status":0,"data":{"jobName":"a","status":"QUEUED"}}}}',
        ),
        (
            Entries({"a:9": Entry(1, "Job a has no iteration 9")}),
            '{"jobs":{"a:9":{"status":1,"message":"Job a has no iteration 9"}}}',
        ),
        (
            JobList(2, {"a": ListedJob("QUEUED", in_queue=0), "b": ListedJob("FAILED", "no such program")}),
            '{"length":2,"jobs":{"a":{"status":"QUEUED","inQueue":0},"b":{"status":"FAILED","messages":"no such program"}}}',
        ),
        (
            JobInfo(
                "a",
                "SUCCEED",
                runtime=Runtime("n0[0]", "/w", "0:00:01.000000", "0", "7", "sh", "n0", attempts="1"),
                history="\nH",
            ),
            '{"jobName":"a","status":"SUCCEED","runtime":' + _RAN + ',"attempts":"1"},"history":"\\nH"}',
        ),
        (
            JobInfo(
                "i", "QUEUED", Iterations(0, 2, 2, 1, 1), [IterationInfo(0, "FAILED", None, "no")], "m", explain=["e"]
            ),
            '{"jobName":"i","status":"QUEUED","iterations":{"start":0,"stop":2,"total":2,"finished":1,"failed":1},'
            '"childs":[{"iteration":0,"state":"FAILED","messages":"no"}],"messages":"m","explain":["e"]}',
        ),
        (Canceled(2), '{"canceled":2}'),
        (Removed(0, {"x": "Job 'x' doesn't exist"}), '{"removed":0,"errors":{"x":"Job \'x\' doesn\'t exist"}}'),
        (Resources(1, 4, 1, 3), '{"total_nodes":1,"total_cores":4,"used_cores":1,"free_cores":3}'),
        (AllFinished(all_finished=False), '{"AllJobsFinished":false}'),
        (FinishTime("2s"), '{"when":"2s"}'),
        (
            EventList([Event(1, 2.5, "m", "QUEUED", "a")], 1, False),
            '{"events":[{"seq":1,"time":2.5,"manager":"m","state":"QUEUED","job":"a"}],"last":1,"missed":false}',
        ),
        (
            Status(
                System("id", "s", "g", "u", "z", ["ZMQ"], None, 5, "h", "me", "/w", "3", "p", "linux"),
                NodeCounts(1, 1, 4, 1, 3),
                JobCounts(*_COUNTS),
                TaskCounts(*_COUNTS),
            ),
            '{"System":{"InstanceId":"id","Started":"s","Generated":"g","Uptime":"u","Zmqaddress":"z","Ifaces":["ZMQ"],'
            '"StatusPublisher":null,"EventSeq":5,"Host":"h","Account":"me","Wd":"/w","PythonVersion":"3","Python":"p",'
            '"Platform":"linux"},"Resources":{"TotalNodes":1,"ReadyNodes":1,"TotalCores":4,"UsedCores":1,"FreeCores":3},'
            '"JobStats":{"TotalJobs":3,"InScheduleJobs":1,"FailedJobs":0,"FinishedJobs":1,"ExecutingJobs":1},'
            '"IterationStats":{"TotalIterations":3,"InScheduleIterations":1,"FailedIterations":0,"FinishedIterations":1,'
            '"ExecutingIterations":1}}',
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_data_of_each_reply_has_the_old_members_in_their_order_and_reads_back(data: Struct, text: str) -> None:
    """What recordings of the original have; a client decodes it to the same value."""
    body = ok(data=data)
    assert body.decode() == f'{{"code":0,"data":{text}}}'
    if not isinstance(data, Entries):
        assert msgspec.json.decode(body, type=Envelope[type(data)]).data == data  # type: ignore[misc]


def test_a_client_understands_the_status_of_an_original_service() -> None:
    """Which has no EventSeq and no ReadyNodes."""
    counts = {
        f"{word}{of}": 1
        for of in ("Jobs", "Iterations")
        for word in ("Total", "InSchedule", "Failed", "Finished", "Executing")
    }
    old = {
        "System": {"InstanceId": "x", "StatusPublisher": "tcp://h:1"},
        "Resources": {"TotalNodes": 1},
        "JobStats": counts,
        "IterationStats": counts,
    }
    status = msgspec.convert(old, Status)
    assert status.system.event_seq is msgspec.UNSET
    assert status.system.status_publisher == "tcp://h:1"
    assert status.tasks.ended == 2


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("number", [None, 7])
def test_a_large_reply_is_put_together_in_slices(
    count: int, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_bytes, "_JOINED_BYTES", 10)
    names = [[f"job-{part}-{place}" for place in range(3)] for part in range(count)]
    stretches = [reply_bytes.stretch(some) for some in names]
    bodies: list[reply_bytes.Body] = []

    def steps() -> Steps[None]:
        bodies.append((yield from reply_bytes.large("hello", Submitted(3 * count, []), "jobs", stretches)))

    assert sum(1 for _ in steps()) == max(0, count - 1)
    body = bodies[0] if number is None else reply_bytes.with_id_value(bodies[0], number)
    expected = {"code": 0, "message": "hello", "data": {"submitted": 3 * count, "jobs": list(chain(*names))}}
    assert json.loads(body) == expected | ({} if number is None else {"id": number})
