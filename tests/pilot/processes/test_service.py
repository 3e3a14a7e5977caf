"""Every request of the protocol, asked of a real service by a plain client: a REQ socket and JSON, nothing of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from patience import PATIENCE_S
from process_state import has_ended

from pilotfish.api.local import LocalManager

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?"
TRUE = {"exec": "/bin/true"}
LONG = {"exec": "sleep", "args": ["1000"]}


class Client:
    """One REQ socket. `ask` returns the reply; a reply that does not come fails the test."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 30_000)
        self._socket.connect(address)

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        return self.send(json.dumps({"request": request, **members}).encode())

    def send(self, body: bytes) -> dict[str, Any]:
        self._socket.send(body)
        reply: dict[str, Any] = json.loads(self._socket.recv())
        return reply

    def data(self, request: str, **members: Any) -> Any:
        reply = self.ask(request, **members)
        assert reply["code"] == 0, reply
        return reply["data"]

    def refused(self, request: str, **members: Any) -> str:
        reply = self.ask(request, **members)
        assert reply["code"] == 1, reply
        assert list(reply) == ["code", "message", "error"]
        return str(reply["message"])

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def pilot(wd: Path) -> Iterator[LocalManager]:
    pilot = LocalManager(["--wd", str(wd), "--net-plain", "--nodes", "2,2"], {"log_file": "/dev/null"})
    yield pilot
    pilot.stop()


@pytest.fixture
def address(pilot: LocalManager) -> str:
    """What old scripts read: the file `address` of the auxiliary folder."""
    return (pilot.connection_file.parent / "address").read_text()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    client = Client(address)
    yield client
    client.close()


@pytest.fixture
def ended(client: Client, wait_until: Callable[..., None]) -> Callable[..., None]:
    """`ended(NAME, ...)` returns when these jobs are in a final state."""

    def wait(*names: str) -> None:
        def all_final() -> bool:
            jobs = client.data("jobStatus", jobNames=list(names))["jobs"]
            return all(
                entry["data"]["status"] in ("SUCCEED", "FAILED", "CANCELED", "OMITTED") for entry in jobs.values()
            )

        wait_until(all_final, f"{names} have ended")

    return wait


# --- 4.1, 4.2 the pilot -------------------------------------------------------------------------------------------------


def test_resources_info(client: Client, wait_until: Callable[..., None]) -> None:
    expected = {"total_nodes": 2, "total_cores": 4, "used_cores": 0, "free_cores": 4}
    wait_until(lambda: client.ask("resourcesInfo") == {"code": 0, "data": expected}, "both agents are ready")


def test_status(client: Client, address: str) -> None:
    status = client.data("status")
    assert list(status) == ["System", "Resources", "JobStats", "IterationStats"]
    system = status["System"]
    assert system["Zmqaddress"] == address
    assert system["Ifaces"] == ["ZMQ"]
    assert re.fullmatch(MOMENT, system["Started"])
    assert re.fullmatch(r"\d+:\d\d:\d\d\.\d{6}", system["Uptime"])
    assert status["JobStats"] == dict.fromkeys(
        ("TotalJobs", "InScheduleJobs", "FailedJobs", "FinishedJobs", "ExecutingJobs"), 0
    )
    assert next(iter(status["IterationStats"])) == "TotalIterations"
    assert client.data("status", options={"allJobsFinished": 1}) == {"AllJobsFinished": True}


# --- 4.3 submit ---------------------------------------------------------------------------------------------------------


def test_submit_answers_with_the_names_in_order_after_substitution(client: Client) -> None:
    jobs = [{"name": "a-${rcnt}", "execution": TRUE}, {"name": "b", "execution": TRUE}]
    reply = client.ask("submit", jobs=jobs)
    assert reply == {"code": 0, "message": "2 jobs submitted", "data": {"submitted": 2, "jobs": ["a-1", "b"]}}


