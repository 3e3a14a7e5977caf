"""The batch system's warning that the end is near may come before a command has begun."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

EARLY = """
import os, sys
from pilotfish.__main__ import main

class Warned:
    "Whatever is imported then, the warning comes in that moment."
    def find_spec(self, name, path=None, target=None):
        if name == WHEN:
            os.kill(os.getpid(), NUMBER)

sys.meta_path.insert(0, Warned())
main()
"""


def warned(wd: Path, when: str, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    """The command `words`, which gets the signal while it imports the module `when`."""
    program = f"WHEN, NUMBER = {when!r}, {int(number)}\n{EARLY}"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGXCPU])
@pytest.mark.parametrize("when", ["click", "pilotfish.api.run"])
def test_a_run_that_is_warned_while_it_is_loaded_leaves_its_work_to_the_next(wd: Path, when: str, number: int) -> None:
    """... with the exit code that says so, and the work on record."""
    (wd / "tasks.txt").write_text("touch ran\n")
    done = warned(wd, when, number, "run", "--nodes", "1", "--json", "tasks.txt")
    assert done.returncode == 75, done.stderr
    assert "work is left; continue with --resume ." in done.stderr
    assert json.loads(done.stdout)["tasks"] == 1
    assert not (wd / "ran").exists()


def test_a_service_that_is_warned_while_it_is_loaded_starts_nothing(wd: Path) -> None:
    requests = [
        {"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "touch", "args": ["ran"]}}]},
        {"request": "control", "command": "finishAfterAllTasksDone"},
    ]
    (wd / "requests.json").write_text(json.dumps(requests))
    done = warned(wd, "pilotfish.pilot.cli", signal.SIGUSR1, "service", "--nodes", "1", "--file-path", "requests.json")
    assert done.returncode == 75, done.stderr
    assert not (wd / "ran").exists()


def test_a_command_to_which_a_warning_means_nothing_ends_of_it(wd: Path) -> None:
    done = warned(wd, "click", signal.SIGUSR1, "jobs")
    assert done.returncode == -signal.SIGUSR1
