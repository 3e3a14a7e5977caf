"""`pilotfish run` as people type it, and what a run of a million tasks costs afterwards: to show, to resume, on the disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pilotfish import LocalManager
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.results import PlacedShare, Successes
from pilotfish.pilot.wire import journal, records

TURN = 40
"""Tasks in one record: about as many as a busy manager of a small machine writes together."""


def _pilotfish(*words: str, wd: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pilotfish", *words], cwd=wd, check=True, capture_output=True)
    return time.perf_counter() - begin


class Run(NamedTuple):
    """`bytes_per_task`: of the folder that Pilotfish keeps of the run."""

    seconds_per_task: float
    bytes_per_task: float


def of_lines(folder: Path, tasks: int) -> Run:
    """A file of lines, with a file for the output of each."""
    wd = Path(tempfile.mkdtemp(dir=folder))
    (wd / "tasks.txt").write_text("/bin/true\n" * tasks)
    return _measured(wd, tasks, "tasks.txt", "--output", "out")


def of_lines_in_streams(folder: Path, tasks: int) -> Run:
    wd = Path(tempfile.mkdtemp(dir=folder))
    (wd / "tasks.txt").write_text("/bin/true\n" * tasks)
    return _measured(wd, tasks, "tasks.txt", "--stream")


def of_table(folder: Path, tasks: int) -> Run:
    """A CSV file with two columns, output in streams."""
    wd = Path(tempfile.mkdtemp(dir=folder))
    rows = "".join(f"{number % 100},{number}\n" for number in range(tasks))
    (wd / "table.csv").write_text(f"alpha,seed\n{rows}")
    return _measured(wd, tasks, "--params", "table.csv", "--stream", "--", "/bin/echo", "{alpha}", "{seed}")


def _measured(wd: Path, tasks: int, *words: str) -> Run:
    seconds = _pilotfish("run", "--quiet", *words, wd=wd)
    (aux,) = wd.glob(".qcgpjm-service-*")
    size = sum(path.stat().st_size for path in aux.rglob("*") if path.is_file())
    shutil.rmtree(wd)
    return Run(seconds / tasks, size / tasks)


class Million(NamedTuple):
    resume_s: float
    show_s: float
    report_s: float
    bytes_per_task: float


def million(folder: Path, tasks: int = 1_000_000) -> Million:
    """A run of a million tasks that was killed at its end: its journal is written here, all else by Pilotfish."""
    wd = Path(tempfile.mkdtemp(dir=folder))
    aux = wd / ".qcgpjm-service-bench.1"
    aux.mkdir(mode=0o700)
    _write_journal(aux / journal.FILE_NAME, tasks)
    begin = time.perf_counter()
    pilot = LocalManager(["--resume", aux, "--nodes", 1, "--report-format", "columns"], {"log_file": "/dev/null"})
    resume_s = time.perf_counter() - begin
    pilot.finish()
    show_s = _pilotfish("show", wd=wd)
    report_s = _pilotfish("report", "--html", "report.html", wd=wd)
    size = sum(path.stat().st_size for path in aux.rglob("*") if path.is_file())
    shutil.rmtree(wd)
    return Million(resume_s, show_s, report_s, size / tasks)


def _write_journal(path: Path, tasks: int) -> None:
    shares: list[tuple[PlacedShare, ...]] = [(PlacedShare(NodeNo(0), "1", "0"),), (PlacedShare(NodeNo(0), "2", "0"),)]
    job, node, now = JobNo(1), NodeNo(0), 1_764_000_000.0
    spec = JobSpec("task", Execution(exec="/bin/true"), iteration=Iteration(0, tasks))
    with open(path, "wb") as file:
        file.write(journal.HEADER)
        file.write(journal.encode(records.NodeJoined(NodeSpec("n", ("0", "1")))))
        file.write(journal.encode(records.Submitted(job, now, [spec], [job])))
        for first in range(0, tasks, TURN):
            positions = list(range(first, min(tasks, first + TURN)))
            now += 0.01
            started_s = [now + 0.000437 * place for place in range(len(positions))]
            ended_s = [time_s + 0.00041 + 1e-6 * (pos % 97) for time_s, pos in zip(started_s, positions, strict=True)]
            pids, places = [10_000 + pos % 30_000 for pos in positions], [pos % 2 for pos in positions]
            usage = [0.000513] * len(positions), [2048] * len(positions)
            file.write(journal.encode(records.Sent(node, now, [TaskKey(job, pos, 1) for pos in positions])))
            ends = Successes(job, 1, now, shares, positions, places, pids, started_s, ended_s, *usage)
            file.write(journal.encode(records.Succeeded(ends)))