@pytest.mark.parametrize(
    ("jobs", "text"),
    [
        ([], "Invalid request: Wrong submit request - missing jobs data"),
        (["a"], "Invalid request: Wrong submit request - wrong job data"),
        ([{"execution": TRUE}], "Invalid request: Missing name in job description"),
        ([{"name": "a"}], "Invalid request: Missing execution element in job description"),
        (
            [{"name": "a b", "execution": TRUE}],
            "Job identifier '(a b)' contains invalid characters or unknown variables",
        ),
        ([{"name": "a", "execution": TRUE}] * 2, "Job a already exist"),
        (
            [{"name": "a", "execution": TRUE, "resources": {"numCores": {"exact": 99}}}],
            "Not enough resources for job a: 99 cores are needed, the pilot has ",
        ),
    ],
)
def test_a_submit_that_is_refused_registers_nothing(client: Client, jobs: list[Any], text: str) -> None:
    good = {"name": "good", "execution": TRUE}
    assert client.refused("submit", jobs=[good, *jobs] if jobs else jobs).startswith(text)
    assert client.data("listJobs") == {"length": 0, "jobs": {}}


# --- 4.4, 4.5, 4.6 questions --------------------------------------------------------------------------------------------


def test_job_status_and_its_refusals(client: Client, ended: Callable[..., None]) -> None:
    client.data("submit", jobs=[{"name": "a", "execution": {"exec": "/bin/false"}, "iteration": {"stop": 2}}])
    ended("a")
    assert client.data("jobStatus", jobNames=["a", "a:1"]) == {
        "jobs": {name: {"status": 0, "data": {"jobName": name, "status": "FAILED"}} for name in ("a", "a:1")}
    }
    assert client.refused("jobStatus").endswith("Wrong job status request - missing job names")
    assert client.refused("jobStatus", jobNames=["a", "x:3"]) == "Job 'x:3' doesn't exist"
    assert client.refused("jobStatus", jobNames=["a:7"]) == "Unknown iteration 7 for job a"
    for name in ("a:x", "nobody:x"):  # whatever the job
        entry = client.data("jobStatus", jobNames=[name])["jobs"][name]
        assert entry == {"status": 1, "message": "invalid literal for int() with base 10: 'x'"}
    assert client.data("jobStatus", jobNames=[7])["jobs"]["7"]["status"] == 1


def test_what_a_reply_tells_is_in_the_report_before(client: Client, pilot: LocalManager) -> None:
    """Whoever asks may look there next. Asked as fast as possible, while tasks end all the time."""
    report = pilot.connection_file.parent / "jobs.report"
    client.data("submit", jobs=[{"name": "many", "execution": TRUE, "iteration": {"stop": 1000}}])
    told = 0
    while told < 1000:
        told = client.data("status")["IterationStats"]["FinishedIterations"]
        assert report.read_bytes().count(b"\n") >= told


def test_job_info_of_a_job_without_iterations(client: Client, ended: Callable[..., None], wd: Path) -> None:
    client.data(
        "submit", jobs=[{"name": "a", "execution": {"script": "exit 3"}, "resources": {"numCores": {"exact": 2}}}]
    )
    ended("a")
    data = client.data("jobInfo", jobNames=["a"])["jobs"]["a"]["data"]
    assert (data["jobName"], data["status"]) == ("a", "FAILED")
    runtime = data["runtime"]
    assert re.fullmatch(r"n\d\[0:1\]", runtime["allocation"])
    assert runtime["wd"] == str(wd)
    assert re.fullmatch(r"\d+:\d\d:\d\d\.\d{6}", runtime["rtime"])
    assert runtime["exit_code"] == "3"
    states = [line.rpartition(": ")[2] for line in data["history"].split("\n")]
    assert states == ["", "QUEUED", "SCHEDULED", "EXECUTING", "FAILED"]
    assert all(re.fullmatch(MOMENT + r": [A-Z]+", line) for line in data["history"].split("\n")[1:])


def test_job_info_with_childs_and_explain(client: Client, ended: Callable[..., None]) -> None:
    jobs = [
        {"name": "a", "execution": {"script": "test ${it} != 1"}, "iteration": {"start": 1, "stop": 3}},
        {"name": "b", "execution": LONG},
        {"name": "c", "execution": TRUE, "dependencies": {"after": ["b"]}},
    ]
    client.data("submit", jobs=jobs)
    ended("a")
    data = client.data("jobInfo", jobNames=["a"], params={"withChilds": True})["jobs"]["a"]["data"]
    assert data["iterations"] == {"start": 1, "stop": 3, "total": 2, "finished": 2, "failed": 1}
    assert [(child["iteration"], child["state"]) for child in data["childs"]] == [(1, "FAILED"), (2, "SUCCEED")]
    waiting = client.data("jobInfo", jobNames=["c"], params={"explain": True})["jobs"]["c"]["data"]
    assert waiting["explain"][0].startswith("it waits for b, which is ")
    assert client.refused("jobInfo", jobNames=["nobody"]).endswith("doesn't exist")
    client.data("cancelJob", jobNames=["b"])


