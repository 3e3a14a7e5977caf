"""The limits of a real Slurm: arrays that are too large, jobs that can never start, limits of a QOS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accounting
import pytest
from emulated import Slurm
from patience import wait_until
from real import SLURM_PROGRAMS, require

from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


@pytest.fixture(scope="module")
def limited() -> Iterator[Slurm]:
    """A Slurm that takes arrays of 5 elements at most, and holds what a QOS says."""
    require("unshare", "nsenter", *SLURM_PROGRAMS, *accounting.PROGRAMS)
    with Slurm(nodes=2, accounting=True, extra="MaxArraySize=5\nAccountingStorageEnforce=limits,qos\n") as cluster:
        for words in (
            "add qos strict set maxwall=1 flags=DenyOnLimit",
            "add qos patient set maxwall=1",
            "add qos one set maxsubmitjobsperuser=1",
            "modify user root set qos+=strict,patient,one",
        ):
            cluster.run("sacctmgr", "-i", *words.split())
        wait_until(lambda: "QOS=one" in cluster.run("scontrol", "show", "assoc_mgr", "flags=qos"), "the limits")
        yield cluster


@pytest.fixture
def submission(limited: Slurm, wd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, limited.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))

    def make(*commands: str, batch_type: str = "Slurm", **resources: Any) -> Placement:
        machine = {"batch_type": batch_type, "context_type": "Local", "retry_count": 0}
        machine |= {"local_root": str(wd / "here"), "remote_root": str(wd / "there")}
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        tasks = [{"command": text, "task_work_path": f"t{at}"} for at, text in enumerate(commands)]
        found = {"work_base": "w", "machine": machine, "resources": {"group_size": 1} | resources, "task_list": tasks}
        return Placement(parse_submission(found), tell=told.append)

    told: list[str] = []
    make.told = told  # type: ignore[attr-defined]
    return make


def test_an_array_larger_than_the_site_takes_runs_whole(submission: Make, wd: Path) -> None:
    made = submission(*[f"echo x >>{wd}/ran{at}" for at in range(12)], batch_type="SlurmJobArray", group_size=0)
    assert made.run(check_interval_s=1).over
    assert [(wd / f"ran{at}").read_text() for at in range(12)] == ["x\n"] * 12
    assert [line for line in submission.told if re.search(r"submitted as \d+,\d+,\d+$", line)]  # type: ignore[attr-defined]


def test_such_an_array_is_ended_whole(submission: Make, limited: Slurm) -> None:
    made = submission(*["sleep 1000"] * 7, batch_type="SlurmJobArray", group_size=0)
    made.run(detach=True)
    made.cancel()
    wait_until(lambda: limited.run("squeue", "-h").strip() == "", "no job to be left")


def test_a_job_that_waits_for_one_that_failed_ends_with_slurms_words(
    submission: Make, limited: Slurm, wd: Path
) -> None:
    failed = limited.submit("exit 3", wd, "--ntasks=1")
    limited.wait_for_end(failed)
    made = submission("true", custom_flags=[f"#SBATCH --dependency=afterok:{failed}"])
    with pytest.raises(SubmissionFailedError, match="can never start: DependencyNeverSatisfied"):
        made.run(check_interval_s=1)
    assert limited.run("squeue", "-h").strip() == ""


def test_a_limit_that_is_told_at_once_is_a_refusal(submission: Make) -> None:
    with pytest.raises(SubmissionFailedError, match="QOSMaxWallDurationPerJobLimit"):
        submission("true", qos="strict", walltime="10m").run(check_interval_s=1)


def test_a_limit_that_is_told_later_ends_the_job_too(submission: Make) -> None:
    with pytest.raises(SubmissionFailedError, match="can never start: QOSMaxWallDurationPerJobLimit"):
        submission("true", qos="patient", walltime="10m").run(check_interval_s=1)


def test_a_limit_of_jobs_is_waited_for(submission: Make, wd: Path) -> None:
    made = submission("sleep 1; touch $REMOTE_ROOT/../a", "true", qos="one")
    assert made.run(check_interval_s=1).over
    assert [line for line in submission.told if "takes no job now" in line]  # type: ignore[attr-defined]
