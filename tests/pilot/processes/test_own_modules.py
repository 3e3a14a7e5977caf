"""Files in the folder where a pilot works are data, whatever they are called and whoever has put them there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from patience import PATIENCE_S
from real_pilot import remote_nodes

from pilotfish import Jobs, LocalManager

NAMES = ("resource", "logging", "signal", "socket", "json", "secrets", "queue", "zmq", "msgspec", "psutil", "click")
"""Modules that a pilot needs: of Python and of others, loaded by all of its processes."""


@pytest.fixture
def trapped(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder has files with the names of modules; each of them notes that it was run."""
    for name in NAMES:
        (wd / f"{name}.py").write_text(f"open({str(wd / 'was-run')!r}, 'w')\nraise SystemExit('not the real {name}')\n")
    monkeypatch.chdir(wd)
    return wd


def was_run(folder: Path) -> bool:
    return (folder / "was-run").exists()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["on this host", "started by a launcher"])
def test_manager_and_agents_run_no_file_of_the_current_folder(
    trapped: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    options: Sequence[str] = ()
    if elsewhere:
        options, environ = remote_nodes(trapped)
        monkeypatch.setenv("PATH", environ["PATH"])
    with LocalManager(["--nodes", "n1:1", *options], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true"))
        assert pilot.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    assert not was_run(trapped)


def test_run_runs_no_file_of_the_current_folder(trapped: Path) -> None:
    command = [str(Path(sys.executable).with_name("pilotfish")), "run", "--nodes", "1", "--", "true"]
    done = subprocess.run(command, cwd=trapped, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert not was_run(trapped)


def test_a_program_of_the_user_finds_its_own_modules(trapped: Path) -> None:
    """What a task runs is not ours: Python looks there where it always does."""
    (trapped / "helper.py").write_text("print('found')\n")
    (trapped / "program.py").write_text("import helper\n")
    with LocalManager(["--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec=sys.executable, args=["program.py"], stdout="out"))
        assert pilot.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    assert (trapped / "out").read_text() == "found\n"