def test_list_jobs_has_all_in_order(client: Client, ended: Callable[..., None]) -> None:
    jobs = [{"name": name, "execution": {"exec": f"/bin/{name}"}} for name in ("true", "false")]
    client.data("submit", jobs=[*jobs, {"name": "none", "execution": TRUE, "dependencies": {"after": ["false"]}}])
    ended("true", "none")
    listed = client.data("listJobs")
    assert listed["length"] == 3
    assert {name: entry["status"] for name, entry in listed["jobs"].items()} == {
        "true": "SUCCEED",
        "false": "FAILED",
        "none": "OMITTED",
    }
    assert "false" in listed["jobs"]["none"]["messages"]


# --- 4.7, 4.8 cancel, remove --------------------------------------------------------------------------------------------


def test_cancel_and_remove_tell_per_job_what_went_wrong(client: Client, ended: Callable[..., None]) -> None:
    client.data(
        "submit", jobs=[{"name": "a", "execution": LONG}, {"name": "b", "execution": LONG, "iteration": {"stop": 9}}]
    )
    errors = {"a": "Job 'a' not finished - can not be removed", "x": "Job 'x' doesn't exist"}
    assert client.data("removeJob", jobNames=["a", "x"]) == {"removed": 0, "errors": errors}
    canceled = client.data("cancelJob", jobNames=["a", "b:8", "x", "b:99"])
    assert canceled == {
        "canceled": 2,
        "errors": {"x": "Job/iteration x doesn't exist", "b:99": "Unknown iteration 99 for job b"},
    }
    assert client.data("cancelJob", jobNames=["b"]) == {"canceled": 1}
    ended("a", "b")
    assert client.data("jobStatus", jobNames=["b"])["jobs"]["b"]["data"]["status"] == "CANCELED"
    assert client.data("removeJob", jobNames=["a", "b"]) == {"removed": 2}
    assert client.data("submit", jobs=[{"name": "a", "execution": TRUE}])["jobs"] == ["a"]


# --- 4.11, 3: what is refused -------------------------------------------------------------------------------------------


def test_register_and_notify_are_refused_after_their_form(client: Client) -> None:
    register = {"entity": "manager", "params": {"id": "m", "address": "tcp://x", "resources": {}}}
    assert client.refused("register", **register) == (
        "Register manager request not supported in this kind of manager (direct)"
    )
    assert client.refused("register", entity="x").endswith("Wrong register request - missing/unknown entity")
    notify = {"entity": "job", "params": {"name": "a", "state": "SUCCEED", "attributes": {}}}
    assert client.refused("notify", **notify) == "Operation not supported"
    assert client.refused("notify", entity="job").endswith("missing register parameters")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"request": 7}', b'{"request": "dance"}', b"\xff\xfe"])
def test_what_is_no_request_gets_an_error_and_the_next_one_is_served(client: Client, body: bytes) -> None:
    assert client.send(body)["code"] == 1
    assert client.ask("resourcesInfo")["code"] == 0


# --- 4.9, 4.10, 5: the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_name", "members", "reply"),
    [
        (
            "control",
            {"command": "finishAfterAllTasksDone"},
            {"code": 0, "message": "finishAfterAllTasksDone command accepted"},
        ),
        ("finish", {"options": {"delay": 0}}, {"code": 0, "data": {"when": "0s"}}),
    ],
)
def test_the_service_ends_when_its_work_is_done(
    pilot: LocalManager,
    client: Client,
    wait_until: Callable[..., None],
    wd: Path,
    request_name: str,
    members: dict[str, Any],
    reply: dict[str, Any],
) -> None:
    script = {"script": "while [ ! -e go ]; do sleep 0.01; done; touch done"}
    client.data("submit", jobs=[{"name": "a", "execution": script}])
    service = psutil.Process(json.loads(pilot.connection_file.read_text())["pid"])
    assert client.ask(request_name, **members) == reply
    assert client.refused(request_name, **members) == "Finish request already requested"
    (wd / "go").touch()
    wait_until(lambda: has_ended(service), "the service has ended")
    assert (wd / "done").exists()
    assert json.loads((pilot.connection_file.parent / "final_status.json").read_text())["JobStats"]["FinishedJobs"] == 1


