"""One client, one reader or one disk that does its worst, and what it costs others: order and counts, no times."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from patience import PATIENCE_S
from real_pilot import Pilot

from pilotfish.pilot.wire import connection

SLOW_SYNC = r"""
#include <unistd.h>
static void wait_for_file(void) { while (access(getenv("SYNC_MAY_RETURN"), F_OK)) usleep(10000); }
int fdatasync(int fd) { (void)fd; wait_for_file(); return 0; }
int fsync(int fd) { (void)fd; wait_for_file(); return 0; }
"""

Clients = Callable[[Pilot], zmq.Socket[bytes]]


@pytest.fixture
def clients() -> Iterator[Clients]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def connect(pilot: Pilot) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        socket.connect(connection.read(pilot.aux / "connection.json").request_addresses["ipc"])
        made.append(socket)
        return socket

    yield connect
    for socket in made:
        socket.close()
    context.term()


def send(socket: zmq.Socket[bytes], request: str, **members: Any) -> None:
    socket.send(json.dumps({"request": request, **members}).encode())


def ask(socket: zmq.Socket[bytes], request: str, **members: Any) -> dict[str, Any]:
    send(socket, request, **members)
    reply: dict[str, Any] = json.loads(socket.recv())
    return reply


def sleeper(name: str, count: int, seconds: float = 0.05) -> dict[str, Any]:
    return {"name": name, "iteration": {"stop": count}, "execution": {"exec": "sleep", "args": [str(seconds)]}}


def states(socket: zmq.Socket[bytes], name: str) -> dict[str, int]:
    reply = ask(socket, "jobInfo", jobNames=[name])
    iterations: dict[str, int] = reply["data"]["jobs"][name]["data"]["iterations"]
    return iterations


@pytest.fixture
def pilot(wd: Path) -> Iterator[Pilot]:
    pilot = Pilot(wd, "--nodes", "2", "--node-lost", "3", "--nl-init-timeout", "5", "--kill-grace", "1")
    yield pilot
    if pilot.process.poll() is None:
        pilot.process.send_signal(signal.SIGTERM)
        pilot.process.wait(PATIENCE_S)


def log_of(pilot: Pilot) -> str:
    return (pilot.aux / "service.log").read_text()


def test_a_submit_of_very_many_jobs_holds_up_nobody(pilot: Pilot, clients: Clients) -> None:
    """Others are answered all the while, their submits and tasks included, nothing of it is seen before it is in, and no agent
    falls silent.
    """
    hostile, other = clients(pilot), clients(pilot)
    ask(other, "submit", jobs=[sleeper("work", 1000)])
    jobs = [{"name": f"x{number}", "execution": {"exec": "true"}} for number in range(20_000)]
    send(hostile, "submit", jobs=[*jobs, {"name": "last", "execution": {"exec": "true"}}])
    answered = submitted = 0
    while not hostile.poll(0):
        assert ask(other, "resourcesInfo")["code"] == 0
        answered += 1
        if answered % 10 == 0:
            submitted += 1
            assert ask(other, "submit", jobs=[sleeper(f"small{submitted}", 1)])["code"] == 0
            if ask(other, "jobStatus", jobNames=["x0"])["code"] == 0:
                assert ask(other, "jobStatus", jobNames=["last"])["code"] == 0
    assert json.loads(hostile.recv())["data"]["submitted"] == 20_001
    assert answered >= 10
    assert submitted >= 1
    assert states(other, "work")["finished"] > 0
    assert ask(other, "jobStatus", jobNames=["last"])["code"] == 0
    assert "agent.silent" not in log_of(pilot)
    assert "agent.lost" not in log_of(pilot)


def test_a_pilot_that_is_stopped_over_a_large_submit_has_it_whole_or_not_at_all(pilot: Pilot, clients: Clients) -> None:
    hostile, other = clients(pilot), clients(pilot)
    jobs = [{"name": f"x{number}", "execution": {"exec": "true"}} for number in range(20_000)]
    send(hostile, "submit", jobs=jobs)
    assert ask(other, "resourcesInfo")["code"] == 0
    journal = pilot.aux / "journal.pilotfish"
    while journal.stat().st_size < 100_000 and not hostile.poll(0):
        ask(other, "resourcesInfo")
    pilot.kill()
    pilot.resume()
    count = ask(clients(pilot), "listJobs", params={"limit": 1})["data"]["length"]
    found = ask(clients(pilot), "status")["data"]["JobStats"]["TotalJobs"]
    assert (count, found) in ((0, 0), (1, 20_000))


def test_replies_that_are_never_read_cost_others_nothing(pilot: Pilot, clients: Clients) -> None:
    """100,000 iterations are asked for 60 times: a few replies are made, and then no more."""
    deaf, other = clients(pilot), clients(pilot)
    ask(other, "submit", jobs=[sleeper("work", 1000), sleeper("large", 100_000, 1000)])
    deaf.setsockopt(zmq.RCVHWM, 1)
    for _ in range(60):
        send(deaf, "jobInfo", jobNames=["large"], params={"withChilds": True})
    before = states(other, "work")["finished"]
    for _ in range(200):
        assert ask(other, "resourcesInfo")["code"] == 0
    while states(other, "work")["finished"] == before:
        ask(other, "resourcesInfo")
    reply = json.loads(deaf.recv())
    childs = reply["data"]["jobs"]["large"]["data"]["childs"]
    assert [child["iteration"] for child in childs] == list(range(100_000))
    assert "agent.silent" not in log_of(pilot)


@pytest.fixture
def slow_sync(tmp_path: Path) -> dict[str, str]:
    """An environment in which each sync waits until a file is there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert not os.environ.get("CI"), "there is no C compiler"
        pytest.skip("needs a C compiler")
    (tmp_path / "slow.c").write_text("#include <stdlib.h>\n" + SLOW_SYNC)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "slow.so", tmp_path / "slow.c"], check=True)
    return {"LD_PRELOAD": str(tmp_path / "slow.so"), "SYNC_MAY_RETURN": str(tmp_path / "go")}


