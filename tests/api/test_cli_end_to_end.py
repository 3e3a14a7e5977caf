"""`pilotfish run` that is stopped before its work is done: the tasks end, and the user is told what was done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from patience import PATIENCE_S

# A shell that starts tests in the background lets them ignore Ctrl-C, and children inherit that.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "pilotfish"
from pilotfish.__main__ import main
main()
"""


def start_run(*words: str, wd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, "run", "--nodes", "1", "--json", *words]
    return subprocess.Popen(command, cwd=wd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_stops_the_tasks_and_tells_what_was_done(wd: Path, wait_until: Callable[..., None]) -> None:
    """The first of two tasks ends, the second one is running when the user gives up."""
    (wd / "tasks.txt").write_text("true\ntouch runs; sleep 1000\n")
    process = start_run("tasks.txt", wd=wd)
    wait_until((wd / "runs").exists, "the second task runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert err == "interrupted: tasks stopped\n"
    assert process.returncode == 130
    states = {failure["name"]: failure["state"] for failure in json.loads(out)["failures"]}
    assert (json.loads(out)["succeeded"], states) == (1, {"line-2": "CANCELED"})


def test_too_many_failures_stop_the_rest_and_are_shown(wd: Path) -> None:
    (wd / "tasks.txt").write_text("exit 3\nsleep 1000\n")
    process = start_run("--max-fails", "1", "tasks.txt", wd=wd)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert err == "1 tasks have failed: stopped\n"
    assert process.returncode == 1
    states = {failure["name"]: failure["state"] for failure in json.loads(out)["failures"]}
    assert states == {"line-1": "FAILED", "line-2": "CANCELED"}
