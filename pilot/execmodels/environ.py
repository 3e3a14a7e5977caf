"""The environment a task sees: what the agent has, then the job's own, then ours (docs/task-environment.md).

Everything is bytes, because posix_spawn takes bytes: encoding sixty variables again for each of a million tasks would cost
more than all the rest of starting one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from .. import variable_names
from ..model.resources import host_of
from ..systems import registry
from ..systems.base import BatchSystem
from ..wire.frames import NewGrant
from .base import mask_of, named_variables

Env = dict[bytes, bytes]

_AGENT_ID = os.fsencode(variable_names.AGENT_ID)
_OURS = (*(os.fsencode(name) for name in variable_names.OURS if name != variable_names.CONNECTION), b"_")
"""And `_`, in which a shell has told what it has started: us, and not the task."""
_OF_RESOURCES = os.fsencode(variable_names.RESOURCE)
"""What a pilot around this one has given to it, and not to the task."""
_CUDA, _ROCR = b"CUDA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES"
_GPUS = frozenset({_CUDA, _ROCR, b"HIP_VISIBLE_DEVICES", b"GPU_DEVICE_ORDINAL"})
"""Some batch systems set several of these, whatever the GPUs are."""
_NO_GPU = (b"", b"-1", b"NoDevFiles")
_AMD_DEVICE, _NVIDIA_DRIVER = "/dev/kfd", "/proc/driver/nvidia/version"


_RANK = re.compile(
    rb"""
    PMI_(FD|RANK|SIZE|ID|PORT|SPAWNED|JOBID|LOCAL_RANK|LOCAL_SIZE|UNIVERSE_SIZE|HOSTNAME)
    | MPI_LOCAL(RANKID|NRANKS) | HYDI_.*
    | PMIX_(?!MCA_).*
    | OMPI_(COMM_WORLD_.*|UNIVERSE_SIZE|APP_CTX_NUM_PROCS|FIRST_RANKS|NUM_APP_CTX|FILE_LOCATION|COMMAND|ARGV)
    | OMPI_MCA_(ess.*|orte_.*|initial_wdir|mpi_yield_when_idle) | PRTE_LAUNCHED
    """,
    re.VERBOSE,
)
"""What the launcher of the agents has told them of being ranks: an MPI program in a task would take itself for one."""


def encode(variables: Mapping[str, str]) -> Env:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def base_environment(
    environ: Mapping[bytes, bytes], agent_id: str, of_pilot: Mapping[str, str], schemas: Sequence[str]
) -> Env:
    """What every task of this agent starts from. PILOTFISH_AGENT_ID marks the processes of one life of an agent.

    Where a task is told its place in the variables of a batch system, it sees the GPUs it was given and no others: the
    allocation's own list is taken out. That agents are started like the ranks of a parallel program is never seen.
    """
    systems = _told_of(schemas)
    # A word that there is no GPU stays: without it a task would see all that the machine has.
    told_of_gpus = [name for name in _GPUS if environ.get(name) not in _NO_GPU] if systems else []
    hidden = {*_OURS, *told_of_gpus}
    patterns = [_RANK, registry.rank_variables(), *(registry.step_variables(system.name) for system in systems)]
    base = {
        name: value
        for name, value in environ.items()
        if not (name in hidden or name.startswith(_OF_RESOURCES))
        and not any(pattern.fullmatch(name) for pattern in patterns)
    }
    return base | encode(of_pilot) | {_AGENT_ID: os.fsencode(agent_id)}


def gpu_variable(environ: Mapping[bytes, bytes], amd: bool | None = None) -> bytes:
    """The one variable that tells tasks their GPUs, by the agent's environment and whether the GPUs are AMD's.

    AMD's runtime would apply two of them one after the other, and count the second from 0 again. Where one alone is set it is
    the one that programs here obey. A processor with a small GPU of AMD's beside a card of NVIDIA's is no AMD machine.
    """
    if (_ROCR in environ) != (_CUDA in environ):
        return _ROCR if _ROCR in environ else _CUDA
    if amd is None:
        amd = os.path.exists(_AMD_DEVICE) and not os.path.exists(_NVIDIA_DRIVER)
    return _ROCR if amd else _CUDA


def without_other_gpus(env: Env, of_job: Env, of_grant: Env) -> Env:
    """`env` without what the allocation says of GPUs, where the grant says it; a job's own word stays."""
    if _GPUS.isdisjoint(of_grant):
        return env
    return {name: value for name, value in env.items() if name not in _GPUS or name in of_grant or name in of_job}


def grant_environment(grant: NewGrant, schemas: Sequence[str], gpus: bytes) -> Env:
    """The variables that tell a task what it was given; `gpus` is the name of the one for GPUs."""
    nodes = ",".join(host_of(node.name) for node in grant.nodes)
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
    for system in _told_of(schemas):
        assert system.task_variables is not None
        masks = [mask_of(core) for node in grant.nodes for core in node.core_ids] if grant.bind else None
        variables |= system.task_variables([(host_of(node.name), len(node.core_ids)) for node in grant.nodes], masks)
    visible_gpus = grant.nodes[0].visible_gpus
    if visible_gpus or grant.hide_gpus:
        variables[os.fsdecode(gpus)] = ",".join(visible_gpus)
    return encode(variables | named_variables(grant.nodes[0]))


def _told_of(schemas: Sequence[str]) -> list[BatchSystem]:
    """The batch systems in whose variables tasks are told their place."""
    return [system for system in registry.SYSTEMS if system.name in schemas and system.task_variables is not None]
