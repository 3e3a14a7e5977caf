"""A job that a task submits is a job of its own: what the commands in the pilot's folder pass on to the real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fake_manager import FakeManager

from pilotfish.pilot.agent.submit_commands import lay_ready
from pilotfish.pilot.model.job_spec import Execution

OF_THIS_JOB = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_CPU_BIND": "mask_cpu:0x1",
    "SLURM_STEP_NODELIST": "n1",
    "SBATCH_CPU_BIND": "none",
    "QCG_PM_NPROCS": "2",
    "PILOTFISH_CONNECTION": "/there/connection.json",
    "PILOTFISH_TASK": "a",
    "HWLOC_XMLFILE": "/tmp/x",
}
OF_THE_USER = {
    "SLURM_CONF": "/etc/slurm.conf",
    "SBATCH_ACCOUNT": "physics",
    "HWLOC_THISSYSTEM": "1",
    "PILOTFISH_HOME": "h",
}


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder with an `sbatch` that prints its arguments and its environment."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "sbatch").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv\n')
    (folder / "sbatch").chmod(0o755)
    return folder


def test_a_job_gets_what_the_user_has_set_and_nothing_of_this_one(tmp_path: Path, real: Path) -> None:
    before = f"{real}:/usr/bin:/bin"
    path = lay_ready(str(tmp_path), before, ["HWLOC_XMLFILE"])
    said = subprocess.run(
        ["sbatch", "--wrap", "two words"],
        env={"PATH": path, **OF_THIS_JOB, **OF_THE_USER},
        executable=tmp_path / "commands" / "sbatch",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[:2] == ["--wrap", "two words"]
    variables = dict(line.split("=", 1) for line in said[2:])
    assert {name: value for name, value in variables.items() if name not in ("PWD", "_", "SHLVL", "LC_CTYPE")} == {
        "PATH": before,
        **OF_THE_USER,
    }


def test_there_are_only_commands_that_are_there(tmp_path: Path, real: Path) -> None:
    lay_ready(str(tmp_path), str(real), [])
    assert sorted(os.listdir(tmp_path / "commands")) == ["sbatch", "submit.py"]


def test_without_a_batch_system_the_path_is_the_user_s(tmp_path: Path) -> None:
    assert lay_ready(str(tmp_path), str(tmp_path), []) == str(tmp_path)
    assert os.listdir(tmp_path) == []


def test_without_a_shared_folder_the_path_is_the_user_s(tmp_path: Path, real: Path) -> None:
    assert lay_ready(str(tmp_path / "nowhere"), str(real), []) == str(real)


def test_a_task_calls_it_by_its_name(tmp_path: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{real}:{os.environ['PATH']}")
    with FakeManager(tmp_path) as manager:
        manager.start_agent()
        manager.welcome()
        assert manager.run(Execution(script="sbatch a.sh; env >seen", stdout="out")).exit_code == 0
    assert "PILOTFISH_TASK=" in (tmp_path / "seen").read_text()
    said = (tmp_path / "out").read_text()
    assert said.startswith("a.sh\n")
    assert "PILOTFISH_TASK=" not in said
    assert "QCG_PM_" not in said
