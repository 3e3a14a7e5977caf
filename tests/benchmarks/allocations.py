"""Nodes asked for by the queue, against a fixed allocation and one batch job per task: a bag of mixed tasks, simulated.

python tests/benchmarks/allocations.py [--tasks 5000] [--seeds 5] [--later 12]

The pilot's core, its demand and the decisions are the real ones; time, tasks and the batch queue are played
(tests/launcher/allocations/simulated_site.py). The queue lets an allocation wait as busy sites do: log-normally, three minutes
in the median for one node for an hour, more with the square root of the node-hours that are asked for.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
for folder in (ROOT / "launcher" / "allocations", ROOT / "pilot" / "model"):
    sys.path.insert(0, str(folder))

from simulated_site import Site  # noqa: E402
from world import job  # noqa: E402

from pilotfish.launcher.allocations.decide import Submit  # noqa: E402
from pilotfish.launcher.allocations.spec import AllocationSpec, NodeSize  # noqa: E402
from pilotfish.pilot.model.job_spec import JobSpec  # noqa: E402

SIZE = NodeSize(16)
MOST_NODES = 16
FIXED_LIMIT_S = 24 * 3600.0
_JOB_START_S = 10.0
"""What a batch job costs besides its task: prologue, environment, epilogue."""
_JOBS_AT_ONCE = 200
"""How many batch jobs one user may have queued and running."""


class Kind(NamedTuple):
    """A part of the bag: `share` of all tasks, each on `cores` of `nodes` (0: one node), `median_s` long, `limit_s` at most."""

    name: str
    share: float
    cores: int
    nodes: int
    median_s: float
    limit_s: float

    @property
    def used_cores(self) -> int:
        return self.cores * max(1, self.nodes)


KINDS = (
    Kind("short", 0.800, 1, 0, 120, 900),
    Kind("medium", 0.160, 4, 0, 600, 3600),
    Kind("long", 0.038, 8, 0, 1800, 7200),
    Kind("wide", 0.002, 16, 4, 1200, 3600),
)


@dataclass
class Outcome:
    """What a way to run the bag came to."""

    node_hours: float
    core_hours: float
    hours: float

    @property
    def per_useful(self) -> float:
        """Node-hours used for each node-hour of cores that tasks used: 1 is perfect."""
        return self.node_hours * SIZE.cores / self.core_hours


class Task(NamedTuple):
    name: str
    kind: Kind
    comes_s: float
    took_s: float


class Bag:
    """The same tasks, each with the same length, for all ways. `later_s`: when the second half of them comes."""

    def __init__(self, tasks: int, seed: int, later_s: float) -> None:
        self._chance = random.Random(seed)
        self.tasks: list[Task] = []
        self.jobs: list[tuple[float, JobSpec]] = []
        for half, comes_s in enumerate((0.0, later_s)):
            for kind in KINDS:
                name, count = f"{kind.name}{half}", max(1, round(tasks * kind.share / 2))
                spec = job(name, kind.cores, kind.nodes or None, count=count, wt_s=kind.limit_s)
                self.jobs.append((comes_s, spec))
                self.tasks += [Task(f"{name}:{number}", kind, comes_s, self._took_s(kind)) for number in range(count)]
        self.lengths_s = {task.name: task.took_s for task in self.tasks}
        self.core_hours = sum(task.took_s * task.kind.used_cores / 3600 for task in self.tasks)

    def _took_s(self, kind: Kind) -> float:
        return min(kind.limit_s, kind.median_s * self._chance.lognormvariate(0, 0.6))

    def wait_s(self, nodes: float, limit_s: float) -> float:
        node_hours = nodes * limit_s / 3600
        return 180 * max(0.1, node_hours) ** 0.5 * self._chance.lognormvariate(0, 0.8)


def by_the_queue(bag: Bag, longest_h: float) -> Outcome:
    spec = AllocationSpec(
        "queue", "machine", nodes=(1, 8), walltime_s=longest_h * 3600, max_waiting=3, max_nodes=MOST_NODES, node=SIZE
    )
    return _outcome(bag, spec, lambda submit, now: bag.wait_s(submit.nodes, submit.walltime_s))


def fixed(bag: Bag) -> Outcome:
    """One allocation of all nodes, asked for with a guess of the time; it stays until the work is done."""
    spec = AllocationSpec(
        "fixed",
        "machine",
        nodes=(MOST_NODES, MOST_NODES),
        walltime_s=FIXED_LIMIT_S,
        max_waiting=1,
        max_nodes=MOST_NODES,
        idle_s=FIXED_LIMIT_S,
        min_work_s=FIXED_LIMIT_S,
        node=SIZE,
    )
    return _outcome(bag, spec, lambda submit, now: bag.wait_s(MOST_NODES, FIXED_LIMIT_S), until_done=True)


def _outcome(
    bag: Bag, spec: AllocationSpec, wait_s: Callable[[Submit, float], float], *, until_done: bool = False
) -> Outcome:
    """`until_done`: its allocations end with the work and not before."""
    site = Site([spec], {spec.name: SIZE}, wait_s, bag.lengths_s.__getitem__, checked=False)
    begun_s = site.now
    for comes_s, each in bag.jobs:
        site.submit_at(comes_s, each)
    done_s = site.run(30 * 86_400)
    node_s = site.node_s
    if until_done:
        starts_s = [each.started_s for each in site.allocations.values() if each.started_s is not None]
        node_s = sum(MOST_NODES * (begun_s + done_s - started_s) for started_s in starts_s)
    return Outcome(node_s / 3600, bag.core_hours, done_s / 3600)


def a_job_each(bag: Bag, *, shared: bool) -> Outcome:
    """One batch job per task, as many at once as a user may have, on cores of nodes (`shared`) or on whole ones."""
    running: list[float] = []
    now_s = done_s = node_s = 0.0
    for task in bag.tasks:
        now_s = max(now_s, task.comes_s)
        if len(running) == _JOBS_AT_ONCE:
            now_s = max(now_s, heappop(running))
        nodes = max(task.kind.nodes, task.kind.cores / SIZE.cores if shared else 1)
        took_s = task.took_s + _JOB_START_S
        end_s = now_s + bag.wait_s(nodes, task.kind.limit_s) + took_s
        heappush(running, end_s)
        node_s += nodes * took_s
        done_s = max(done_s, end_s)
    return Outcome(node_s / 3600, bag.core_hours, done_s / 3600)


WAYS: dict[str, Callable[[Bag], Outcome]] = {
    "nodes asked for by the queue, for 12 h at most": lambda bag: by_the_queue(bag, 12),
    "nodes asked for by the queue, for 4 h at most": lambda bag: by_the_queue(bag, 4),
    "a fixed allocation of 16 nodes": fixed,
    "one job per task, cores of shared nodes": lambda bag: a_job_each(bag, shared=True),
    "one job per task, whole nodes": lambda bag: a_job_each(bag, shared=False),
}


class Row(NamedTuple):
    """One way, in medians."""

    way: str
    node_hours: float
    per_useful: float
    hours: float


def rows(tasks: int, seeds: int, later_s: float = 0.0) -> Iterator[Row]:
    for name, way in WAYS.items():
        outcomes = [way(Bag(tasks, seed, later_s)) for seed in range(seeds)]
        values = ((each.node_hours, each.per_useful, each.hours) for each in outcomes)
        yield Row(name, *map(statistics.median, zip(*values, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--later", type=float, default=0.0, help="after how many hours the second half comes")
    given = parser.parse_args()
    print(f"{given.tasks} tasks, medians of {given.seeds} seeds (simulated)")
    for row in rows(given.tasks, given.seeds, given.later * 3600):
        used = f"{row.node_hours:7.0f} node-hours {row.per_useful:6.2f} per useful one"
        print(f"{row.way:50} {used} {row.hours:7.1f} h to finish", flush=True)


if __name__ == "__main__":
    main()
