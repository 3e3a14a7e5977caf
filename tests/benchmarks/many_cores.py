"""A node as it is, with all its cores: what a pilot makes of it, beside one C loop of posix_spawn for each core.

python tests/benchmarks/many_cores.py [--seconds S] [--rounds N] [--only TEXT] [--table FILE]

Everything is measured in turns, as machines change their speed while one looks. `of loops` compares with the loops of the
same round; CPU times are microseconds for each task: of the manager, and of the agent with its workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import psutil  # noqa: E402
import scale  # noqa: E402

CORES = len(os.sched_getaffinity(0))
PER_CORE = 1_000
"""No-op tasks that a core does in a second, about."""
TRUE = {"exec": "/bin/true"}
FILES = {"exec": "/bin/true", "stdout": "out/${it}.out", "stderr": "out/${it}.err"}
SLEEP = {"exec": "/bin/sleep", "args": ["0.01"]}


class Figure(NamedTuple):
    rate: float
    manager_us: float = 0.0
    agent_us: float = 0.0


def loops(program: Path, tasks: int, count: int, slots: int) -> Figure:
    """So many C loops at once, with so many processes each at a time."""
    begin = time.perf_counter()
    command = [str(program), str(tasks // count), str(slots)]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    assert not any(loop.wait() for loop in running)
    return Figure(tasks / (time.perf_counter() - begin))


def through_pilot(tasks: int, execution: dict[str, object], *settings: str) -> Figure:
    with scale.Pilot(settings) as pilot:
        agent = [child for child in pilot.manager.children(recursive=True) if "agent" in child.cmdline()]
        before = _cpu_s([pilot.manager]), _cpu_s(agent)
        seconds = pilot.run(tasks, **execution)
        after = _cpu_s([pilot.manager]), _cpu_s(agent)
        assert pilot.ask("status")["IterationStats"]["FailedIterations"] == 0  # type: ignore[index]
    used = [(late - early) / tasks * 1e6 for early, late in zip(before, after, strict=True)]
    return Figure(tasks / seconds, *used)


def _cpu_s(processes: list[psutil.Process]) -> float:
    """Their own; what their children used is not in it."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def simulated(nodes: int, tasks: int, task_s: float) -> Figure:
    found = scale.measure(nodes, tasks, task_s)
    return Figure(found.tasks_s, found.cpu_us, found.agents_us)


def pretended(cores: int, tasks: int) -> Figure:
    found = scale.measure_node(cores, tasks)
    return Figure(found.tasks_s, found.cpu_us, found.agents_us)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long each figure takes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="only the rows with this in their names, and the limit")
    parser.add_argument("--table", type=Path, help="write the table to this file too, as it grows")
    given = parser.parse_args()
    count = int(given.seconds * PER_CORE) * CORES
    sleeps, many = int(given.seconds * 90 * CORES), int(given.seconds * 40_000)
    folder = Path(tempfile.mkdtemp(prefix="pf-cores-"))
    loop = folder / "limit"
    subprocess.run(["cc", "-O2", "-o", str(loop), str(HERE / "limit.c")], check=True)
    virtual = ("--nodes", str(CORES))
    rows: list[tuple[str, Callable[[], Figure]]] = [
        (f"{CORES} C loops", lambda: loops(loop, count, CORES, 1)),
        (f"one C loop, {CORES} slots", lambda: loops(loop, count // 2, 1, CORES)),
        ("pilotfish, unbound", lambda: through_pilot(count, TRUE, *virtual)),
        ("pilotfish, bound", lambda: through_pilot(count, TRUE)),
        ("stdout and stderr files, bound", lambda: through_pilot(count // 2, FILES)),
        ("sleep 0.01, unbound", lambda: through_pilot(sleeps, SLEEP, *virtual)),
        ("sleep 0.01, bound", lambda: through_pilot(sleeps, SLEEP)),
        ("pretended node of 16, 1 ms", lambda: pretended(16, int(given.seconds * 16_000))),
        ("pretended node of 128, 1 ms", lambda: pretended(128, many)),
        ("simulated 100 x 64, 10 ms", lambda: simulated(100, many, 0.01)),
        ("simulated 1,000 x 64, 4 s", lambda: simulated(1000, int(given.seconds * 2) * 64_000, 4.0)),
    ]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = [f"{CORES} cores ({cpu}), Linux {platform.release()}, Python {platform.python_version()}"]
    lines.append(f"{'round':5} {'what':32} {'a second':>9} {'of loops':>9} {'manager':>8} {'agent':>6}")
    print("\n".join(lines), flush=True)
    for number in range(1, given.rounds + 1):
        limit = 0.0
        for what, measure in rows[:1] + [row for row in rows[1:] if given.only in row[0]]:
            figure = measure()
            limit = limit or figure.rate
            ratio = "" if what.startswith(("pret", "sim", "sleep")) else f"{figure.rate / limit:.2f}"
            used = [f"{us:.1f}" if us else "" for us in figure[1:]]
            lines.append(f"{number:5} {what:32} {figure.rate:9,.0f} {ratio:>9} {used[0]:>8} {used[1]:>6}")
            print(lines[-1], flush=True)
            if given.table is not None:
                given.table.write_text("\n".join(lines) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
