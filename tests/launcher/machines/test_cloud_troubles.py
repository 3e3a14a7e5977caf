"""Clouds that break, and launchers that die: each job runs once, and its results come home."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cloud import PROFILES, Cloud
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S

from pilotfish.launcher.contexts import http
from pilotfish.launcher.contexts.openapi import OpenAPIContext
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.machines import bohrium
from pilotfish.launcher.machines.base import MachineBusyError
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


class Died(BaseException):
    """The launcher is gone."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs appear in the list as soon as they are there."""
    monkeypatch.setattr(bohrium, "APPEARS_S", 0.0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_launcher_may_die_at_any_request(
    to_cloud: Make, cloud: Cloud, wd: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Each run dies one request later than the one before it, until one comes to the end."""
    ran, send, count = wd / "ran", http.Http.send, 0

    def dying(self: http.Http, *words: Any, **more: Any) -> httpx.Response:
        nonlocal count
        count -= 1
        if not count and when == "before":
            raise Died
        answer = send(self, *words, **more)
        if not count:
            raise Died
        return answer

    monkeypatch.setattr(http.Http, "send", dying)
    deaths = 0
    for at in range(1, 60):
        count = at
        try:
            to_cloud(f"echo a >>{ran}; cp in out", f"echo b >>{ran}; cp in out").run(check_interval_s=0.5)
            break
        except Died:
            deaths += 1
    assert deaths > 2
    assert sorted(ran.read_text().split()) == ["a", "b"]
    assert [(wd / f"here/w/t{at}/out").read_text() for at in range(2)] == ["0\n", "1\n"]


@pytest.mark.parametrize("troubles", [("cut", "500"), ("html", "no object"), ("lost",)], ids=" ".join)
def test_each_request_may_fail(to_cloud: Make, cloud: Cloud, kind: str, wd: Path, troubles: tuple[str, ...]) -> None:
    """What breaks is asked for again, but never a job that may have been taken."""
    ran = wd / "ran"
    parts = ["login", "sts", "uploads", "partNumber", "POST /bucket", "job/add", "GET /brm/v1/job/1", "/log"]
    if kind == "OpenAPI":
        parts = ["job/create", "upload/binary", "job/add", "GET /openapi/v1/job/1", "/log"]
    if "cut" in troubles:
        parts.append("/result/")
    cloud.troubles = [(part, trouble) for part in parts for trouble in troubles]
    assert to_cloud(f"echo a >>{ran}; cp in out").run(check_interval_s=0.5).over
    assert [each for each in cloud.troubles if each[0] != "/log"] == []  # which is asked for once
    assert ran.read_text() == "a\n"
    assert (wd / "here/w/t0/out").read_text() == "0\n"


def test_results_that_break_off_go_on_where_they_were(to_cloud: Make, cloud: Cloud, wd: Path) -> None:
    cloud.troubles = [("/result/", "half"), ("/result/", "cut"), ("/result/", "half")]
    sent: list[str] = []
    cloud.troubles.append(("/result/", lambda: sent.append("last")))
    made = to_cloud("head -c 300000 /dev/urandom | tee out | sha256sum >out.sum")
    assert made.run(check_interval_s=0.5).over
    digest = hashlib.sha256((wd / "here/w/t0/out").read_bytes()).hexdigest()
    assert digest == (wd / "here/w/t0/out.sum").read_text().split()[0]
    assert sent == ["last"]


def test_a_service_that_is_silent_is_asked_again(to_cloud: Make, cloud: Cloud, kind: str) -> None:
    """A silence is longer than `timeout`."""
    gone = threading.Event()
    path = "GET /brm/v1/job/1" if kind == "Bohrium" else "GET /openapi/v1/job/1"

    def silence() -> None:
        gone.wait()

    cloud.troubles = [(path, silence), ("/result/", silence)]
    assert to_cloud("cp in out", profile={"timeout": 0.3}).run(check_interval_s=0.5).over
    gone.set()


def test_an_upload_goes_on_where_a_dead_launcher_has_stopped(
    to_cloud: Make, cloud: Cloud, kind: str, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts that have arrived are not sent again."""
    monkeypatch.setattr(OpenAPIContext, "part_bytes", 1000 * 1024)
    (wd / "here/w/t0").mkdir(parents=True)
    part = "PUT /bucket" if kind == "Bohrium" else "multipart/upload"

    def dying(self: http.Http, method: str, url: str, **more: Any) -> httpx.Response:
        if part in f"{method} {urlsplit(url).path}" and cloud.asked(part.rsplit(maxsplit=1)[-1]) == before:
            raise Died
        return send(self, method, url, **more)

    before, send = (2 if kind == "OpenAPI" else 3), http.Http.send
    monkeypatch.setattr(http.Http, "send", dying)
    content = os.urandom(3_500_000)
    for _ in range(2):
        made = to_cloud("wc -c <in >out")
        (wd / "here/w/t0/in").write_bytes(content)
        for file in (wd / "here/w").rglob("*"):
            os.utime(file, (1e9, 1e9))
        try:
            made.run(check_interval_s=0.5)
        except Died:
            monkeypatch.setattr(http.Http, "send", send)
    assert (wd / "here/w/t0/out").read_text() == f"{len(content)}\n"
    sent = [path for method, path in cloud.requests if "partNumber" in path or "multipart/upload" in path]
    assert len(sent) == 4


def test_a_token_may_expire_at_any_time(to_cloud: Make, cloud: Cloud, kind: str) -> None:
    """A new login helps; a store whose token is too old is made anew."""
    if kind == "Bohrium":
        cloud.troubles = [(part, cloud.tokens.clear) for part in ("get_sts", "job/add", "GET /brm/v1/job/1")]
    else:
        cloud.troubles = [("upload/binary", cloud.tokens.clear)]
    assert to_cloud("cp in out").run(check_interval_s=0.5).over
    assert cloud.logins == (4 if kind == "Bohrium" else 0)
    assert sum(bool(job.given) for job in cloud.jobs.values()) == 1


def test_a_refusal_is_told_and_ends_the_job(to_cloud: Make, cloud: Cloud, kind: str) -> None:
    """It is not tried again: the next answer would be the same."""
    refused = {"Bohrium": "program_id", "OpenAPI": "project_id"}[kind]
    cloud.refuses = f"{refused} is not yours"
    with pytest.raises(SubmissionFailedError, match=f"{refused} is not yours"):
        to_cloud("true").run(check_interval_s=0.5)
    assert len([job for job in cloud.jobs.values() if job.process]) == 0


def test_results_may_take_a_while_to_be_there(to_cloud: Make, cloud: Cloud, wd: Path) -> None:
    """The job has ended well, and nobody takes it for one that left nothing."""
    cloud.packs_slowly = 3
    assert to_cloud(f"echo a >>{wd}/ran; cp in out").run(check_interval_s=0.5).over
    assert cloud.packs_slowly == 0
    assert (wd / "ran").read_text() == "a\n"


def test_results_that_lead_out_are_not_taken(to_cloud: Make, cloud: Cloud, wd: Path, tmp_path: Path) -> None:
    """The archive is refused as a whole; the job counts as one that left nothing."""

    def lie(archive: Path) -> None:
        import zipfile

        with zipfile.ZipFile(archive, "a") as packed:
            packed.writestr("t0/../../../evil", "evil")

    cloud.changed_results = lie
    made = to_cloud("cp in out", machine={"retry_count": 0})
    with pytest.raises(SubmissionFailedError, match=r"its results were refused: .*leads out of its folder"):
        made.run(check_interval_s=0.5)
    assert not [each for each in (wd, tmp_path) for name in each.rglob("evil")]


def test_a_kill_between_the_request_and_its_answer(cloud: Cloud, kind: str, wd: Path) -> None:
    """A real launcher, and SIGKILL; the next goes on with the job that is there."""
    (wd / "w/a").mkdir(parents=True)
    machine = {"batch_type": kind, "context_type": kind, "local_root": ".", "remote_profile": PROFILES[kind]}
    task = {"command": f"echo a >>{wd}/ran; echo done >out", "task_work_path": "a", "backward_files": ["out"]}
    given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": [task]}
    (wd / "run.json").write_text(json.dumps(given))
    command = [sys.executable, "-m", "pilotfish", "submit", "run.json", "--check-interval", "1"]
    first = subprocess.Popen(command, cwd=wd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cloud.troubles = [("job/add", lambda: os.kill(first.pid, signal.SIGKILL))]
    assert first.wait(PATIENCE_S) == -signal.SIGKILL
    subprocess.run(command, cwd=wd, check=True, timeout=PATIENCE_S)
    assert (wd / "ran").read_text() == "a\n"
    assert (wd / "w/a/out").read_text() == "done\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["code", "data", "status", "exitCode", "resultUrl", "id", "items"]), inner)
    ),
    max_leaves=8,
)
ANSWERS = st.one_of(
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"code": st.sampled_from([0, "0000"]), "data": JSON}).map(lambda v: json.dumps(v).encode()),
    st.binary(max_size=30),
    st.just(b"<html>\xff</html>"),
)
STATUSES = st.sampled_from([200, 200, 200, 204, 301, 400, 403, 404, 418, 500, 503])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=STATUSES, body=ANSWERS)
def test_whatever_a_service_answers_a_job_is_gone_only_when_it_says_so(
    kind: str, cloud: Cloud, status: int, body: bytes
) -> None:
    """Everything else is a state of the job, or nothing that is known now."""
    profile = {**PROFILES[kind], "password": "p"} if kind == "Bohrium" else PROFILES[kind]
    description = {"batch_type": kind, "context_type": kind, "local_root": ".", "remote_profile": profile}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/account/login":
            return httpx.Response(200, json={"code": 0, "data": {"token": "t"}})
        return httpx.Response(status, content=body)

    with build_context(parse_machine(description)) as context:
        transfers: Any = context.http  # type: ignore[attr-defined]
        transfers._client = httpx.Client(transport=httpx.MockTransport(answer))
        transfers._sleep = lambda seconds: None
        name = "7:job_group_id:70" if kind == "Bohrium" else "7"
        try:
            told = build_machine(kind).query(context, [name])
        except MachineBusyError:
            return
        if name not in told:
            assert status == 404 or b"2300" in body
        elif told[name].state is not JobState.unknown:
            assert json.loads(body)["data"]["status"] is not None
