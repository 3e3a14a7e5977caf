"""`make bench`: every goal of speed as a ratio to a limit or a peer measured in the same run.

python tests/benchmarks/run.py [--quick] [--peers] [--only WORD] [--json FILE] [--markdown]

The limit is measured right before and after each figure, because a shared machine changes its speed while one looks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import allocations  # noqa: E402
import calls  # noqa: E402
import core_bench  # noqa: E402
import on_slurm  # noqa: E402
import peers  # noqa: E402
import runs  # noqa: E402
import scale  # noqa: E402

from pilotfish import Jobs, LocalManager  # noqa: E402

SLOTS = len(os.sched_getaffinity(0))


@dataclass
class Row:
    what: str
    value: str
    ratio: str
    goal: str
    ok: bool | None


def verdict(ok: bool | None) -> str:
    return "" if ok is None else "PASS" if ok else "MISS"


class Bench:
    def __init__(self, quick: bool) -> None:
        self.rows: list[Row] = []
        self.tasks = 4_000 if quick else 20_000
        self.rounds = 2 if quick else 3
        self.quick = quick
        self.folder = Path(tempfile.mkdtemp(prefix="pf-bench-"))
        self.limit_program = self.folder / "limit"
        subprocess.run(["cc", "-O2", "-o", str(self.limit_program), str(HERE / "limit.c")], check=True)

    def add(self, what: str, value: str, ratio: str, goal: str, ok: bool | None) -> None:
        row = Row(what, value, ratio, goal, ok)
        self.rows.append(row)
        print(f"{what:58} {value:>24} {ratio:>14} {goal:>14} {verdict(ok)}", flush=True)

    def limit(self, files: bool = False, tasks: int | None = None) -> float:
        """Seconds per task of the C loop."""
        count = tasks or self.tasks // 2
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        if files:
            os.sync()  # or it pays for the files of the measurement before it
        command = [str(self.limit_program), str(count), str(SLOTS), *([str(folder)] if files else [])]
        seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        shutil.rmtree(folder)
        return seconds / count

    def against_limit(self, what: str, goal: float, measure: Callable[[], float], files: bool = False) -> float:
        """Median of ratio over interleaved rounds; returns the best seconds per task."""
        ratios, times = [], []
        for _ in range(self.rounds):
            before = self.limit(files)
            if files:
                os.sync()
            seconds = measure()
            after = self.limit(files)
            ratios.append((before + after) / 2 / seconds)
            times.append(seconds)
        ratio, seconds = statistics.median(ratios), statistics.median(times)
        self.add(
            what, f"{1 / seconds:.0f}/s ({seconds * 1e6:.0f} us)", f"{ratio:.2f} of limit", f">= {goal}", ratio >= goal
        )
        return seconds

    # --- rows -----------------------------------------------------------------------------------------------------------

    def iteration_job(self) -> float:
        return self._through(Jobs().add_std(name="a", execution={"exec": "/bin/true"}, iteration={"stop": self.tasks}))

    def with_files(self) -> float:
        execution = {"exec": "/bin/true", "stdout": "out/${it}.out", "stderr": "out/${it}.err"}
        return self._through(Jobs().add_std(name="a", execution=execution, iteration={"stop": self.tasks}))

    def separate_jobs(self) -> float:
        jobs = Jobs()
        for number in range(self.tasks):
            jobs.add_std(name=f"j{number}", execution={"exec": "/bin/true"})
        return self._through(jobs)

    def _through(self, jobs: Jobs) -> float:
        wd = tempfile.mkdtemp(dir=self.folder)
        with LocalManager(["--wd", wd], {"log_file": "/dev/null"}) as pilot:
            begin = time.perf_counter()
            pilot.submit(jobs)
            self.submit_s = time.perf_counter() - begin
            pilot.wait4all()
            seconds = time.perf_counter() - begin
            failed = pilot.system_status()["IterationStats"]["FailedIterations"]
        assert failed == 0, f"{failed} tasks failed"
        shutil.rmtree(wd)
        return seconds / self.tasks

    def latency(self) -> None:
        wd = tempfile.mkdtemp(dir=self.folder)
        ready, waits = [], []
        for _ in range(3 if self.quick else 10):
            begin = time.perf_counter()
            pilot = LocalManager(["--wd", wd], {"log_file": "/dev/null"})
            ready.append(time.perf_counter() - begin)
            pilot.stop()
        program = "import time, sys; time.sleep(0.05); open(sys.argv[1], 'w').write(repr(time.time()))"
        with LocalManager(["--wd", wd], {"log_file": "/dev/null"}) as pilot:
            for number in range(10 if self.quick else 40):
                name = f"t{number}"
                pilot.submit(Jobs().add(name=name, exec=sys.executable, args=["-S", "-c", program, name]))
                pilot.wait4(name)
                waits.append(time.time() - float(Path(wd, name).read_text()))
        median = statistics.median(ready)
        self.add("LocalManager() ready", f"{median * 1e3:.0f} ms", "", "<= 300 ms", median <= 0.3)
        median = statistics.median(waits)
        text = "end of task (its last statement) -> wait4 returns"
        self.add(text, f"{median * 1e3:.1f} ms", "", "<= 5 ms", median <= 0.005)

    def runs(self) -> None:
        """As people type them, with the start of everything; no goal, but a limit for what is kept of each task."""
        for what, measure in (
            ("`run` of lines, an output file for each", runs.of_lines),
            ("`run` of lines, --stream", runs.of_lines_in_streams),
            ("`run` of a CSV file, --stream", runs.of_table),
        ):
            before = self.limit()
            run = measure(self.folder, self.tasks)
            ratio = (before + self.limit()) / 2 / run.seconds_per_task
            self.add(what, f"{1 / run.seconds_per_task:.0f}/s", f"{ratio:.2f} of limit", "", None)
        million = runs.million(self.folder)
        self.add("1,000,000 tasks: resumed", f"{million.resume_s:.1f} s", "", "<= 5 s", million.resume_s <= 5)
        self.add("1,000,000 tasks: `show`", f"{million.show_s:.2f} s", "", "<= 1 s", million.show_s <= 1)
        self.add("1,000,000 tasks: `report`", f"{million.report_s:.1f} s", "", "<= 30 s", million.report_s <= 30)
        size = million.bytes_per_task
        self.add("1,000,000 tasks: on disk, each", f"{size:.0f} bytes", "", "<= 200 bytes", size <= 200)

    def start_up(self) -> None:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-m", "pilotfish", "--help"], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        median = statistics.median(times)
        self.add("pilotfish --help", f"{median * 1e3:.0f} ms", "", "<= 250 ms", median <= 0.25)

    def core(self) -> None:
        for result in core_bench.speed(self.quick):
            self.add(result.what, result.value, "", result.goal, result.ok)
        for result in core_bench.memory():
            self.add(result.what, result.value, "", result.goal, result.ok)

    def scale(self) -> None:
        for row in scale.rows(self.quick):
            self.add(*row)

    def allocations(self) -> None:
        """Simulated: see allocations.py."""
        tasks, seeds = (1000, 1) if self.quick else (5000, 3)
        for row in allocations.rows(tasks, seeds):
            value = f"{row.per_useful:.2f} node-h per useful"
            self.add(f"{tasks} mixed tasks, {row.way}", value, f"{row.hours:.1f} h", "", None)

    def calls(self, with_peers: bool) -> None:
        for row in calls.rows(self.quick, with_peers):
            self.add(*row)

    def peers_of_calls(self) -> None:
        """Only on demand: `--peers` has it with all that is measured of calls."""
        for row in calls.against_peers(self.tasks):
            self.add(*row)

    def on_slurm(self) -> None:
        """Only on demand: it needs root and a Slurm, and takes a minute or two."""
        ours = 0.0
        for number, (way, seconds) in enumerate(on_slurm.measure(self.tasks // 2)):
            ours = ours or seconds
            ratio = seconds / ours
            goal, ok = ("<= 1.3 x", ratio <= 1.3) if number == 1 else ("", None)
            self.add(way, f"{1 / seconds:.1f}/s", f"{ratio:.2f} x its time", goal, ok)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds: about a minute")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="install and measure qcg-pilotjob, hyperqueue, GNU parallel; for calls executorlib, Parsl, dask",
    )
    parser.add_argument(
        "--only",
        choices=[
            "iteration",
            "files",
            "jobs",
            "core",
            "latency",
            "start",
            "scale",
            "slurm",
            "runs",
            "calls",
            "peers",
            "allocations",
        ],
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown at the end")
    given = parser.parse_args()
    bench = Bench(given.quick)
    print(f"{SLOTS} cores, Linux {platform.release()}, Python {platform.python_version()}, {bench.tasks} tasks\n")

    def wanted(name: str) -> bool:
        return given.only in (None, name)

    for name, measure in (
        ("start", bench.start_up),
        ("latency", bench.latency),
        ("core", bench.core),
        ("scale", bench.scale),
        ("runs", bench.runs),
        ("allocations", bench.allocations),
    ):
        if wanted(name):
            measure()
    if wanted("calls"):
        bench.calls(given.peers)
    if given.only == "peers":
        bench.peers_of_calls()
    if given.only == "slurm":
        bench.on_slurm()
    ours = (
        bench.against_limit("/bin/true as one iteration job", 0.75, bench.iteration_job)
        if wanted("iteration")
        else None
    )
    if wanted("files"):
        bench.against_limit("the same, stdout and stderr files for each", 0.6, bench.with_files, files=True)
    if wanted("jobs"):
        bench.against_limit("the same as separate jobs in one submit", 0.65, bench.separate_jobs)
        bench.add("  its submit answered", f"{bench.submit_s:.2f} s", "", "<= 1 s", bench.submit_s <= 1)
    if given.peers and ours is not None:
        for name, seconds in peers.measure(SLOTS, bench.tasks // 4):
            goal = None if name == "GNU parallel" else 2.0
            text = "" if goal is None else f">= {goal}"
            bench.add(
                f"  against {name}",
                f"{1 / seconds:.0f}/s",
                f"{seconds / ours:.1f} x",
                text,
                goal is None or seconds / ours >= goal,
            )
    if given.json:
        given.json.write_text(json.dumps([vars(row) for row in bench.rows], indent=2) + "\n")
    if given.markdown:
        print("\n| what | measured | ratio | goal | |\n| --- | --- | --- | --- | --- |")
        for row in bench.rows:
            print(f"| {row.what.strip()} | {row.value} | {row.ratio} | {row.goal} | {verdict(row.ok)} |")
    shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()
