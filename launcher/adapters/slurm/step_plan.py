"""What `srun` in a job asks for, checked, and which tasks run on which of the job's nodes. Starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from .arguments import Values
from .errors import Refusal
from .step_streams import Step, Task


def _error(text: str) -> Refusal:
    return Refusal(f"srun: error: {text}")


def _whole(values: Values, name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise _error(f'Invalid numeric value "{text}" for --{name}.')
    return int(text)


def plan(values: Values, command: str, cores: Mapping[str, int], environ: Mapping[str, str], job: str) -> Step:
    """Which tasks run on which of the job's nodes, of which `cores` says how much it has there. The step has no number yet.

    Raises Refusal for more than the job has.
    """
    nodes = list(cores)
    threads = _whole(values, "cpus-per-task") or int(environ.get("SRUN_CPUS_PER_TASK", "1"))
    per_node, count = _whole(values, "ntasks-per-node"), _whole(values, "ntasks")
    node_count = _node_count(values, len(nodes), job)
    if count is None and per_node is not None:
        count = (node_count or len(nodes)) * per_node
    if count is None:
        count = node_count or int(environ.get("SLURM_NTASKS", len(nodes)))
    _warn(values, count, node_count or int(environ.get("SLURM_NNODES", "0")), environ)
    used = min(node_count or len(nodes), count)
    spread = _spread(count, used, [core // threads for core in cores.values()], per_node)
    if spread is None:
        raise _error(f"Unable to create step for job {job}: More processors requested than permitted")
    tasks: list[Task] = []
    for node_id, (node, here) in enumerate(zip(nodes, spread, strict=False)):
        tasks += [Task(len(tasks) + local, local, node_id, node) for local in range(here)]
    exact = bool({"exact", "exclusive", "cpus-per-task"} & values.keys())
    taken = {
        node: here * threads if exact else cores[node]
        for node, here in zip(nodes, spread, strict=False)
        if here and "overlap" not in values
    }
    return Step(-1, values.get("job-name") or os.path.basename(command), tuple(tasks), threads, taken)


def _warn(values: Values, count: int, nodes: int, environ: Mapping[str, str]) -> None:
    """Of what the job has and the step cannot use."""
    per_node = int(values.get("ntasks-per-node") or environ.get("SLURM_NTASKS_PER_NODE") or 0)
    if "quiet" in values or not nodes:
        return
    if count < nodes:
        text = f"can't run {count} processes on {nodes} nodes, setting nnodes to {count}"
        print(f"srun: Warning: {text}", file=sys.stderr)
    elif per_node and count > nodes * per_node:
        text = f"can't honor --ntasks-per-node set to {per_node} which doesn't match the requested tasks {count} "
        text += f"with the number of requested nodes {nodes}. Ignoring --ntasks-per-node."
        print(f"srun: Warning: {text}", file=sys.stderr)


def _node_count(values: Values, most: int, job: str) -> int | None:
    text = values.get("nodes")
    if text is None:
        return None
    least = text.partition("-")[0]
    if not (least.isascii() and least.isdigit() and int(least)):
        raise _error(f'"{text}" is not a valid node count')
    if int(least) > most:
        raise _error(f"Unable to create step for job {job}: Requested node configuration is not available")
    return int(least)


def _spread(count: int, nodes: int, room: Sequence[int], per_node: int | None) -> list[int] | None:
    """Tasks on each node, one after the other round the nodes; None when they do not fit."""
    room = [min(fits, per_node or fits) for fits in room[:nodes]]
    if sum(room) < count:
        return None
    spread = [0] * nodes
    while count:
        for place in range(nodes):
            if count and spread[place] < room[place]:
                spread[place] += 1
                count -= 1
    return spread


def check(values: Values, environ: Mapping[str, str]) -> None:
    """Raises Refusal for what a pilot cannot do in a step of the job with these variables."""
    mpi = values.get("mpi", "none")
    if mpi not in ("none", "list"):
        raise _error(f"Couldn't find the specified plugin name for mpi/{mpi} looking at all files")
    bind = values.get("cpu-bind", "none")
    if any(word not in ("none", "no", "q", "quiet", "v", "verbose") for word in bind.lower().split(",")):
        raise _error(f"--cpu-bind={bind}: a step has the cores of its job; its tasks are not bound to single ones")
    job = values.get("jobid")
    if job is not None and job not in (environ.get("SLURM_JOB_ID"), environ.get("SLURM_JOBID")):
        raise _error("Unable to attach to another job: a pilot starts steps in their own job")
    for name in ("gres", "gpus", "gpus-per-node", "gpus-per-task"):
        if values.get(name, "none").lower() not in ("none", "0", "gpu:0") and "SLURM_JOB_GPUS" not in environ:
            raise _error("Unable to create step: Invalid generic resource (gres) specification")
