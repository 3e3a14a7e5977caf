"""The end of the allocation: what is started before it, how tasks are stopped, and how the next allocation goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S
from process_state import children_of, kill

from pilotfish.pilot.manager.end_margin import margin_for


def start(wd: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pilotfish", "run", "--nodes", "1", "--json", *words]
    return subprocess.Popen(command, cwd=wd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that a test can wait for."""
    for name, value in {"END_MARGIN": "7", "KILL_GRACE": "1"}.items():
        monkeypatch.setenv(f"PILOTFISH_{name}", value)


@pytest.mark.usefixtures("short_margin")
@pytest.mark.parametrize("number", [None, signal.SIGUSR1])
def test_at_the_end_tasks_go_back_to_the_queue_and_the_next_run_does_the_rest(
    wd: Path, wait_until: Callable[..., None], number: signal.Signals | None
) -> None:
    """Once by the clock and once by the batch system's warning; the second task holds out until it is killed."""
    (wd / "tasks.txt").write_text(
        "echo 1 >> ran-1\n[ -e go ] || { trap '' TERM; touch runs; sleep 1000; }; echo 2 >> ran-2\necho 3 >> ran-3\n"
    )
    first = start(wd, "tasks.txt", *(["--walltime", "13s"] if number is None else []))
    wait_until((wd / "runs").exists, "the second task runs")
    if number is not None:
        first.send_signal(number)
    out, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 75, err
    assert err.splitlines()[-1] == "the time is over and work is left; continue with --resume ."
    counts = json.loads(out)
    assert [counts[word] for word in ("tasks", "succeeded", "failed", "stopped", "not_run")] == [3, 1, 0, 1, 1]
    (wd / "go").touch()
    second = start(wd, "tasks.txt", "--resume", ".")
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err
    assert json.loads(out)["tasks"] == 3
    assert [(wd / name).read_text() for name in ("ran-1", "ran-2", "ran-3")] == ["1\n", "2\n", "3\n"]


def test_an_allocation_shorter_than_the_margin_is_used_all_the_same(wd: Path) -> None:
    """... or a chain of them would go on for ever; `run` and the log say why the margin is not obeyed."""
    (wd / "tasks.txt").write_text("touch ran\n")
    process = start(wd, "tasks.txt", "--walltime", "59s")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert (wd / "ran").exists()
    (log,) = wd.glob(".qcgpjm-service-*/service.log")
    said = [line for line in log.read_text().splitlines() if "is shorter than the margin of 60 s" in line]
    assert len(said) == 1
    assert [line for line in err.splitlines() if line.startswith("Warning: this allocation, with ")] != []


@pytest.mark.parametrize(
    ("margin_s", "left_s", "kept_s"),
    [(60, None, 60), (60, 3600, 60), (60, 100, 60), (60, 60, 6), (60, 62, 6.2), (60, 30, 3), (0, 30, 0), (60, -5, 0)],
)
def test_a_margin_is_obeyed_unless_it_would_leave_no_time_for_tasks(
    margin_s: float, left_s: float | None, kept_s: float
) -> None:
    kept, warning = margin_for(margin_s, left_s)
    assert kept == pytest.approx(kept_s)
    assert bool(warning) is (kept_s != margin_s)


@pytest.mark.usefixtures("short_margin")
def test_what_cannot_be_over_in_time_is_left_without_waiting_for_the_end(wd: Path) -> None:
    jobs = [
        {"name": "short", "execution": {"exec": "true"}, "resources": {"wt": "1m"}},
        {"name": "long", "execution": {"exec": "true"}, "resources": {"wt": "10h"}},
    ]
    (wd / "jobs.json").write_text(json.dumps(jobs))
    process = start(wd, "jobs.json", "--walltime", "1h")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75
    assert json.loads(out)["succeeded"] == 1


def test_being_told_to_stop_keeps_what_is_left(wd: Path, wait_until: Callable[..., None]) -> None:
    (wd / "tasks.txt").write_text("touch runs; sleep 1000\n")
    process = start(wd, "tasks.txt")
    wait_until((wd / "runs").exists, "the task runs")
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, err
    assert "continue with --resume ." in err


def test_after_an_end_without_any_warning_the_same_command_line_goes_on(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    """Everything of the job is killed at once; `--continue` works for the first job as for the next."""
    (wd / "tasks.txt").write_text("echo 1 >> ran-1\n[ -e go ] || { touch runs; sleep 1000; }; echo 2 >> ran-2\n")
    first = start(wd, "tasks.txt", "--continue")
    wait_until((wd / "runs").exists, "the second task runs")
    for process in children_of(first.pid, recursive=True):
        kill(process)
    first.kill()
    first.communicate()
    (wd / "go").touch()
    second = start(wd, "tasks.txt", "--continue")
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err
    assert json.loads(out)["tasks"] == 2
    assert [(wd / name).read_text() for name in ("ran-1", "ran-2")] == ["1\n", "2\n"]
