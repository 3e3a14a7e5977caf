"""The scheduling core alone: simulated agents that end tasks at once, no process, no socket."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from statistics import median

from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.ids import GrantId, NodeNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import Dependency, Execution, Iteration, JobSpec, Need, Resources, Size
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause

TRUE = Execution(exec="/bin/true")
BATCH = 2000
ROUNDS = 3


@dataclass
class Result:
    what: str
    value: str
    goal: str
    ok: bool | None


def drain(scheduler: Scheduler) -> int:
    """Play all agents until nothing runs; returns how many tasks ended."""
    now, done = 1.0, 0
    idle: dict[PoolId, deque[GrantId]] = {}
    waiting: dict[PoolId, deque[TaskKey]] = {}
    running: deque[tuple[TaskKey, GrantId, PoolId]] = deque()
    while True:
        scheduler.plan(now)
        for orders in scheduler.take_decisions().orders.values():
            for grant in orders.grants:
                idle.setdefault(grant.pool, deque()).append(grant.grant_id)
            for pool, keys in orders.starts.items():
                waiting.setdefault(pool, deque()).extend(keys)
            for pool in {grant.pool for grant in orders.grants} | orders.starts.keys():
                theirs = waiting.get(pool, deque())
                while idle.get(pool) and theirs:
                    running.append((theirs.popleft(), idle[pool].popleft(), pool))
        if not running:
            return done
        now += 0.1
        for _ in range(min(BATCH, len(running))):
            key, grant_id, pool = running.popleft()
            theirs = waiting.get(pool, deque())
            returns = not theirs
            if theirs:
                running.append((theirs.popleft(), grant_id, pool))
            scheduler.on_finished(key, grant_id, End(5, now - 0.1, now, 0, Cause.EXITED), returns, now)
            done += 1


def pilot(nodes: int, cores: int, gpus: int = 0) -> Scheduler:
    ids = tuple(map(str, range(cores)))
    scheduler = Scheduler([NodeSpec(f"n{number}", ids, ids[:gpus]) for number in range(nodes)])
    for number in range(nodes):
        scheduler.on_node_up(NodeNo(number))
    return scheduler


def rate(scheduler: Scheduler, specs: list[JobSpec]) -> float:
    scheduler.submit(specs, 0.0)
    # As the manager does: its objects live long and form no cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    begin = time.perf_counter()
    done = drain(scheduler)
    seconds = time.perf_counter() - begin
    assert done == sum(spec.task_count for spec in specs), (done, "tasks ended")
    return done / seconds


def mixed(count: int) -> list[JobSpec]:
    """1-64 cores, 1-4 nodes, GPUs, dependencies on earlier jobs."""
    specs = []
    for number in range(count):
        cores = 1 << number % 7
        nodes = (None, 1, 2, 4)[number % 4]
        need = Need(Size.exactly(cores), None if nodes is None else Size.exactly(nodes), int(number % 5 == 0))
        after = (Dependency(f"j{number - 7}"),) if number % 3 == 0 and number >= 7 else ()
        specs.append(JobSpec(f"j{number}", TRUE, Resources(need), after=after))
    return specs


def speed(quick: bool) -> list[Result]:
    """Medians: a single run of a fifth of a second tells more of the machine than of the core."""
    results = []
    for count in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
        job = JobSpec("a", TRUE, iteration=Iteration(0, count))
        found = median(rate(pilot(1000, 64), [job]) for _ in range(ROUNDS))
        what = f"core: {count:,} single-core tasks on 1,000 x 64 cores"
        results.append(Result(what, f"{found:.0f}/s", ">= 50000/s", found >= 50_000))
    count = 5_000 if quick else 20_000
    found = median(rate(pilot(1000, 64, gpus=4), mixed(count)) for _ in range(ROUNDS))
    results.append(Result(f"core: {count:,} mixed tasks", f"{found:.0f}/s", ">= 10000/s", found >= 10_000))
    return results


_MEMORY = """
import gc, json, sys, tracemalloc
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.wire.requests import Submit, parse
import msgspec
which, count = sys.argv[1], int(sys.argv[2])
execution = {"exec": "/bin/true", "stdout": "out", "stderr": "err"}
if which == "jobs":
    jobs = [{"name": f"job-{n}", "execution": execution} for n in range(count)]
else:
    jobs = [{"name": "a", "execution": execution, "iteration": {"stop": count}}]
body = msgspec.json.encode({"request": "submit", "jobs": jobs})
scheduler = Scheduler([NodeSpec("n", ("0", "1"))])
gc.collect()
tracemalloc.start()
request = parse(body, dict)
scheduler.submit(request.jobs, 0.0)
del request, body, jobs
gc.collect()
print(json.dumps(tracemalloc.get_traced_memory()[0] / count))
"""


def memory() -> list[Result]:
    """Bytes per queued iteration and per queued separate job, in a process of its own."""
    results = []
    for which, count, goal in (("iterations", 1_000_000, 64), ("jobs", 100_000, 1024)):
        command = [sys.executable, "-c", _MEMORY, which, str(count)]
        used = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        what = f"memory per queued one of {count:,} {which}"
        results.append(Result(what, f"{used:.1f} bytes", f"<= {goal} bytes", used <= goal))
    return results
