"""Jobs through the two services of Bohrium: a server on loopback stands for both, and really runs them (`cloud.py`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cloud import PROFILES, Cloud
from patience import PATIENCE_S, wait_until

import pilotfish
from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.cli.init import init
from pilotfish.launcher.contexts.openapi import OpenAPIContext
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.schema import DescriptionError, InconsistentError
from pilotfish.launcher.description.submission import load_submission
from pilotfish.launcher.job import single
from pilotfish.launcher.job.single import JobRecord
from pilotfish.launcher.submission.looking import look_at
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError
from pilotfish.launcher.submission.single import Script, SingleJob

Make = Callable[..., Placement]


def machine(kind: str, **profile: Any) -> dict[str, Any]:
    return {
        "batch_type": kind,
        "context_type": kind,
        "local_root": ".",
        "remote_profile": {**PROFILES[kind], **profile},
    }


def single_job(given: dict[str, Any], wd: Path) -> SingleJob:
    record = JobRecord(single.new_hash(), parse_machine(given), "", "n", "test", created_s=1.0)
    job = SingleJob(record)
    job.enter(str(wd / "single"))
    return job


def test_jobs_run_there_and_their_results_come_home(to_cloud: Make, cloud: Cloud, wd: Path, tmp_path: Path) -> None:
    """Each job has its own inputs and the common ones; all are one group; nothing is left here."""
    made = to_cloud("cat in ../common >out1; echo told", "cat in >out; ls -a .. >out2")
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/t0/out1").read_text() == "0\ncommon\n"
    assert (wd / "here/w/t1/out").read_text() == "1\n"
    assert "t0" not in (wd / "here/w/t1/out2").read_text().split()
    assert len(cloud.jobs) == 2
    assert len({job.group for job in cloud.jobs.values()}) == 1
    assert [each for each in (tmp_path / "home/staged").rglob("*") if each.is_file()] == []


def test_a_task_that_failed_is_told_with_its_last_words_and_tried_again(to_cloud: Make, cloud: Cloud, wd: Path) -> None:
    """What is done stays done: the second attempt runs the other task only. `ignore_exit_code` hides nothing."""
    made = to_cloud(
        "echo once >>out", "echo no room >&2; exit 3", resources={"group_size": 0}, machine={"retry_count": 1}
    )
    with pytest.raises(SubmissionFailedError, match=r"(?s)exit code 3.*no room"):
        made.run(check_interval_s=0.5)
    assert len(cloud.jobs) == 2
    assert (wd / "here/w/t0/out").read_text() == "once\n"
    assert (wd / "here/w/t1/err").read_text() == "no room\n" * 2


def test_a_time_limit_ends_a_job(to_cloud: Make, cloud: Cloud) -> None:
    made = to_cloud("sleep 1000", resources={"walltime": 1})
    with pytest.raises(SubmissionFailedError, match="time limit"):
        made.run(check_interval_s=0.5)


def test_jobs_are_cancelled(to_cloud: Make, cloud: Cloud) -> None:
    made = to_cloud("sleep 1000", "sleep 1000")
    assert not made.run(detach=True).over
    assert to_cloud("sleep 1000", "sleep 1000").cancel() == 2
    assert [job.killed for job in cloud.jobs.values()] == [True, True]


def test_a_job_that_the_service_has_forgotten_is_placed_again(to_cloud: Make, cloud: Cloud) -> None:
    cloud.hold = True
    to_cloud("echo >out").run(detach=True)
    cloud.jobs.clear()
    cloud.hold = False
    again = to_cloud("echo >out")
    assert again.run(check_interval_s=0.5).over
    assert any("vanished; it is placed again" in line for line in again.told)  # type: ignore[attr-defined]


def test_what_jobs_print_is_told_once_while_they_run(to_cloud: Make, cloud: Cloud, kind: str, wd: Path) -> None:
    """A log is asked for from where it was read to."""
    go = wd / "go"
    profile: dict[str, Any] = {"output_log": True}
    if kind == "Bohrium":
        profile = {"input_data": {**PROFILES[kind]["input_data"], "output_log": True}}
    lines = ["echo first line", f"until [ -e {go} ]; do sleep 0.05; done", "echo last line"]
    made = to_cloud("echo >out", resources={"prepend_script": lines}, profile=profile)
    told = made.told  # type: ignore[attr-defined]
    seen = []

    def look(counts: dict[str, int]) -> None:
        seen.append(sum("first line" in line for line in told))
        if seen[-1] and len(seen) > 3:
            go.touch()

    made._tools = type(made._tools)(made._tools.clock, made._tools.sleep, made._tools.tell, made._tools.watch, look)
    assert made.run(check_interval_s=0.5).over
    assert sum("first line" in line for line in told) == 1
    assert sum("last line" in line for line in told) == 1


def test_a_large_archive_goes_in_parts(to_cloud: Make, cloud: Cloud, kind: str, wd: Path, monkeypatch: Any) -> None:
    """And goes on with the part that did not arrive."""
    monkeypatch.setattr(OpenAPIContext, "part_bytes", 1 << 18)
    (wd / "here/w/t0").mkdir(parents=True)
    content = os.urandom(3 << 20)
    made = to_cloud("cmp in ../t0/in && wc -c <in >out")
    (wd / "here/w/t0/in").write_bytes(content)
    part = "partNumber=2" if kind == "Bohrium" else "multipart/upload"
    cloud.troubles += [(part, "cut"), (part, "500"), (part, "lost")]
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/t0/out").read_text() == f"{len(content)}\n"


def test_from_the_command_line(cloud: Cloud, kind: str, wd: Path) -> None:
    """A dry run asks nobody; no secret is written down; with a reference the watch goes on where submit has left."""
    (wd / "w/a").mkdir(parents=True)
    task = {"command": "echo done >out", "task_work_path": "a", "backward_files": ["out"]}
    given = {"work_base": "w", "machine": machine(kind), "resources": {"group_size": 1}, "task_list": [task]}
    (wd / "run.json").write_text(json.dumps(given))

    def pilotfish_(*words: str) -> str:
        command = [sys.executable, "-m", "pilotfish", *words]
        done = subprocess.run(command, cwd=wd, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == (75 if "--detach" in words else 0), done.stderr
        return done.stdout

    assert "bash -l" in pilotfish_("submit", "run.json", "--dry-run")
    assert cloud.requests == []
    pilotfish_("submit", "run.json", "--detach")
    records = [each for each in Path(os.environ["PILOTFISH_HOME"]).rglob("*") if each.is_file()]
    assert not [each for each in records if re.search(b"s3cret|k3y|s1001", each.read_bytes())]
    pilotfish_("submissions", "watch", "last", "--check-interval", "1")
    assert (wd / "w/a/out").read_text() == "done\n"


def test_scripts_of_dpdispatcher_work(cloud: Cloud, kind: str, wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its classes and names, single methods, and the answers of `isinstance`."""
    monkeypatch.chdir(wd)
    (wd / "w/a").mkdir(parents=True)
    made = pilotfish.Machine.load_from_dict(machine(kind))
    name = {"Bohrium": "DpCloudServer", "OpenAPI": "OpenAPI"}[kind]
    assert isinstance(made, getattr(pilotfish, name))
    assert isinstance(made.context, getattr(pilotfish, f"{name}Context"))
    task = pilotfish.Task(command="echo done >out; exit 0", task_work_path="a", backward_files=["out"])
    submission = pilotfish.Submission("w", made, pilotfish.Resources(group_size=1), task_list=[task])
    submission.generate_jobs()
    (job,) = submission.belonging_jobs
    assert made.gen_script_header(job) == "#!/bin/bash -l"
    submission.run_submission(check_interval=1, clean=False)
    assert (wd / "w/a/out").read_text() == "done\n"
    assert made.check_finish_tag(job)
    assert made.get_exit_code(job) == 0


