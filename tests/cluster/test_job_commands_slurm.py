"""`pilotfish job` on a real Slurm: what is run, handed over and waited for there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from emulated import Slurm

from pilotfish.launcher.cli.job import job


@pytest.fixture(autouse=True)
def on_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wd: Path) -> None:
    """This process is a user of that Slurm."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(wd)


def call(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(job, list(words), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def told(*words: str, code: int = 0) -> Any:
    return json.loads(call(*words, "--json", code=code))


def test_commands_and_scripts_on_slurm(wd: Path) -> None:
    """Files, a profile, a script with directives, a dependency that fails, the queue, waiting for what others submitted."""
    for name in "ab":
        (wd / f"{name}.txt").write_text(name)
    call("profile", "create", "two", "cores=2", "time=5:00")
    jobs = told("run", "-p", "two", "echo $SLURM_CPUS_PER_TASK $(cat {}) >{.}.got", "a.txt", "b.txt", "-w")["jobs"]
    assert [(each["machine"], each["state"], each["name"]) for each in jobs] == [
        ("Slurm@here", "finished", "echo.a.txt"),
        ("Slurm@here", "finished", "echo.b.txt"),
    ]
    assert [(wd / f"{name}.got").read_text() for name in "ab"] == ["2 a\n", "2 b\n"]
    (wd / "x.sh").write_text(
        "#!/bin/bash\n#SBATCH --job-name own -o own.out\nuntil [ -e go ]; do sleep 0.1; done\nexit 3\n"
    )
    held = call("submit", "x.sh", "-t", "10:00", "--ids").strip()
    after = call("run", "--after", held, "--ids", "touch ran").strip()
    rows = {row["id"]: row for row in told("queue", "--all")["jobs"]}
    assert (rows[held]["name"], rows[held]["cores"]) == ("own", 1)
    assert rows[after]["state"] == "pending"
    assert set(call("queue", "--queued", "--running", "-l").split()) == {held, after}
    (wd / "go").touch()
    assert [each["exit_code"] for each in told("wait", held, "--check-interval", "0.5", code=1)["jobs"]] == [3]
    assert "depend" in told("wait", after, "--check-interval", "0.5", code=1)["jobs"][0]["reason"]
    assert not (wd / "ran").exists()
    assert (wd / "own.out").exists()
    call("rm", "--over")
    call("wait", held, code=1)  # nobody here knows it any more: the queue says that it has failed
