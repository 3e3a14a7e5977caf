"""Following a pilot: which jobs are shown, and what a terminal shows of them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner, Result
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager
from pilotfish.api import cli, look_cli
from pilotfish.api.follow import failures, rows
from pilotfish.api.progress import Progress, Row
from pilotfish.pilot.model.errors import PilotfishError
from pilotfish.pilot.wire.replies import TaskCounts


def test_open_jobs_come_first_and_then_the_latest_failures(wd: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        jobs = (
            Jobs()
            .add(name="good", exec="true")
            .add(name="bad", exec="false")
            .add(name="none", exec="true", after="bad")
        )
        pilot.submit(jobs.add(name="many", exec="sleep", args=["1000"], iteration=3))
        wait_until(lambda: [row.name for row in rows(pilot)] == ["many", "none", "bad"], "only many is left")
        assert rows(pilot)[0] == Row("many", "EXECUTING", 0, 0, 1, 3)
        assert rows(pilot)[2] == Row("bad", "FAILED", 1, 1, 0, 1)
        assert next(failures(pilot)).startswith("  bad: FAILED")
        pilot.cancel(["many"])


def test_a_terminal_shows_a_table_and_a_bar(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="many", exec="sleep", args=["0.5"], iteration=3))
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "pilotfish", "watch"], cwd=wd, stderr=theirs, timeout=PATIENCE_S, check=True
        )
        os.close(theirs)
        shown = _all_of(ours)
        assert done.returncode == 0
        assert "many" in shown
        assert "3/3" in shown


def test_a_line_in_a_log_has_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = Progress()
    for now[0] in (0.0, 5.0, 10.0):
        lines.update(TaskCounts(626, 0, 0, int(now[0] * 4), 0, running=3))
    assert capsys.readouterr().err == "40/626 tasks done, 0 failed, 3 running, 4.0/s, 2:26 left\n"


def said(command: click.Command, *words: str, wd: Path) -> Result:
    """What a command prints, and how it ends, in this process."""
    return CliRunner().invoke(command, [*words, "-c", str(wd)])


def test_what_runs_is_said_to_run(wd: Path, wait_until: Callable[..., None]) -> None:
    """The job of QCG-PilotJob is QUEUED until its last task has ended; that is no answer to a person."""
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", script="test $it = 0 || sleep 1000", iteration=3))
        wait_until(lambda: pilot.status("a:1")["jobs"]["a:1"]["data"]["status"] == "EXECUTING", "a:1")
        assert pilot.list()["a"]["status"] == "QUEUED"
        assert said(cli.jobs, wd=wd).stdout.splitlines()[1].split() == ["a", "EXECUTING"]
        first, *others = said(look_cli.info, "a", "--childs", wd=wd).stdout.splitlines()
        assert first == "a: EXECUTING, 1 of 3 done, 1 running"
        table = [line.split() for line in others if line.startswith(("TASK", "a:"))]
        assert table[0] == ["TASK", "STATE", "NODE", "CORES", "TIME", "CODE", "ATTEMPTS", "MESSAGE"]
        assert [row[:3] for row in table[1:3]] == [["a:0", "SUCCEED", "n0"], ["a:1", "EXECUTING", "n0"]]
        assert table[3][0] == "a:2"
        assert pilot.system_status()["IterationStats"]["RunningIterations"] == 1
        pilot.cancel(["a"])


def test_short_tasks_run_while_they_do(wd: Path, wait_until: Callable[..., None]) -> None:
    """They end before an agent reports their start."""
    with LocalManager(["--wd", str(wd), "--nodes", "2"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec="sleep", args=["0.02"], iteration=100_000))
        wait_until(lambda: pilot.client.task_counts().finished > 20, "some to end")
        assert pilot.client.task_counts().now_running == 2
        assert pilot.client.job_infos(["a"])["a"].state == "EXECUTING"
        pilot.cancel(["a"])


def test_the_exit_code_of_watch_is_that_of_run_and_the_end_a_table(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="good", exec="true", iteration=2))
        assert said(look_cli.watch, wd=wd).exit_code == 0
        pilot.submit(Jobs().add(name="bad", script="test $it = 1", iteration=2))
        done = said(look_cli.watch, wd=wd)
        assert done.exit_code == 1
        assert [line.split() for line in done.stdout.splitlines()[:3]] == [
            ["JOB", "STATE", "DONE", "FAILED", "TASKS"],
            ["bad", "FAILED", "2", "1", "2"],
            ["good", "SUCCEED", "2", "0", "2"],
        ]
        assert "4 tasks, 1 failed" in done.stdout
        events = [json.loads(line) for line in said(look_cli.watch, "--json", wd=wd).stdout.splitlines()]
        assert {event["version"] for event in events} == {1}
        assert events[-1]["state"] == "IDLE"
        ended = next(event for event in events if event.get("it") == 0 and event["state"] == "FAILED")
        assert (ended["job"], ended["exit_code"]) == ("bad", 1)


def test_a_pilot_that_ends_while_it_is_watched_has_told_what_it_did(wd: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec="sleep", args=["1000"], iteration=2))
        watching = [
            subprocess.Popen(
                [sys.executable, "-m", "pilotfish", "watch", *words], cwd=wd, stdout=subprocess.PIPE, text=True
            )
            for words in ((), ("--json",))
        ]
        assert watching[1].stdout is not None
        assert '"job": "a"' in watching[1].stdout.readline()
        wait_until(lambda: psutil.Process(watching[0].pid).net_connections("unix"), "the first is connected")
        wait_until(lambda: pilot.client.task_counts().executing == 1, "a:0")
        pilot.kill_manager_process()
    for process in watching:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 75


def test_why_something_waits_is_said_for_a_job_and_for_the_whole_queue(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "2,1"], {"log_file": "/dev/null"}) as pilot:
        jobs = Jobs().add(name="a", exec="sleep", args=["1000"], iteration=3)
        pilot.submit(jobs.add(name="wide", exec="true", numNodes=2, numCores=1).add(name="b", exec="true", after="a"))
        wait_until(lambda: pilot.client.task_counts().executing == 3, "a")
        free = "at most 0 on one node (the largest has 2), 0 of 3 in all"
        missing = f"not enough cores are free: {free}"
        why = f"it needs 1 core, on each of 2 nodes; {missing}"
        assert said(look_cli.explain, "wide", "b", wd=wd).stdout.splitlines() == [
            "wide",
            f"  {why}",
            "b",
            "  it waits for a, which is QUEUED",
        ]
        assert said(look_cli.explain, wd=wd).stdout.splitlines() == [
            "wide: 1 core, on each of 2 nodes",
            f"  {missing}",
            "1 task waits for other jobs",
        ]
        assert json.loads(said(look_cli.explain, "wide", "--json", wd=wd).stdout) == {
            "version": 1,
            "jobs": {"wide": [why]},
        }
        assert json.loads(said(look_cli.explain, "--json", wd=wd).stdout)["queue"][0]["reasons"] == [missing]
        unknown = said(look_cli.explain, "nosuch", wd=wd)
        assert isinstance(unknown.exception, PilotfishError)
        assert (unknown.exception.code, "nosuch" in str(unknown.exception)) == ("unknown-job", True)
        pilot.cancel(["a", "wide"])


def _all_of(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # how a terminal tells its end
        pass
    os.close(descriptor)
    return b"".join(parts).decode(errors="replace")