def test_the_doctor_logs_in_and_runs_a_job(cloud: Cloud, kind: str) -> None:
    given = parse_machine(machine(kind))
    with build_context(given) as context:
        found = {each.what: each for each in examine(given, context, wait_s=PATIENCE_S)}
    assert [each for each in found.values() if not each.ok and not each.warning] == []
    assert {"connection", "write access", "job of one second"} <= found.keys()


def test_the_doctor_says_what_is_wrong_with_the_login(cloud: Cloud, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOHRIUM_PASSWORD", "wrong")
    monkeypatch.setenv("KEY_OF_ANN", "wrong")
    given = parse_machine(machine(kind))
    with build_context(given) as context:
        (found,) = list(examine(given, context))
    assert not found.ok
    assert found.remedy in ("email, password?", "is the access key right, and still valid?")


def test_a_ticket_replaces_the_login(to_cloud: Make, cloud: Cloud, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "OpenAPI":
        return
    monkeypatch.setenv("BOHR_TICKET", "a ticket")
    assert to_cloud("echo >out", profile={"password": None}).run(check_interval_s=0.5).over
    assert cloud.logins == 0


def test_a_submission_that_has_grown_goes_on_with_the_jobs_that_run(to_cloud: Make, cloud: Cloud, wd: Path) -> None:
    """What the first has begun is taken over, though its folder gets another name."""
    ran = wd / "ran"
    first = [f"until [ -e {wd}/go ]; do sleep 0.05; done; echo {name} >>{ran}; cp in out" for name in "ab"]
    to_cloud(*first).run(detach=True)
    (wd / "go").touch()
    assert to_cloud(*first, f"echo c >>{ran}; cp in out").run(check_interval_s=0.5).over
    assert sorted(ran.read_text().split()) == ["a", "b", "c"]
    assert [(wd / f"here/w/t{at}/out").read_text() for at in range(3)] == ["0\n", "1\n", "2\n"]


def test_results_are_kept_where_that_is_asked_for(to_cloud: Make, cloud: Cloud, wd: Path) -> None:
    made = to_cloud("cp in out", profile={"keep_backup": True})
    assert made.run(check_interval_s=0.5).over
    (kept,) = (wd / "here/backup").iterdir()
    with zipfile.ZipFile(kept) as packed:
        assert packed.read("t0/out") == b"0\n"


def test_a_file_that_init_writes_loads(kind: str, wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is the user's own is left to be written."""
    monkeypatch.chdir(wd)
    words = ["--machine", kind, "--queue", "", "--nodes", "1", "--cores", "1", "--walltime", "1h"]
    done = CliRunner().invoke(init, [*words, str(wd / "s.yaml")])
    assert done.exit_code == 0, done.output
    machine = load_submission(wd / "s.yaml").machine
    assert (machine.batch_type, machine.context_type, machine.remote_root) == (kind, f"{kind}Context", None)


def test_a_single_job_runs_there(cloud: Cloud, kind: str, wd: Path) -> None:
    """Its folder is here; what it prints comes back into it."""
    with pytest.raises(InconsistentError):
        single_job(machine(kind) | {"context_type": "Local", "remote_root": "/r", "remote_profile": {}}, wd)
    job = single_job(machine(kind), wd)
    job.submit(Script("echo told; exit 3", out="o"))
    wait_until(lambda: look_at([job])[0].state.ended, "the job to end")
    assert look_at([job])[0].exit_code == 3
    assert (wd / "single/o").read_text() == "told\n"


@pytest.mark.parametrize(
    ("kind", "profile", "message"),
    [
        ("Bohrium", {"email": None}, "can not find email/phone number in remote_profile"),
        ("Bohrium", {"password": None}, "can not find password in remote_profile"),
        ("Bohrium", {"input_data": {"job_type": "container", "api_version": 1}}, "version 1 is gone"),
        ("Bohrium", {"input_data": {}}, "key 'job_type' is required"),
        ("OpenAPI", {"access_key": None}, "remote_profile must contain 'access_key' or set .*'BOHRIUM_ACCESS_KEY'"),
        ("OpenAPI", {"project_id": None}, "remote_profile must contain 'project_id' or set .*'BOHRIUM_PROJECT_ID'"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_begun(
    to_cloud: Make, cloud: Cloud, profile: dict[str, Any], message: str
) -> None:
    """In DPDispatcher's words, and as a ValueError."""
    made = to_cloud("true", profile=profile)
    with pytest.raises(DescriptionError, match=message):
        made.run()
    assert cloud.requests == []
