"""Work that the pilot was stopped before accepting is work that is left, and never a success."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api.local import LocalManager


def pilotfish(wd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    return subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize("iterations", [None, 5])
def test_a_time_that_is_over_before_anything_is_accepted_leaves_all_of_it(wd: Path, iterations: int | None) -> None:
    words = ["--iterations", str(iterations)] if iterations else []
    done = pilotfish(wd, "run", "--json", "--nodes", "1", "--walltime", "1s", *words, "--", "sleep", "100")
    told = json.loads(done.stdout)
    assert (done.returncode, told["tasks"]) == (75, iterations or 1), done.stderr
    assert told["stopped"] + told["not_run"] == told["tasks"]
    assert "work is left; continue with" in done.stderr


def test_to_go_on_with_a_run_that_has_accepted_nothing_needs_the_file(wd: Path) -> None:
    with LocalManager(["--wd", wd, "--nodes", 1]):
        pass
    done = pilotfish(wd, "run", "--continue", "--nodes", "1")
    assert done.returncode == 2, done.stderr
    assert "give the FILE or -- COMMAND again" in done.stderr
    (wd / "tasks.txt").write_text("touch ran\n")
    assert pilotfish(wd, "run", "tasks.txt", "--continue", "--nodes", "1").returncode == 0
    assert (wd / "ran").exists()
