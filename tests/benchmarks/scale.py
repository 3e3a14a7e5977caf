"""How far one manager goes: a real manager, real sockets and frames, and simulated agents on up to 1,000 nodes of 64 cores.
How far one agent goes: a real manager and agent, and workers of a node of up to 128 cores that only pretend to spawn.

python tests/benchmarks/scale.py [NODES] [TASKS] [TASK_SECONDS]
python tests/benchmarks/scale.py --node CORES [TASKS] [TASK_SECONDS]

What is simulated is one process that shares the machine with the real ones, so beside the rate by the clock this tells the
CPU time of the manager, and of its one Python thread alone: its inverse is the rate that a manager with a core of its own has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import zmq

HERE = Path(__file__).parent
TIMED = HERE / "timed_turns.py"
CORES = 64
SHORT_S = 0.01
"""More than one manager can keep up with: each agent alone would do 6,400 of these a second."""
NO_OP_S = 0.001
"""Of a node of many cores: 16 of them do 16,000 of these a second, 128 do 128,000, which is what their kernels spawn."""
LONG_S = 4.0
"""On 64,000 cores that are 16,000 ends a second, and nothing is lent ahead."""


@dataclass(frozen=True)
class Measured:
    """`tasks_s`: by the clock; `cpu_us`, `thread_us`: the manager's CPU time per task, and its main thread's alone.

    `agents_us`: that of the simulated agents, or of the one real agent without its workers.
    """

    nodes: int
    start_s: float
    start_cpu_s: float
    memory_bytes: int
    tasks_s: float
    cpu_us: float
    thread_us: float
    agents_us: float
    memory_after_bytes: int

    @property
    def implied_tasks_s(self) -> float:
        """What the main thread does when it always has a core."""
        return 1e6 / self.thread_us


class Pilot:
    """A manager with `settings`, as soon as all its agents are ready. A context manager."""

    def __init__(self, settings: Sequence[str], nodes: int = 1, folder: Path | None = None, **environ: str) -> None:
        """With TURNS_FILE in `environ` its long turns are noted there (timed_turns.py)."""
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pf-scale-"))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        begin = time.perf_counter()
        program = [str(TIMED)] if "TURNS_FILE" in environ else ["-m", "pilotfish"]
        command = [sys.executable, *program, "service", "--wd", str(self.folder), "--id", "scale", *settings]
        with open(self.folder / "service.out", "wb") as output:
            self.process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=output, stderr=output)
        self.manager = psutil.Process(self.process.pid)
        try:
            self._connect()
            self.wait(lambda: self._ready_nodes() == nodes, 0.02 + nodes / 50_000)  # each look is at each node
        except BaseException:
            self.__exit__()
            raise
        self.start_s = time.perf_counter() - begin

    def _connect(self) -> None:
        connection = self.folder / ".qcgpjm-service-scale" / "connection.json"
        self.wait(connection.exists, 0.01)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 60_000)
        self._socket.connect(json.loads(connection.read_text())["request_addresses"]["ipc"])

    def __enter__(self) -> Pilot:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self._socket.close()
        self._context.term()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, condition: Callable[[], bool], pause_s: float) -> None:
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "service.out").read_text())
            time.sleep(pause_s)

    def _ready_nodes(self) -> int:
        resources: dict[str, int] = self.ask("status")["Resources"]  # type: ignore[assignment]
        return resources["ReadyNodes"]

    def ask(self, request: str, **members: object) -> dict[str, float]:
        self._socket.send(json.dumps({"request": request, **members}).encode())
        reply = json.loads(self._socket.recv())
        assert reply["code"] == 0, reply
        data: dict[str, float] = reply["data"]
        return data

    def finished(self) -> bool:
        return bool(self.ask("status", options={"allJobsFinished": True})["AllJobsFinished"])

    def run(self, tasks: int, **execution: object) -> float:
        """Seconds from the submit until all have ended."""
        job = {"name": "a", "execution": execution or {"exec": "/bin/true"}, "iteration": {"stop": tasks}}
        begin = time.perf_counter()
        self.ask("submit", jobs=[job])
        self.wait(self.finished, 0.05)
        return time.perf_counter() - begin

    def cpu_s(self) -> tuple[float, float, float]:
        """CPU time so far of the manager, of its main thread, and of the agents."""
        threads = {thread.id: thread.user_time + thread.system_time for thread in self.manager.threads()}
        agents = [child.cpu_times() for child in self.manager.children(recursive=True)]
        return sum(threads.values()), threads[self.manager.pid], sum(times.user + times.system for times in agents)


class SimulatedPilot(Pilot):
    """One whose starter is a program beside this one, or the shell script `starter`."""

    def __init__(
        self,
        nodes: int,
        task_s: float,
        placement: str = "srun",
        starter: str = f'exec {sys.executable} {HERE / "simulated_agents.py"} "$@"\n',
        cores: int = CORES,
        **environ: str,
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pf-scale-"))
        program = folder / placement
        program.write_text("#!/bin/sh\n" + starter)
        program.chmod(0o755)
        list_of_cores = ",".join([str(cores)] * nodes)
        super().__init__(
            [
                "--nodes",
                list_of_cores,
                "--agent-launcher",
                placement,
                "--net-interface",
                "127.0.0.1",
                "--nl-init-timeout",
                "600",
            ],
            nodes,
            folder,
            PATH=f"{folder}:{os.environ['PATH']}",
            SIMULATED_TASK_S=str(task_s),
            PRETENDED_CORES=str(cores),
            **environ,
        )


def measure(nodes: int, tasks: int, task_s: float = SHORT_S) -> Measured:
    """Simulated agents on so many nodes."""
    with SimulatedPilot(nodes, task_s) as pilot:
        return _measure(pilot, nodes, tasks)


def measure_node(cores: int, tasks: int, task_s: float = NO_OP_S) -> Measured:
    """One real agent for so many cores, with workers that only pretend to spawn."""
    starter = f'exec {sys.executable} {HERE / "pretended_workers.py"} "$@"\n'
    with SimulatedPilot(1, task_s, starter=starter, cores=cores) as pilot:
        return _measure(pilot, 1, tasks)


def _measure(pilot: Pilot, nodes: int, tasks: int) -> Measured:
    memory = pilot.manager.memory_info().rss
    before = pilot.cpu_s()
    seconds = pilot.run(tasks)
    used = [(after - earlier) / tasks * 1e6 for earlier, after in zip(before, pilot.cpu_s(), strict=True)]
    after = pilot.manager.memory_info().rss
    return Measured(nodes, pilot.start_s, before[0], memory, tasks / seconds, *used, after)


def rows(quick: bool) -> Iterator[tuple[str, str, str, str, bool | None]]:
    """What is measured, how much, what belongs to it, the goal, and whether it is reached."""
    sizes = (10, 100, 1000)
    count = 100_000 if quick else 500_000
    found = {}
    for nodes in sizes:
        short = found[nodes] = measure(nodes, count)
        most = nodes == max(sizes)
        start, rate = f"{short.start_s:.1f} s", f"{short.tasks_s:,.0f}/s"
        yield (
            f"scale: {nodes:,} x 64 cores, all agents ready",
            start,
            "",
            "<= 10 s" if most else "",
            short.start_s <= 10,
        )
        implied = f"{short.thread_us:.1f} us CPU"
        yield f"  {count:,} tasks of 10 ms", rate, implied, ">= 15000/s" if most else "", short.tasks_s >= 15_000
    least, most = found[min(sizes)], found[max(sizes)]
    each = (most.memory_bytes - least.memory_bytes) / (most.nodes - least.nodes)
    yield "  memory of the manager per agent", f"{each / 1024:.1f} KiB", "", "", None
    waves = 4 if quick else 10
    long = measure(1000, waves * 1000 * CORES, LONG_S)
    busy = long.tasks_s * LONG_S / (1000 * CORES)
    what = f"  1,000 x 64 cores, {waves} tasks of 4 s for each core"
    yield what, f"{long.tasks_s:,.0f}/s", f"{long.thread_us:.1f} us CPU", "", None
    yield "  cores busy, first start and last end included", f"{busy:.0%}", "", ">= 90%", busy >= 0.9
    for cores in (16, 128):
        node = measure_node(cores, count)
        yield (
            f"one agent for {cores} cores, {count:,} tasks of 1 ms, workers that only pretend",
            f"{node.tasks_s:,.0f}/s",
            f"{node.agents_us:.1f} us CPU",
            "",
            None,
        )
        yield "  the manager beside it", f"{node.implied_tasks_s:,.0f}/s", f"{node.thread_us:.1f} us CPU", "", None


def main() -> None:
    words = sys.argv[1:]
    one_node = "--node" in words
    if one_node:
        words.remove("--node")
    count = int(words[0]) if words else 100
    tasks = int(words[1]) if len(words) > 1 else 200_000
    task_s = float(words[2]) if len(words) > 2 else NO_OP_S if one_node else SHORT_S
    measured = measure_node(count, tasks, task_s) if one_node else measure(count, tasks, task_s)
    for name, value in vars(measured).items():
        print(f"{name:20} {value:14,.1f}")
    print(f"{'implied_tasks_s':20} {measured.implied_tasks_s:14,.1f}")


if __name__ == "__main__":
    main()
