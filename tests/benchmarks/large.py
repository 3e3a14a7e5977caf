"""Very many nodes under one manager: 1,000, 3,000 and 10,000 simulated ones with 128 cores each (simulated_agents.py).

python tests/benchmarks/large.py [NODES ...] [--task-s S] [--tasks N] [--no-turns]

Of each size: until all agents are ready; what an agent costs while nothing is to do; tasks of 10 s, three for each core, but at
most a million and a half; when half of them have ended one node in a hundred is lost at once. The manager's turns are timed by
their CPU time, as what a turn waits for on a busy machine is not its own.

The agents share the machine with the manager. What bounds a row is said in its last column: the cores when nine tenths of them
were busy, the manager when its main thread was for nine tenths of the time, else this machine. `most/s` is what the main thread
can do when it always has a core of its own: a million microseconds divided by what a task has cost it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import scale  # noqa: E402

SIZES = (10, 1_000, 3_000, 10_000)
CORES = 128
TASK_S = 10.0
WAVES = 2.94
"""Tasks for each core: three, but for what is lost with the nodes that are."""
MOST_TASKS = 1_500_000
IDLE_S = 5.0
EACH_LOST = 100
STARTER = '[ -e "$SIMULATED_LOSS" ] && exit 1\nexec {} {} "$@"\n'
"""A node that was lost stays away: to start an agent there fails."""


@dataclass
class Row:
    """What is told of one size. Times of turns are CPU time in milliseconds."""

    nodes: int
    ready_s: float
    ready_cpu_s: float
    agent_kib: float
    """The manager's memory for each agent."""
    idle_percent: float
    """Of one core, for each agent."""
    ends_a_second: float
    busy: float
    """Part of all cores, first start and last end included."""
    task_us: float
    """CPU time of the manager's main thread, a task."""
    most_ends: float
    agents_us: float
    task_bytes: float
    """What the manager's memory grew by, a task."""
    journal_bytes: float
    """A task."""
    loss_s: float
    turns_ms: tuple[float, float, float]
    """The longest turn until all are ready, while tasks run, and from the loss on."""
    bound_by: str


