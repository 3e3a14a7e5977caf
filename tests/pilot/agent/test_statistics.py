"""What `--enable-rt-stats` and `--enable-proc-stats` write, in the form that QCG-PilotJob's own tools read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager
from pilotfish.pilot.agent.process_traces import Tracer
from pilotfish.pilot.agent.run_times import RunTimes


def _only(folder: Path, pattern: str) -> Any:
    (path,) = folder.glob(pattern)
    return json.loads(path.read_text())


def test_the_times_of_tasks_are_complete_json_after_each_of_them(tmp_path: Path) -> None:
    times = RunTimes(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    times.add("n0", 'odd "name"', 0.0, 1.5)
    first = _only(tmp_path, f"rtimes_n0_*_{os.getpid()}.log")
    times.add("n0", "b:7", 2.0, 2.25)
    both = _only(tmp_path, "rtimes_n0_*.log")
    assert (first["node"], list(first["rt"]), list(both["rt"])) == ("n0", ['odd "name"'], ['odd "name"', "b:7"])
    began, ended = (datetime.strptime(both["rt"]["b:7"][end], "%Y-%m-%d %H:%M:%S.%f") for end in "sf")
    assert (began.timestamp(), ended.timestamp()) == (2.0, 2.25)


def test_a_folder_that_takes_no_file_costs_the_times_only(tmp_path: Path) -> None:
    RunTimes(str(tmp_path / "missing")).add("n0", "a", 0.0, 1.0)


def test_all_processes_below_the_agent_are_traced_with_what_they_have_started(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """This process stands for the agent."""
    with subprocess.Popen(["sh", "-c", "sleep 1000 & echo; wait"], stdout=subprocess.PIPE) as task:
        assert task.stdout is not None
        task.stdout.readline()
        (sleep,) = psutil.Process(task.pid).children()
        wait_until(lambda: sleep.name() == "sleep", "the child is no sleep yet")
        tracer = Tracer("connection.json", str(tmp_path), "n7")
        assert [found.pid for found in tracer.process] == [tracer._process.pid]
        tracer.close()
        tracer._process.wait(PATIENCE_S)  # an agent does not wait that long for it
        sleep.kill()
    content = _only(tmp_path, "ptrace_n7_*.log")
    seen, child = content["pids"][str(task.pid)], content["pids"][str(sleep.pid)]
    assert (content["node"], seen["node"], seen["name"], seen["childs"]) == ("n7", "n7", "sh", [sleep.pid])
    assert (child["cmdline"], child["parent"], child["parent_name"]) == (["sleep", "1000"], task.pid, "sh")
    assert child["created"] <= child["last"]
    assert str(tracer._process.pid) not in content["pids"]


def test_a_pilot_with_both_options_writes_both_beside_its_folder(wd: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--nodes", "2", "--wd", wd, "--enable-rt-stats", "--enable-proc-stats"]) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true", iteration=3))
        pilot.wait4all()
        tasks = pilot.info_parsed("a", withChilds=True)["a"].childs
    times: dict[str | None, Any] = {}
    for path in wd.glob("rtimes_n0_*.log"):  # one of each worker process
        times |= json.loads(path.read_text())["rt"]
    for task in tasks:
        began, ended = (datetime.fromisoformat(times[task.name][end]) for end in "sf")
        assert task.time is not None
        assert abs(ended - began - task.time) <= timedelta(microseconds=2)  # each is rounded
    traces = "ptrace_n0_*.log"  # written by a process that may outlive its agent
    wait_until(lambda: any(path.read_text().endswith("}") for path in wd.glob(traces)), "the traces are written")
    assert _only(wd, traces)["node"] == "n0"


def test_without_the_options_nothing_is_written(wd: Path) -> None:
    with LocalManager(["--nodes", "1", "--wd", wd]) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true"))
    assert [path.name for path in wd.glob("*.log")] == []