# --- 6 events, and clients that do not behave like REQ --------------------------------------------------------------------


def test_events_come_in_order_on_the_old_topics_and_on_ours(client: Client, ended: Callable[..., None]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.RCVTIMEO, 30_000)
    subscriber.subscribe(b"")
    subscriber.connect(client.data("status")["System"]["StatusPublisher"])
    seen: list[tuple[str, dict[str, Any]]] = []
    number = 0
    while not seen:  # a subscription takes a moment to arrive: the first job that is heard of from its start counts
        client.data("submit", jobs=[{"name": f"a{number}", "execution": TRUE}])
        ended(f"a{number}")
        while subscriber.poll(100):
            topic, _, payload = subscriber.recv().partition(b" ")
            seen.append((topic.decode(), json.loads(payload)))
        if seen and seen[0][0] != "JST":
            seen.clear()
        number += 1
    job = f"a{number - 1}"
    old = [(topic, event.get("state")) for topic, event in seen if topic != "EVT" and event.get("job") == job]
    assert old == [("JST", "SCHEDULED"), ("JST", "EXECUTING"), ("JST", "SUCCEED"), ("JFI", "SUCCEED")]
    ours = [event for topic, event in seen if topic == "EVT"]
    assert [event["seq"] for event in ours] == list(range(ours[0]["seq"], ours[0]["seq"] + len(ours)))
    assert [event["state"] for event in ours if event.get("job") == job] == ["SCHEDULED", "EXECUTING", "SUCCEED"]
    assert next(event for event in ours if event["state"] == "SUCCEED")["exit_code"] == 0
    caught_up = client.data("events", after=ours[0]["seq"])
    assert caught_up["events"] == ours[1:]
    assert (caught_up["last"], caught_up["missed"]) == (ours[-1]["seq"], False)
    subscriber.close()
    context.term()


def test_a_pipelining_client_gets_its_replies_in_order_while_another_reads_nothing(
    address: str, client: Client
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    fast, deaf = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    for socket in (fast, deaf):
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 30_000)
        socket.connect(address)
    for _ in range(2_000):
        deaf.send_multipart([b"", b'{"request": "status"}'])
    names = [f"j{number}" for number in range(300)]
    for name in names:
        job = {"name": name, "execution": TRUE}
        fast.send_multipart([b"", json.dumps({"request": "submit", "jobs": [job]}).encode()])
    assert [json.loads(fast.recv_multipart()[-1])["data"]["jobs"] for _ in names] == [[name] for name in names]
    assert client.data("status")["JobStats"]["TotalJobs"] == 300
    for socket in (fast, deaf):
        socket.close()
    context.term()


def test_a_file_of_requests_is_served_and_then_the_service_ends(wd: Path) -> None:
    """The third way in: what old batch scripts do with --file-path."""
    requests = [
        {"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "touch", "args": ["made"]}}]},
        {"request": "control", "command": "finishAfterAllTasksDone"},
    ]
    (wd / "reqs.json").write_text(json.dumps(requests))
    command = [sys.executable, "-m", "pilotfish", "service", "--file-path", "reqs.json", "--nodes", "1"]
    done = subprocess.run(command, cwd=wd, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0
    assert (wd / "made").exists()


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_long_file_of_requests_is_served_whole_or_not_at_all(wd: Path, is_whole: bool) -> None:
    """It is read while the pilot serves others already, so what is wrong with it is found late."""
    jobs = [
        {"name": f"job{number}", "execution": {"exec": "touch", "args": [f"ran{number}"]}} for number in range(3000)
    ]
    requests = [
        {"request": "submit", "jobs": jobs[:3]},
        {"request": "submit", "jobs": jobs[3:]},
        {"request": "cancelJob", "jobNames": [job["name"] for job in jobs[3:]]},
    ]
    text = json.dumps(requests)
    (wd / "long.json").write_text(text if is_whole else text[:-1])
    command = [sys.executable, "-m", "pilotfish", "service", "--file-path", "long.json", "--nodes", "1"]
    ended = subprocess.run(command, cwd=wd, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if is_whole:
        assert (ended.returncode, ended.stderr) == (0, "")
        assert {f"ran{number}" for number in range(3)} <= {path.name for path in wd.iterdir()}
    else:
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert ended.stderr.startswith(
            "Error: long.json: Wrong job description: this JSON cannot be read: expecting ',' or ']'"
        )
        assert list(wd.glob("ran*")) == []
