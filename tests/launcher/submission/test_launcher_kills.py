"""The launcher is killed at every step; the same command then goes on, nothing is lost and nothing runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S, THOROUGH

TASKS = 6


@pytest.fixture
def file(wd: Path) -> Path:
    """Six tasks in six jobs; each notes its start on the machine and brings back a file."""
    for number in range(TASKS):
        (wd / f"here/t{number}").mkdir(parents=True)
        (wd / f"here/t{number}/in").write_text(f"{number}")
    tasks = [
        {
            "command": f"echo t{number} >>{wd}/starts; sleep 0.2; cat in >out",
            "task_work_path": f"t{number}",
            "forward_files": ["in"],
            "backward_files": ["out"],
        }
        for number in range(TASKS)
    ]
    machine = {"batch_type": "Shell", "context_type": "Local", "local_root": str(wd), "remote_root": str(wd / "there")}
    (wd / "s.json").write_text(
        json.dumps({"work_base": "here", "machine": machine, "resources": {"group_size": 1}, "task_list": tasks})
    )
    return wd / "s.json"


def command(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pilotfish", "submit", str(file), "--clean", "never", "--quiet", *options]


def journal_size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("submissions/*/journal"))


def check(file: Path) -> None:
    """All results are home, and each task was started once."""
    wd = file.parent
    for number in range(TASKS):
        assert (wd / f"here/t{number}/out").read_text() == f"{number}"
    starts = (wd / "starts").read_text().split()
    assert sorted(starts) == sorted(set(starts)) == [f"t{number}" for number in range(TASKS)]


@pytest.mark.parametrize("seed", range(4 if THOROUGH else 2))
def test_killed_again_and_again(file: Path, tmp_path: Path, seed: int) -> None:
    """SIGKILL a little after the journal has grown, at random places, until the work is done."""
    chance = random.Random(seed)
    home = Path(os.environ["PILOTFISH_HOME"])
    for _ in range(500):
        before = journal_size(home)
        process = subprocess.Popen(command(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        grown = before + chance.randrange(0, 600)
        while process.poll() is None and journal_size(home) <= grown:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
    else:
        pytest.fail("not done after 500 kills")
    check(file)


def test_a_signal_ends_the_launcher_in_order_and_the_jobs_go_on(file: Path, wait_until: Callable[..., None]) -> None:
    process = subprocess.Popen(command(file), stderr=subprocess.PIPE, text=True)
    wait_until((file.parent / "starts").exists, "a task to start")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143
    assert process.stderr is not None
    process.stderr.close()
    assert subprocess.run(command(file), check=False).returncode == 0
    check(file)


def test_a_job_whose_id_was_lost_is_found(file: Path) -> None:
    """As if the launcher had died between submitting and writing the id down: the journal's last lines are cut off."""
    assert subprocess.run(command(file, "--detach"), check=False).returncode == 75
    (journal,) = Path(os.environ["PILOTFISH_HOME"]).glob("submissions/*/journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b'"Submitted"' in lines[-1]
    journal.write_bytes(b"".join(lines[:-1]))
    assert subprocess.run(command(file), check=False).returncode == 0
    check(file)


def test_a_job_that_was_submitted_twice_runs_once(file: Path) -> None:
    """As before, and the machine has lost the id too."""
    assert subprocess.run(command(file, "--detach"), check=False).returncode == 75
    (journal,) = Path(os.environ["PILOTFISH_HOME"]).glob("submissions/*/journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    lost = json.loads(lines[-1][9:])["job"]
    for path in (file.parent / "there").glob(f"*/.{lost}.0.id"):
        path.unlink()
    assert subprocess.run(command(file), check=False).returncode == 0
    check(file)