def test_while_the_disk_does_not_answer_all_but_promises_goes_on(
    wd: Path, clients: Clients, slow_sync: dict[str, str]
) -> None:
    """A submit is not answered, but its tasks run to their end and others are served; SIGTERM is obeyed."""
    go = Path(slow_sync["SYNC_MAY_RETURN"])
    go.touch()
    pilot = Pilot(wd, "--nodes", "2", "--node-lost", "3", "--kill-grace", "1", environ=os.environ | slow_sync)
    submitter, other = clients(pilot), clients(pilot)
    assert ask(submitter, "submit", jobs=[sleeper("first", 1)])["code"] == 0
    go.unlink()
    send(submitter, "submit", jobs=[sleeper("second", 20)])
    send(submitter, "resourcesInfo")
    while ask(other, "jobStatus", jobNames=["second"])["code"]:
        pass
    while states(other, "second")["finished"] < 20:
        pass
    assert not submitter.poll(0)
    go.touch()
    assert json.loads(submitter.recv())["data"]["jobs"] == ["second"]
    assert "free_cores" in json.loads(submitter.recv())["data"]
    go.unlink()
    send(submitter, "submit", jobs=[sleeper("third", 5)])
    while ask(other, "jobStatus", jobNames=["third"])["code"]:
        pass
    pilot.process.send_signal(signal.SIGTERM)
    assert pilot.process.wait(PATIENCE_S) == 128 + signal.SIGTERM  # though that sync never returns
    assert "agent.silent" not in log_of(pilot)


def test_a_large_job_is_told_in_pages(pilot: Pilot, clients: Clients) -> None:
    client = clients(pilot)
    ask(client, "submit", jobs=[sleeper("childs", 7, 1000), sleeper("b", 1, 1000), sleeper("c", 1, 1000)])
    told: list[int] = []
    page: dict[str, Any] = {"limit": 3}
    while page:
        reply = ask(client, "jobInfo", jobNames=["childs"], params={"withChilds": True, **page})
        info = reply["data"]["jobs"]["childs"]["data"]
        told += [child["iteration"] for child in info["childs"]]
        page = {"limit": 3, "after": info["next"]} if "next" in info else {}
    assert told == list(range(7))
    first = ask(client, "listJobs", params={"limit": 2})["data"]
    second = ask(client, "listJobs", params={"limit": 2, "after": first["next"]})["data"]
    assert [*first["jobs"], *second["jobs"]] == ["childs", "b", "c"]
    assert "next" not in second
    assert ask(client, "listJobs", params={"limit": 0})["code"] == 1


def test_a_request_that_is_wrong_ten_thousand_times_is_told_no_more_than_that(pilot: Pilot, clients: Clients) -> None:
    """All errors are encoded at once, and 64 MiB of names can be millions."""
    client = clients(pilot)
    assert ask(client, "submit", jobs=[sleeper("known", 1, 100.0)])["code"] == 0
    reply = ask(client, "cancelJob", jobNames=[*(f"unknown{number}" for number in range(11_000)), "known"])
    assert (reply["code"], reply["data"]["canceled"], len(reply["data"]["errors"])) == (0, 1, 10_000)


def test_bytes_that_are_not_text_pass_in_a_large_request_too(pilot: Pilot, clients: Clients) -> None:
    client = clients(pilot)
    execution = {"exec": "touch", "args": ["caf\udce9"]}
    jobs = [{"name": f"odd{number}", "execution": execution} for number in range(2000)]
    assert len(json.dumps(jobs)) > 64 << 10
    assert ask(client, "submit", jobs=jobs)["code"] == 0
    assert ask(client, "cancelJob", jobNames=[job["name"] for job in jobs])["code"] == 0


def test_a_text_of_tens_of_megabytes_is_refused_with_its_place(pilot: Pilot, clients: Clients) -> None:
    client = clients(pilot)
    scripts = [
        {"name": f"s{number}", "execution": {"script": "#" * (size << 20)}} for number, size in enumerate((1, 20))
    ]
    reply = ask(client, "submit", jobs=scripts)
    assert reply["message"] == "Invalid request: this text has more than 8388608 characters"
    assert reply["error"]["where"] == "jobs[1].execution.script"
    assert ask(client, "submit", jobs=scripts[:1])["code"] == 0
