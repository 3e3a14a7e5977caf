"""The environment a task sees: what the agent has, then the job's own, then ours (spec 11.3).

Everything is bytes, because posix_spawn takes bytes: encoding sixty variables again for each of a million tasks would cost
more than all the rest of starting one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ..wire.frames import NewGrant
from .base import mask_of

Env = dict[bytes, bytes]

_OURS = (b"PILOTFISH_LIFELINE_FD", b"PILOTFISH_AGENT_ID", b"PILOTFISH_TASK", b"PILOTFISH_RUN")
_CUDA, _ROCR = b"CUDA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES"
_GPUS = frozenset({_CUDA, _ROCR, b"HIP_VISIBLE_DEVICES", b"GPU_DEVICE_ORDINAL"})
"""Slurm sets three of these, whatever the GPUs are."""
_AMD_DEVICE = "/dev/kfd"


_RANK = re.compile(
    rb"""
    PMI_(FD|RANK|SIZE|ID|PORT|SPAWNED|JOBID|LOCAL_RANK|LOCAL_SIZE|UNIVERSE_SIZE|HOSTNAME)
    | MPI_LOCAL(RANKID|NRANKS) | HYDI_.*
    | PMIX_(?!MCA_).*
    | OMPI_(COMM_WORLD_.*|UNIVERSE_SIZE|APP_CTX_NUM_PROCS|FIRST_RANKS|NUM_APP_CTX|FILE_LOCATION|COMMAND|ARGV)
    | OMPI_MCA_(ess.*|orte_.*|initial_wdir|mpi_yield_when_idle) | PRTE_LAUNCHED
    | FLUX_(TASK_RANK|TASK_LOCAL_ID|JOB_SIZE|JOB_NNODES|KVS_NAMESPACE|PMI_LIBRARY_PATH)
    """,
    re.VERBOSE,
)
"""What the launcher of the agents has told them of being ranks: an MPI program in a task would take itself for one."""
_STEP = re.compile(
    rb"""
    SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|STEPID|STEP_.*|SRUN_COMM_.*|LAUNCH_NODE_IPADDR)
    | SLURM_(LABELIO|UNBUFFEREDIO|INPUTMODE|KILL_BAD_EXIT|NO_KILL|WAIT|DISTRIBUTION|CPU_BIND.*|MEM_BIND.*)
    | SLURM_(NTASKS_PER_NODE|NTASKS_PER_CORE|NTASKS_PER_SOCKET|CPUS_PER_TASK|TRES_PER_TASK)
    | SRUN_CPUS_PER_TASK | SLURM_JOB_CPUS_PER_NODE_(PACK|HET)_GROUP_.*
    """,
    re.VERBOSE,
)
"""What Slurm says of the step in which the agents run, and of how the job was to be cut: a task's own steps would obey."""


def encode(variables: Mapping[str, str]) -> Env:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def base_environment(
    environ: Mapping[bytes, bytes], agent_id: str, of_pilot: Mapping[str, str], schemas: list[str]
) -> Env:
    """What every task of this agent starts from. PILOTFISH_AGENT_ID marks the processes of one life of an agent.

    With the schema `slurm` a task sees the GPUs it was given and no others: the allocation's own list is taken out. That
    agents are started like the ranks of a parallel program is never seen.
    """
    in_slurm = "slurm" in schemas
    hidden = {*_OURS, *_GPUS} if in_slurm else _OURS
    base = {
        name: value
        for name, value in environ.items()
        if name not in hidden and not _RANK.fullmatch(name) and not (in_slurm and _STEP.fullmatch(name))
    }
    return base | encode(of_pilot) | {b"PILOTFISH_AGENT_ID": os.fsencode(agent_id)}


def gpu_variable(environ: Mapping[bytes, bytes], amd: bool | None = None) -> bytes:
    """The one variable that tells tasks their GPUs, by the agent's environment and whether the GPUs are AMD's.

    AMD's runtime would apply two of them one after the other, and count the second from 0 again.
    """
    if _ROCR not in environ:
        return _CUDA
    return _ROCR if _CUDA not in environ or (os.path.exists(_AMD_DEVICE) if amd is None else amd) else _CUDA


def without_other_gpus(env: Env, of_job: Env, of_grant: Env) -> Env:
    """`env` without what the allocation says of GPUs, where the grant says it; a job's own word stays."""
    if _GPUS.isdisjoint(of_grant):
        return env
    return {name: value for name, value in env.items() if name not in _GPUS or name in of_grant or name in of_job}


def grant_environment(grant: NewGrant, schemas: list[str], gpus: bytes) -> Env:
    """The variables that tell a task what it was given; `gpus` is the name of the one for GPUs."""
    nodes = ",".join(node.name for node in grant.nodes)
    counts = [len(node.core_ids) for node in grant.nodes]
    total = str(sum(counts))
    variables = {
        "QCG_PM_NNODES": str(len(grant.nodes)),
        "QCG_PM_NODELIST": nodes,
        "QCG_PM_NPROCS": total,
        "QCG_PM_NTASKS": total,
        "QCG_PM_TASKS_PER_NODE": ",".join(map(str, counts)),
        "QCG_PM_CPU_SET": ",".join(core for node in grant.nodes for core in node.core_ids),
    }
    if "slurm" in schemas:
        variables |= _slurm(nodes, counts)
        variables["SLURM_CPU_BIND"] = _masks(grant) if grant.bind else "none"
    if grant.nodes[0].gpu_ids or grant.hide_gpus:
        variables[os.fsdecode(gpus)] = ",".join(grant.nodes[0].gpu_ids)
    return encode(variables)


def _masks(grant: NewGrant) -> str:
    return f"mask_cpu:{','.join(mask_of(core) for node in grant.nodes for core in node.core_ids)}"


def _slurm(nodes: str, counts: list[int]) -> dict[str, str]:
    per_node = _compressed(counts)
    variables = {"SLURM_OVERLAP": "1"}
    variables |= dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_NUM_NODES"), str(len(counts)))
    variables |= dict.fromkeys(("SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"), nodes)
    variables |= dict.fromkeys(("SLURM_NPROCS", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"), str(sum(counts)))
    variables |= dict.fromkeys(
        ("SLURM_JOB_CPUS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"), per_node
    )
    variables["SLURM_CPUS_ON_NODE"] = str(counts[0])
    if len(set(counts)) == 1:
        variables["SLURM_NTASKS_PER_NODE"] = str(counts[0])
    return variables


def _compressed(counts: list[int]) -> str:
    """Runs as Slurm writes them: [2, 2, 1] is `2(x2),1`."""
    runs: list[tuple[int, int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1] = (count, runs[-1][1] + 1)
        else:
            runs.append((count, 1))
    return ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in runs)
