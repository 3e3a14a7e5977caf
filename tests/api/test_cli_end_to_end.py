"""`pilotfish run` that is stopped before its work is done: the tasks end, and the user is told what was done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
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


def counts(out: str) -> dict[str, int]:
    summary = json.loads(out)
    return {word: summary[word] for word in ("tasks", "succeeded", "failed", "stopped", "not_run")}


def test_ctrl_c_stops_the_tasks_and_tells_what_was_done(wd: Path, wait_until: Callable[..., None]) -> None:
    """The first of two tasks ends, the second one is running when the user gives up."""
    (wd / "tasks.txt").write_text("true\ntouch runs; sleep 1000\ntrue\n")
    process = start_run("tasks.txt", wd=wd)
    wait_until((wd / "runs").exists, "the second task runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert err == "interrupted; continue with: pilotfish run --nodes 1 --json tasks.txt --continue\n"
    assert process.returncode == 130
    assert counts(out) == {"tasks": 3, "succeeded": 1, "failed": 0, "stopped": 1, "not_run": 1}


def test_too_many_failures_stop_the_rest_and_are_shown(wd: Path) -> None:
    (wd / "tasks.txt").write_text("exit 3\nsleep 1000\n")
    process = start_run("--max-fails", "1", "tasks.txt", wd=wd)
    out, err = process.communicate(timeout=PATIENCE_S)
    how = "pilotfish run --nodes 1 --json --max-fails 1 tasks.txt --continue"
    assert err == f"1 tasks have failed: stopped; continue with: {how}\n"
    assert process.returncode == 1
    assert [failure["name"] for failure in json.loads(out)["failures"]] == ["line-1"]
    found = counts(out)
    assert (found["tasks"], found["failed"], found["stopped"] + found["not_run"]) == (2, 1, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_iterations_are_in_the_counts_and_their_job_is_not(
    wd: Path, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    """Two of thirty have ended, two are running, on two cores."""
    script = "[ ${it} -lt 2 ] || { touch runs-${it}; sleep 1000; }"
    (wd / "jobs.json").write_text(
        json.dumps([{"name": "j", "execution": {"script": script}, "iteration": {"stop": 30}}])
    )
    process = start_run("--nodes", "2", "jobs.json", wd=wd)
    wait_until(lambda: len(list(wd.glob("runs-*"))) == 2, "two tasks run", 60.0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert counts(out) == {"tasks": 30, "succeeded": 2, "failed": 0, "stopped": 2, "not_run": 26}


def test_a_second_ctrl_c_does_not_wait_for_tasks_and_keeps_them_all_the_same(
    wd: Path, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_KILL_GRACE", "1000")
    (wd / "tasks.txt").write_text(
        "[ -e go ] || { trap 'touch told' TERM; touch runs; while :; do sleep 0.1; done; }\ntrue\n"
    )
    process = start_run("tasks.txt", wd=wd)
    wait_until((wd / "runs").exists, "the task runs", 60.0)
    process.send_signal(signal.SIGINT)
    wait_until((wd / "told").exists, "the task has been told to end", 60.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert counts(out) == {"tasks": 2, "succeeded": 0, "failed": 0, "stopped": 1, "not_run": 1}
    (wd / "go").touch()
    out, err = start_run("tasks.txt", "--continue", wd=wd).communicate(timeout=60)
    assert counts(out) == {"tasks": 2, "succeeded": 2, "failed": 0, "stopped": 0, "not_run": 0}
