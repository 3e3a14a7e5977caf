"""The Torque machine against Slurm's Torque commands (qsub, qstat, qdel of slurm-wlm-torque) on a real Slurm.

They speak Torque as far as they go: directives are read, jobs run, are listed and ended. They tell no exit codes, no reasons
and no real states of some ends, and attributes stand behind a tab; what became of a job is known from its own record only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulated import Slurm
from patience import wait_until
from real import require

from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


@pytest.fixture
def submission(slurm: Slurm, wd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    require("qsub", "qstat", "qdel")
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))

    def make(*tasks: dict[str, Any], **given: Any) -> Placement:
        machine = {
            "batch_type": "Torque",
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        resources = {"group_size": 1} | given.pop("resources", {})
        found = {"work_base": "w", "machine": machine, "resources": resources, "task_list": list(tasks), **given}
        return Placement(parse_submission(found), tell=print)

    return make


def task(folder: str, command: str, **more: Any) -> dict[str, Any]:
    return {"command": command, "task_work_path": folder, **more}


def rows(wd: Path) -> dict[str, dict[str, Any]]:
    return {row["folder"]: row for row in json.loads((wd / "here/w/results.json").read_text())}


def test_directives_are_read_and_results_come_home(submission: Make, wd: Path) -> None:
    command = "hostname >out; scontrol show job $SLURM_JOB_ID >>out"
    tasks = [task(f"t{n}", command, backward_files=["out"]) for n in range(3)]
    resources = {"number_node": 2, "cpu_per_node": 2, "walltime": "7m", "queue_name": "debug"}
    submission(*tasks, resources=resources).run(check_interval_s=1)
    for number in range(3):
        node, _, facts = (wd / f"here/w/t{number}/out").read_text().partition("\n")
        assert node.startswith("node")
        words = facts.split()
        assert {"NumNodes=2", "NumCPUs=4", "TimeLimit=00:07:00", "Partition=debug"} <= set(words)
    assert {row["exit_code"] for row in rows(wd).values()} == {0}


def test_exit_codes_come_from_the_jobs_own_records(submission: Make, wd: Path) -> None:
    with pytest.raises(SubmissionFailedError, match="1 of 2 jobs failed for good"):
        submission(task("bad", "exit 7"), task("good", "true")).run(check_interval_s=1)
    found = rows(wd)
    assert (found["bad"]["exit_code"], found["bad"]["reason"]) == (7, "exit code 7")
    assert found["good"]["exit_code"] == 0


def test_jobs_are_listed_with_one_command_and_cancelled(submission: Make, wd: Path, slurm: Slurm) -> None:
    made = submission(*(task(f"t{n}", f"touch {wd}/begun{n}; sleep 1000") for n in range(2)))
    made.run(detach=True)
    ids = [job.id for job in made.peek().jobs.values()]
    wait_until(lambda: all((wd / f"begun{n}").exists() for n in range(2)), "both jobs to start")
    found = build_machine("Torque").query(LocalContext(wd, str(wd), {}), ids)
    assert {name: status.state for name, status in found.items()} == dict.fromkeys(ids, JobState.running)
    assert all(status.nodes.startswith("node") for status in found.values())
    assert made.cancel() == 2
    assert [slurm.wait_for_end(name) for name in ids] == ["CANCELLED"] * 2


def test_an_end_that_the_commands_do_not_explain_is_still_an_end(submission: Make, wd: Path, slurm: Slurm) -> None:
    """Torque would tell by an exit code that somebody has ended the job; here it is only seen to be over, and has failed."""
    made = submission(task("ended", f"touch {wd}/begun; sleep 1000"))
    made.run(detach=True)
    wait_until((wd / "begun").exists, "the job to start")
    slurm.run("scancel", *(job.id for job in made.peek().jobs.values()))
    with pytest.raises(SubmissionFailedError, match="1 of 1 jobs failed for good"):
        made.run(check_interval_s=1)
    assert (rows(wd)["ended"]["state"], rows(wd)["ended"]["reason"]) == ("failed", "program")
