"""The batch scripts of docs/batch/, as they stand: run where there is a real system, else read by a shell."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from emulated import Slurm
from grid_engine import GridEngine

PAGES = sorted((Path(__file__).parents[2] / "docs" / "batch").glob("*.md"))
TASKS = 60


def _script_of(page: str, wd: Path) -> Path:
    """The first block of the page, beside the tasks that it runs."""
    (text,) = [path.read_text() for path in PAGES if path.stem == page]
    block = re.search(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    (wd / "script.sh").write_text(block[1])
    (wd / "tasks.txt").write_text("".join(f"echo {number} $(hostname); sleep 0.1\n" for number in range(TASKS)))
    return wd / "script.sh"


def _hosts_of_tasks(wd: Path) -> list[str]:
    """The hosts that ran tasks; each task must have run once."""
    lines = [path.read_text().split() for path in (wd / "pilotfish-output").glob("*.out")]
    assert sorted(int(number) for number, _ in lines) == list(range(TASKS))
    return sorted(Counter(host for _, host in lines))


def test_the_script_for_slurm(slurm: Slurm, wd: Path) -> None:
    script = _script_of("slurm", wd)
    job = slurm.run("sbatch", "--parsable", f"--chdir={wd}", f"--output={wd}/log", str(script)).strip()
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / "log").read_text()
    assert _hosts_of_tasks(wd) == slurm.node_names


def test_the_script_for_grid_engine(sge: GridEngine, wd: Path) -> None:
    script = _script_of("grid-engine", wd)
    job = sge.run("qsub", "-terse", "-wd", str(wd), "-j", "yes", "-o", f"{wd}/log", str(script)).strip()
    assert sge.wait_for_end(job)["exit_status"] == "0", (wd / "log").read_text()
    assert _hosts_of_tasks(wd) == sge.node_names


@pytest.mark.parametrize("page", [path.stem for path in PAGES])
def test_every_script_is_one_for_bash(page: str, wd: Path) -> None:
    script = _script_of(page, wd)
    assert script.read_text().splitlines()[-1] == "pilotfish run tasks.txt"
    subprocess.run(["bash", "-n", str(script)], check=True)