class LargePilot(scale.SimulatedPilot):
    """One that can lose nodes."""

    def __init__(self, nodes: int, task_s: float, with_turns: bool) -> None:
        self.loss = Path(tempfile.mktemp(prefix="pf-loss-"))
        self._turns = self.loss.with_suffix(".turns")
        self._turns_read = 0
        environ = {"SIMULATED_LOSS": str(self.loss)} | ({"TURNS_FILE": str(self._turns)} if with_turns else {})
        starter = STARTER.format(sys.executable, HERE / "simulated_agents.py")
        super().__init__(nodes, task_s, starter=starter, cores=CORES, **environ)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for path in (self.loss, self._turns):
            path.unlink(missing_ok=True)

    def longest_turn_ms(self) -> float:
        """Of CPU time, since the last call; 0 if there was none of more than 20 ms."""
        text = self._turns.read_text()[self._turns_read :] if self._turns.exists() else ""
        self._turns_read += len(text)
        return max((float(found) for found in re.findall(r"([0-9]+) ms CPU", text)), default=0.0)

    def run_with_loss(self, tasks: int, nodes: int) -> tuple[float, float]:
        """Seconds until all tasks have ended, and until the loss of every hundredth node in the midst of it is worked off."""
        job = {"name": "a", "execution": {"exec": "/bin/true"}, "iteration": {"stop": tasks}}
        begin = time.perf_counter()
        self.ask("submit", jobs=[job])
        self.wait(lambda: self._stats("IterationStats")["FinishedIterations"] >= tasks // 2, 0.05)
        self.before_loss_ms = self.longest_turn_ms()
        self.loss.touch()
        lost = time.perf_counter()
        left = nodes - -(-nodes // EACH_LOST)
        self.wait(lambda: self._stats("Resources")["ReadyNodes"] <= left, 0.02)
        loss_s = time.perf_counter() - lost
        self.wait(self.finished, 0.05)
        return time.perf_counter() - begin, loss_s

    def _stats(self, part: str) -> dict[str, int]:
        found: dict[str, int] = self.ask("status")[part]  # type: ignore[assignment]
        return found


def measure(nodes: int, task_s: float, tasks: int, with_turns: bool, base_bytes: int) -> Row:
    with LargePilot(nodes, task_s, with_turns) as pilot:
        ready_cpu_s, ready_bytes = pilot.cpu_s()[0], pilot.manager.memory_info().rss
        until_ready_ms = pilot.longest_turn_ms()
        time.sleep(IDLE_S)
        idle = (pilot.cpu_s()[0] - ready_cpu_s) / IDLE_S / nodes
        before = pilot.cpu_s()
        seconds, loss_s = pilot.run_with_loss(tasks, nodes)
        used = [(after - earlier) / tasks for earlier, after in zip(before, pilot.cpu_s(), strict=True)]
        memory = pilot.manager.memory_info().rss
        journal = os.path.getsize(pilot.folder / ".qcgpjm-service-scale" / "journal.pilotfish")
        turns_ms = until_ready_ms, pilot.before_loss_ms, pilot.longest_turn_ms()
    busy = tasks * task_s / (seconds * nodes * CORES)
    return Row(
        nodes,
        pilot.start_s,
        ready_cpu_s,
        (ready_bytes - base_bytes) / nodes / 1024,
        100 * idle,
        tasks / seconds,
        busy,
        1e6 * used[1],
        1 / used[1],
        1e6 * used[2],
        (memory - ready_bytes) / tasks,
        journal / tasks,
        loss_s,
        turns_ms,
        "cores" if busy >= 0.9 else "manager" if used[1] * tasks / seconds > 0.9 else "this machine",
    )


HEADS = (
    ("nodes", "nodes", "{:,}"),
    ("ready_s", "ready s", "{:.1f}"),
    ("ready_cpu_s", "CPU s", "{:.1f}"),
    ("agent_kib", "KiB/agent", "{:.1f}"),
    ("idle_percent", "idle %/agent", "{:.4f}"),
    ("ends_a_second", "ends/s", "{:,.0f}"),
    ("busy", "busy", "{:.0%}"),
    ("task_us", "us/task", "{:.1f}"),
    ("most_ends", "most/s", "{:,.0f}"),
    ("agents_us", "agents us", "{:.1f}"),
    ("task_bytes", "bytes/task", "{:.0f}"),
    ("journal_bytes", "journal/task", "{:.0f}"),
    ("loss_s", "loss s", "{:.1f}"),
    ("turns_ms", "longest turns ms", "{}"),
    ("bound_by", "bound by", "{}"),
)


def as_text(row: Row | None) -> str:
    """None: the heads."""
    words = []
    for field, head, form in HEADS:
        value = getattr(row, field, None)
        if field == "turns_ms" and row is not None:
            value = " / ".join(f"{turn:.0f}" if turn else "<20" for turn in row.turns_ms)
        words.append(f"{head if row is None else form.format(value):>{max(9, len(head), 14 * (field == 'turns_ms'))}}")
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="*", type=int, default=list(SIZES), help="default: 10 1000 3000 10000")
    parser.add_argument("--task-s", type=float, default=TASK_S)
    parser.add_argument("--tasks", type=int, help="default: three for each core, at most 1,500,000")
    parser.add_argument(
        "--no-turns", action="store_true", help="without timing turns, which costs the manager a little"
    )
    given = parser.parse_args()
    with scale.SimulatedPilot(2, TASK_S, cores=CORES) as pilot:
        base_bytes = pilot.manager.memory_info().rss
    print(as_text(None), flush=True)
    for nodes in given.nodes:
        tasks = given.tasks or min(int(WAVES * nodes * CORES), MOST_TASKS)
        print(as_text(measure(nodes, given.task_s, tasks, not given.no_turns, base_bytes)), flush=True)


if __name__ == "__main__":
    main()
