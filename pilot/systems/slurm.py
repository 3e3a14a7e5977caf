"""Slurm: the job's variables, and `scontrol show job -d` for what they lack (ids, GPUs of other nodes, the end)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import hostlist
from .base import (
    Allocation,
    BatchSystem,
    HostEnvironment,
    Source,
    StepProcesses,
    check_nodes,
    core_ids,
    gpus_of,
    is_this_host,
    need,
)

_NODES = re.compile(r"\bNodes=(\S+) CPU_IDs=(\S+) Mem=(\d+) GRES=(\S*)")
_GPU_INDEXES = re.compile(r"gpu[^(,]*\(IDX:([\d,-]+)\)")
_END = re.compile(r"\bEndTime=(\S+)")
_MIB = 1 << 20


class _Detail(NamedTuple):
    """One node as scontrol describes it. Its processor ids are Slurm's own count, not the kernel's: names, not to bind to."""

    core_ids: tuple[str, ...]
    gpu_ids: tuple[str, ...]
    mem_bytes: int


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID"))


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for variables that are missing or contradict each other."""
    need(host_env, "SLURM_JOB_ID", "SLURM_JOBID")
    text, where = need(host_env, "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    names = hostlist.hosts(text, where)
    counts_text, counts_where = need(host_env, "SLURM_JOB_CPUS_PER_NODE", "SLURM_CPUS_ON_NODE")
    counts = hostlist.counts(counts_text, counts_where)
    _check(host_env, names, f"{where} ({text})", counts, counts_text, counts_where)
    command = _command(host_env)
    output = host_env.run(command) or ""
    details = dict(_details(output))
    divisor = _threads_per_slot(host_env, dict(zip(names, counts, strict=True)))
    nodes = [_node(host_env, name, cpus, divisor, details.get(name)) for name, cpus in zip(names, counts, strict=True)]
    cores = Source("cores", counts_text + (f" / {divisor}" if divisor > 1 else ""), counts_where)
    sources = [Source("nodes", text, where), cores]
    if details:
        sources.append(Source("memory, GPUs", f"{len(details)} nodes", " ".join(command)))
    else:
        sources += _sources_of_variables(host_env)
    job_id, ends_s, end = job_and_end(host_env, output)
    return Allocation("slurm", tuple(check_nodes(nodes, where)), job_id, ends_s, (*sources, *end))


def job_and_end(host_env: HostEnvironment, output: str | None = None) -> tuple[str | None, float | None, list[Source]]:
    """Number of the job and when it ends. `output`: that of scontrol; None: ask it if need be."""
    job_id = host_env.environ.get("SLURM_JOB_ID") or host_env.environ.get("SLURM_JOBID")
    text = host_env.environ.get("SLURM_JOB_END_TIME", "")
    if text.isdigit():
        return job_id, float(text), [Source("end", text, "SLURM_JOB_END_TIME")]
    if output is None and job_id is not None:
        output = host_env.run(_command(host_env))
    found = _END.search(output or "")
    if found is not None:
        try:
            return (
                job_id,
                datetime.fromisoformat(found[1]).timestamp(),
                [Source("end", found[1], " ".join(_command(host_env)))],
            )
        except ValueError:  # Unknown: the partition has no limit
            pass
    return job_id, None, []


def _command(host_env: HostEnvironment) -> Sequence[str]:
    return ["scontrol", "show", "job", "-d", need(host_env, "SLURM_JOB_ID", "SLURM_JOBID")[0]]


def _check(
    host_env: HostEnvironment, names: list[str], nodes: str, counts: list[int], counts_text: str, counts_where: str
) -> None:
    remedy = "start the pilot in the batch script itself, or give --nodes"
    if len(counts) != len(names):
        what = f"{len(counts)} counts ({counts_text}) for the {len(names)} nodes of {nodes}"
        raise SettingsError(what, where=counts_where, remedy=remedy)
    number = host_env.environ.get("SLURM_JOB_NUM_NODES", "")
    if number.isdigit() and int(number) != len(names):
        raise SettingsError(f"{number}, but {len(names)} in {nodes}", where="SLURM_JOB_NUM_NODES", remedy=remedy)


def _threads_per_slot(host_env: HostEnvironment, counts: Mapping[str, int]) -> int:
    """How many of the counted processors are one slot: several when one hardware thread per core was asked for, and Slurm
    has counted all threads of this host."""
    asked = (
        host_env.environ.get("SLURM_HINT") == "nomultithread" or host_env.environ.get("SLURM_THREADS_PER_CORE") == "1"
    )
    own = next((count for name, count in counts.items() if is_this_host(host_env, name)), None)
    threads, cores = len(host_env.cpus.threads), len(host_env.cpus.cores)
    divisor = threads // cores if asked and own == threads else 1
    return divisor if all(count % divisor == 0 for count in counts.values()) else 1


def _details(output: str) -> Iterator[tuple[str, _Detail]]:
    for names, cpus, mem_mib, gres in _NODES.findall(output):
        indexes = _GPU_INDEXES.search(gres)
        gpu_ids = tuple(map(str, hostlist.ids(indexes[1], "scontrol: GRES"))) if indexes else ()
        cores = tuple(map(str, hostlist.ids(cpus, "scontrol: CPU_IDs")))
        for name in hostlist.hosts(names, "scontrol: Nodes"):
            yield name, _Detail(cores, gpu_ids, int(mem_mib) * _MIB)


def _node(host_env: HostEnvironment, name: str, cpus: int, divisor: int, detail: _Detail | None) -> NodeSpec:
    cores, bind = core_ids(host_env, name, cpus // divisor)
    if detail is None:
        granted = host_env.environ.get("SLURM_JOB_GPUS", "")
        # The variables describe this node; the others were requested in the same way.
        gpu_ids = gpus_of(host_env, host_env.hostname, list(map(str, hostlist.ids(granted, "SLURM_JOB_GPUS"))))
        return NodeSpec(name, cores, gpu_ids, _memory(host_env.environ, cpus), bind)
    if not bind and len(detail.core_ids) == len(cores):
        cores = detail.core_ids
    gpu_ids = gpus_of(host_env, name, detail.gpu_ids)
    return NodeSpec(name, cores, gpu_ids, detail.mem_bytes or _memory(host_env.environ, cpus), bind)


def _memory(environ: Mapping[str, str], cpus: int) -> int:
    """Bytes; 0 when the job has no memory limit of its own. Slurm's numbers are in MiB."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE", ""), environ.get("SLURM_MEM_PER_CPU", "")
    if per_node.isdigit():
        return int(per_node) * _MIB
    return int(per_core) * cpus * _MIB if per_core.isdigit() else 0


def _sources_of_variables(host_env: HostEnvironment) -> Iterator[Source]:
    for what, name in (
        ("memory", "SLURM_MEM_PER_NODE"),
        ("memory", "SLURM_MEM_PER_CPU"),
        ("GPUs", "SLURM_JOB_GPUS"),
    ):
        if host_env.environ.get(name):
            yield Source(what, host_env.environ[name], name)


# --- starting agents ----------------------------------------------------------------------------------------------------

_FLAGS = (
    "--overlap",  # beside the tasks' own steps, which it must not keep from starting
    "--cpu-bind=none",
    "--mem=0",  # the node's, as the agent hands it out itself
    "--ntasks-per-node=1",
    "--kill-on-bad-exit=0",  # an agent that dies is no reason to end the others
    "--no-kill",  # nor is a node that goes down
    "--wait=0",
    "--input=none",
    "--label",
    "--unbuffered",
    "--export=ALL",
)


def _srun(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    """One `srun` for all nodes; it builds its own tree."""
    count = len(nodes)
    return ["srun", *_FLAGS, f"--nodes={count}", f"--ntasks={count}", f"--nodelist={','.join(nodes)}", *command]


# --- what tasks are told ------------------------------------------------------------------------------------------------


def _task_variables(nodes: Sequence[tuple[str, int]], masks: Sequence[str] | None) -> dict[str, str]:
    """As Slurm would tell a step of a task for each core. SLURM_OVERLAP lets its steps start beside the agents' one."""
    names = ",".join(name for name, _ in nodes)
    counts = [count for _, count in nodes]
    per_node = hostlist.compressed_counts(counts)
    variables = {"SLURM_OVERLAP": "1"}
    variables |= dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_NUM_NODES"), str(len(counts)))
    variables |= dict.fromkeys(("SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"), names)
    variables |= dict.fromkeys(("SLURM_NPROCS", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"), str(sum(counts)))
    variables |= dict.fromkeys(
        ("SLURM_JOB_CPUS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"), per_node
    )
    variables["SLURM_CPUS_ON_NODE"] = str(counts[0])
    if len(set(counts)) == 1:
        variables["SLURM_NTASKS_PER_NODE"] = str(counts[0])
    if masks is not None:
        variables["SLURM_CPU_BIND"] = f"mask_cpu:{','.join(masks)}"
    elif _may_bind(os.environ.get("SLURM_CONF", "")):
        # The steps of all tasks would be bound to the first cores of the job.
        variables["SLURM_CPU_BIND"] = "none"
    return variables


@lru_cache
def _may_bind(configuration: str) -> bool:
    """Whether this Slurm binds steps to cores. If it cannot, each `srun` that is told how to bind says so on stderr.

    Slurm tells its jobs where its configuration is; what cannot be read may bind.
    """
    try:
        text = Path(configuration).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    plugins = re.findall(r"^\s*TaskPlugin\s*=\s*(\S+)", text, re.IGNORECASE | re.MULTILINE)
    if not plugins and re.search(r"^\s*Include\s", text, re.IGNORECASE | re.MULTILINE):
        return True
    return any(re.search("affinity|cgroup", plugin) for plugin in plugins)


_STEP = r"""
    SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|STEPID|STEP_.*|SRUN_COMM_.*|LAUNCH_NODE_IPADDR)
    | SLURM_(LABELIO|UNBUFFEREDIO|INPUTMODE|KILL_BAD_EXIT|NO_KILL|WAIT|DISTRIBUTION|CPU_BIND.*|MEM_BIND.*)
    | SLURM_(NTASKS_PER_NODE|NTASKS_PER_CORE|NTASKS_PER_SOCKET|CPUS_PER_TASK|TRES_PER_TASK)
    | SRUN_CPUS_PER_TASK | SLURM_JOB_CPUS_PER_NODE_(PACK|HET)_GROUP_.*
"""
_PRIVATE = r"""
    SLURM_(?!CONF$).* | SLURMD_.* | SRUN_.* | SBATCH_.* | SALLOC_.*
"""
"""`sbatch` sends the whole environment along, sets only a part of these anew, and takes others for its own options."""

_FREE_STEPS = {"SLURM_CPU_BIND": "none"}
"""For launchers that put one helper on each node with srun: the helpers bind the ranks, and are not to be bound themselves."""

SYSTEM = BatchSystem(
    "slurm",
    "Slurm",
    inside,
    find,
    AgentLauncher("srun", _srun, at_once=True, node_variable="SLURMD_NODENAME", connect="environment"),
    task_variables=_task_variables,
    variable_prefix="SLURM_",
    hostfile_variable="SLURM_HOSTFILE",
    model_variables={
        # SLURM_CPU_BIND is for srun; Hydra's helpers would be bound to the first core.
        "default": {"HYDRA_LAUNCHER_EXTRA_ARGS": "--cpu-bind=none"},
        "openmpi": _FREE_STEPS,
        "mpich": {
            "HYDRA_LAUNCHER": "slurm",
            "HYDRA_LAUNCHER_EXTRA_ARGS": "--overlap --cpu-bind=none",
            **_FREE_STEPS,
        },
        "intelmpi": {
            "I_MPI_HYDRA_BOOTSTRAP": "slurm",
            "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--overlap --overcommit --cpu-bind=none --mem=0",
            **_FREE_STEPS,
        },
    },
    openmpi_component="slurm",
    step_variables=_STEP,
    private_variables=_PRIVATE,
    submit_commands=("sbatch", "salloc"),
    script_suffixes=(".slurm", ".slr", ".sbatch"),
    step_processes=StepProcesses("srun", "slurm_step_id", "slurmstepd"),
    end_moves=True,
)
