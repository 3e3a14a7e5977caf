"""The launcher on a real Grid Engine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grid_engine import GridEngine
from patience import wait_until

from pilotfish.launcher.contexts.base import Context, Done
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError


@pytest.fixture
def submission(sge: GridEngine, wd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Placement]:
    """Submissions whose commands run on the cluster's `ctl`, where its users are."""
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    variables = [f"{name}={value}" for name, value in sge.environ.items() if name.startswith("SGE") or name == "PATH"]

    class OnCtl(LocalContext):
        def run(self, command: str, *, cwd: str | None = None, **options: Any) -> Done:
            folder = f"cd {shlex.quote(cwd)} || exit 73; " if cwd else ""
            words = sge.hosts.ctl.command("env", *variables, "sh", "-c", folder + command)
            return super().run(users(shlex.join(words)), **options)

    class OnGridEngine(Placement):
        def context(self) -> Context:
            return OnCtl(Path(self.description.machine.local_root), self.description.machine.remote_root, {})

    def make(*tasks: dict[str, Any], **resources: Any) -> Placement:
        machine = {
            "batch_type": "SGE",
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        given = {"group_size": 1, "kwargs": {"pe_name": "smp"}} | resources
        found = {"work_base": "w", "machine": machine, "resources": given, "task_list": list(tasks)}
        return OnGridEngine(parse_submission(found))

    return make


def rows(wd: Path) -> dict[str, dict[str, Any]]:
    return {row["folder"]: row for row in json.loads((wd / "here/w/results.json").read_text())}


def test_jobs_bring_their_results_home(submission: Callable[..., Placement], wd: Path) -> None:
    command = "hostname >out; echo $NSLOTS >>out"
    tasks = [{"command": command, "task_work_path": f"t{n}", "backward_files": ["out"]} for n in range(3)]
    submission(*tasks, cpu_per_node=2).run(check_interval_s=1)
    outputs = [(wd / f"here/w/t{n}/out").read_text().split() for n in range(3)]
    assert all(host.startswith("node") and slots == "2" for host, slots in outputs)


def test_bad_ends_have_their_reasons(submission: Callable[..., Placement], sge: GridEngine, wd: Path) -> None:
    tasks = [
        {"command": "exit 7", "task_work_path": "error"},
        {"command": "touch $REMOTE_ROOT/begun; sleep 1000", "task_work_path": "cancelled"},
    ]
    made = submission(*tasks)
    made.run(detach=True)
    wait_until(Path(made.context().root_for(made.hash, "w"), "begun").exists, "the job to start")
    work = made.work(made.context())
    ids = {work.tasks[job.tasks[0]].task_work_path: job.id for job in made.peek().jobs.values()}
    sge.run("qdel", ids["cancelled"])
    with pytest.raises(SubmissionFailedError):
        made.run(check_interval_s=1)
    assert {folder: row["reason"] for folder, row in rows(wd).items()} == {
        "error": "exit code 7",
        "cancelled": "cancelled",
    }
    assert rows(wd)["error"]["exit_code"] == 7


def test_a_job_that_grid_engine_cannot_start_ends_with_its_words(
    submission: Callable[..., Placement], sge: GridEngine
) -> None:
    """Its output goes into a folder that is not there: it stays in the state Eqw until somebody looks."""
    made = submission({"command": "true", "task_work_path": "a"}, custom_flags=["#$ -o /nowhere/out"])
    with pytest.raises(SubmissionFailedError, match=r"can never start: error state: .*/nowhere"):
        made.run(check_interval_s=1)
    wait_until(lambda: "Eqw" not in sge.run("qstat"), "the job to be taken out of the queue")
