"""`pilotfish job`, and what `pilotfish submissions` says of single batch jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pilotfish import AsyncResult, JobScript
from pilotfish.launcher.cli.job import job
from pilotfish.launcher.cli.submissions import submissions
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED
from pilotfish.launcher.contexts.base import ContextLostError
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job import store
from pilotfish.launcher.job.ends import Folder
from pilotfish.launcher.job.single import JobRecord
from pilotfish.launcher.job.states import JobState, Status
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.single import SingleJob
from pilotfish.pilot.model.errors import PilotfishError

UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setattr(JobScript, "backend", "shell")
    monkeypatch.setattr(JobScript, "max_sleep_interval", 0.05)
    yield
    (wd / "go").touch()
    for record in store.all_records():
        if not record.over:
            SingleJob(record).cancel()


def call(command: click.Command, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(command, list(words), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def rows(*words: str, code: int = 0) -> list[dict[str, Any]]:
    found = json.loads(call(job, *words, "--json", code=code))
    assert found["version"] == 1
    jobs: list[dict[str, Any]] = found["jobs"]
    return jobs


def test_jobs_are_listed_with_their_states(wd: Path) -> None:
    JobScript("exit 4", "bad").submit().get()
    JobScript("true", "none", prologue="exit 3").submit()
    living = JobScript(UNTIL_GO, "long").submit()
    found = [(row["name"], row["state"], row["reason"], row["exit_code"]) for row in rows("list")]
    assert found == [
        ("long", "running", "", None),
        ("none", "refused", "the prologue ended with 3", None),
        ("bad", "failed", "program", 4),
    ]
    lines = call(job, "list").splitlines()
    assert [
        word in line for word, line in zip([str(living.job_id), "prologue", "exit code 4"], lines, strict=True)
    ] == [True] * 3
    (wd / "go").touch()
    assert living.get() == COMPLETED


def test_what_is_known_here_is_told_without_asking(wd: Path) -> None:
    living = JobScript(UNTIL_GO, "long").submit()
    assert [row["state"] for row in rows("list", "--offline")] == ["submitted"]
    assert [row["state"] for row in rows("show", "last")] == ["running"]
    assert [row["id"] for row in rows("show", "last", "--offline")] == [living.job_id]
    text = call(job, "show", str(living.job_id))
    assert f"folder       {wd}" in text
    assert "state        running" in text


@pytest.mark.parametrize(("body", "code"), [("true", 0), ("exit 4", 1)])
def test_waiting_ends_as_the_job_does(body: str, code: int) -> None:
    JobScript(body, "j").submit()
    (row,) = rows("wait", "last", code=code)
    assert row["exit_code"] == 4 * code


def test_waiting_gives_up_after_its_time(wd: Path) -> None:
    JobScript(UNTIL_GO, "j").submit()
    assert rows("wait", "last", "--timeout", "0", code=75)[0]["state"] == "running"


def test_cancelled_jobs_are_cancelled_for_all_handles(wd: Path) -> None:
    result, done = JobScript("sleep 1000", "j").submit(), JobScript("true", "k").submit()
    assert done.get() == COMPLETED
    result.dump("kept")
    found = rows("cancel", str(result.job_id), str(done.job_id))
    assert [row["state"] for row in found] == ["cancelled", "finished"]
    assert (result.status, AsyncResult.load("kept").status) == (CANCELLED, CANCELLED)


def test_only_what_is_over_is_removed(wd: Path) -> None:
    JobScript("true", "done").submit().get()
    living = JobScript(UNTIL_GO, "long").submit()
    assert living.job is not None
    with pytest.raises(PilotfishError, match=r"is not over.*give --force"):
        call(job, "rm", living.job.hash)
    assert [row["name"] for row in rows("rm", "--over")] == ["done"]
    assert [row["name"] for row in rows("list")] == ["long"]
    call(job, "rm", code=2)
    call(job, "rm", "--force", "last")
    assert rows("list") == []
    living.cancel()


def test_a_machine_that_is_gone_hides_no_other(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs are listed as they were, and can be given up."""
    JobScript("true", "here").submit()
    profile = {"hostname": "gone"}
    far = parse_machine(
        {
            "batch_type": "Slurm",
            "context_type": "SSH",
            "local_root": ".",
            "remote_root": "/r",
            "remote_profile": profile,
        }
    )
    placed = (
        JobRecord("f" * 40, far, "/r", "far", ends=Folder("/r/jobs", "gone"), created_s=1.0).intended(1.0).placed("7")
    )
    store.create(placed.seen(Status(JobState.running)))

    def lost(*_: Any, **__: Any) -> Any:
        raise ContextLostError("cannot be reached", where="gone")

    for name in ("run", "read"):
        monkeypatch.setattr(SSHContext, name, lost)
    while rows("list")[0]["state"] != "finished":
        pass
    assert [(row["name"], row["state"]) for row in rows("list")] == [("here", "finished"), ("far", "running")]
    done = CliRunner().invoke(job, ["list"])
    assert "1 jobs as they were seen last: gone: cannot be reached" in done.stderr
    with pytest.raises(ContextLostError):
        call(job, "wait", "7")
    call(job, "rm", "7", "--force")
    assert [row["name"] for row in rows("list")] == ["here"]


def test_the_last_lines_are_read_on_the_machine(wd: Path) -> None:
    JobScript("seq 30; echo e >&2", "j").submit().get()
    found = json.loads(call(job, "logs", "last", "-n", "2", "--json"))
    assert found["logs"] == {"j.out": "29\n30\n", "j.err": "e\n"}
    assert call(job, "logs", "last", "-n", "1", "--stdout") == "30\n"


# --- submissions --------------------------------------------------------------------------------------------------------------


def test_submissions_show_single_jobs_beside_their_own(wd: Path, submission: Callable[..., Placement]) -> None:
    made = submission({"command": UNTIL_GO.replace("go", f"{wd}/go"), "task_work_path": "."})
    assert not made.run(detach=True).over
    JobScript("exit 4", "bad").submit().get()
    found = json.loads(call(submissions, "--json"))["submissions"]
    assert [(row["id"], row["state"], row["tasks"]["failed"]) for row in found] == [
        (next(store.all_records()).hash, "failed", 1),
        (made.hash, "placed", 0),
    ]
    assert len(call(submissions).splitlines()) == 2
    (wd / "go").touch()
    assert made.run(check_interval_s=0.5).over


def test_submissions_work_on_single_jobs(wd: Path) -> None:
    result = JobScript(f"echo out; {UNTIL_GO}", "j").submit()
    assert result.job is not None
    name = result.job.hash[:10]
    assert json.loads(call(submissions, "status", name, "--json"))["state"] == "running"
    (wd / "go").touch()
    call(submissions, "watch", name)
    assert call(submissions, "logs", "last", "--stdout") == "out\n"
    with pytest.raises(PilotfishError, match="is a single batch job"):
        call(submissions, "download", name)
    call(submissions, "clean", name)
    assert list(store.all_records()) == []
    again = JobScript("sleep 1000", "j").submit()
    assert json.loads(call(submissions, "cancel", "last", "--json"))["cancelled"] == 1
    assert again.status == CANCELLED
