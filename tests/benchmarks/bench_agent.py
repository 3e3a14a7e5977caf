"""What the agent costs: no-op tasks through a real agent, against a bare Python loop over posix_spawn in the same run.

This process plays the manager. Run it as `python tests/benchmarks/bench_agent.py [TASKS] [SLOTS] [KIND]`; kind is `noop`
(default), `streams` (stdout and stderr files for each task) or `jobs` (each task a job of its own).
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "pilot" / "agent"))

from fake_manager import POOL, FakeManager, iterations

from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames

LENT = 512


def bare_loop(tasks: int, slots: int) -> tuple[float, float]:
    """(wall, own CPU) seconds for a loop that does nothing but posix_spawn and wait4."""
    argv, env, actions = ["/bin/true"], dict(os.environb), [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    began, used = time.perf_counter(), _own_cpu_s()
    running = begun = 0
    while begun < tasks or running:
        while running < slots and begun < tasks:
            os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True)
            running += 1
            begun += 1
        os.wait4(-1, 0)
        running -= 1
    return time.perf_counter() - began, _own_cpu_s() - used


def through_agent(tasks: int, slots: int, kind: str) -> tuple[float, float]:
    """The same through an agent; the CPU time of its processes, without that of the tasks."""
    with tempfile.TemporaryDirectory() as folder, FakeManager(Path(folder), heartbeat_s=2.0) as manager:
        agent = psutil.Process(manager.start_agent().pid)
        manager.welcome()
        processes = [agent, *agent.children()]
        before = _cpu_s(processes)
        began = time.perf_counter()
        _feed(manager, tasks, slots, kind)
        wall = time.perf_counter() - began
        return wall, _cpu_s(processes) - before


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def _feed(manager: FakeManager, tasks: int, slots: int, kind: str) -> None:
    """Keep about LENT tasks waiting at the agent, as the real manager does."""
    grants = [manager.grant([str(core)]) for core in range(slots)]
    sent = ended = acked = 0
    jobs: list[frames.JobDef] = []
    while ended < tasks:
        if sent < tasks and sent - ended < LENT:
            count = min(LENT, tasks - sent)
            if kind == "jobs":
                jobs = [
                    manager.job(f"job{number}", Execution(exec="/bin/true")) for number in range(sent, sent + count)
                ]
                starts = [frames.TaskStart(job.job_no, 0, 1, None, None) for job in jobs]
            else:
                streams = "out-${it}" if kind == "streams" else None
                execution = Execution(exec="/bin/true", stdout=streams, stderr=streams and "err-${it}")
                jobs = [manager.job("bench", execution, is_iteration=True)] if sent == 0 else []
                starts = iterations(manager.job("bench", execution, is_iteration=True), count, sent)
            manager.work(jobs, grants if sent == 0 else [], {POOL: starts})
            sent += count
        manager.read(10.0)
        for report in manager.heard.reports:
            ended += len(report.finished)
            acked = report.seq
        manager.heard.reports.clear()
        manager.send(frames.Ack(acked))


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    kind = sys.argv[3] if len(sys.argv) > 3 else "noop"
    bare_wall, bare_cpu = bare_loop(tasks, slots)
    wall, cpu = through_agent(tasks, slots, kind)
    print(f"{tasks} x /bin/true, {slots} slots, {kind}; microseconds per task")
    print(f"  bare Python loop  wall {bare_wall / tasks * 1e6:6.1f}   own CPU {bare_cpu / tasks * 1e6:6.1f}")
    print(f"  agent             wall {wall / tasks * 1e6:6.1f}   own CPU {cpu / tasks * 1e6:6.1f}")
    print(f"  ratio of throughput {bare_wall / wall:.2f}; the agent's own work {(cpu - bare_cpu) / tasks * 1e6:.1f} us")


if __name__ == "__main__":
    main()
