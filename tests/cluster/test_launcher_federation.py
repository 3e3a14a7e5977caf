"""The launcher beside a federation of two real Slurm clusters, `tests` and `east`, with one accounting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import accounting
import pytest
from emulated import Slurm
from patience import wait_until
from real import SLURM_PROGRAMS, require

from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement


@pytest.fixture(scope="module")
def east() -> Iterator[Slurm]:
    require("unshare", "nsenter", *SLURM_PROGRAMS, *accounting.PROGRAMS)
    with Slurm(nodes=1, accounting=True) as here, Slurm(nodes=1, accounting=True, name="east", beside=here) as there:
        here.run("sacctmgr", "-i", "add", "federation", "all", "clusters=tests,east")
        here.run("sacctmgr", "-i", "modify", "cluster", "east", "set", "features=there")
        there.environ["SLURM_CONF"] = here.environ["SLURM_CONF"]  # its users are on the other one
        wait_until(
            lambda: "Synced:Yes" in there.run("scontrol", "show", "federation"), "the clusters to know each other"
        )
        yield there


@pytest.mark.parametrize("flag", ["#SBATCH --clusters=east", "#SBATCH --cluster-constraint=there"])
def test_a_job_that_runs_on_the_other_cluster_runs_once(
    east: Slurm, wd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flag: str
) -> None:
    """Once it is sent there, once the federation gives it away: then its number is that of the cluster here."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, east.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    machine = {"batch_type": "Slurm", "context_type": "Local", "retry_count": 3}
    machine |= {"local_root": str(wd / "here"), "remote_root": str(wd / "there")}
    (wd / "here/w").mkdir(parents=True)
    command = f"echo $SLURM_CLUSTER_NAME >>{wd}/starts; until [ -e {wd}/go ]; do sleep 0.1; done"
    resources = {"group_size": 1, "custom_flags": [flag]}
    task = {"command": command, "task_work_path": "a"}
    found = {"work_base": "w", "machine": machine, "resources": resources, "task_list": [task]}
    now, looks = [1e9], [0]

    def sleep(seconds: float) -> None:
        now[0] += 20
        time.sleep(0.2)
        looks[0] += (wd / "starts").exists()
        if looks[0] == 25:
            (wd / "go").touch()

    made = Placement(parse_submission(found), tell=print)
    made._tools = replace(made._tools, clock=lambda: now[0], sleep=sleep)
    assert made.run(check_interval_s=1).over
    assert (wd / "starts").read_text() == "east\n"
