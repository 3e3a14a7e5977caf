"""Torque: PBS_NODEFILE, which has a line for each core, PBS_GPUFILE, and `qstat -f` for the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import pbs_family
from .base import Allocation, BatchSystem, HostEnvironment, Source, check_nodes, core_ids, gpus_of, need, one_by_one
from .pbs_family import short, shown

_GPU_LINE = re.compile(r"(.+)-gpu(\d+)")


def inside(environ: Mapping[str, str]) -> bool:
    return pbs_family.inside(environ) and pbs_family.TORQUE_MARK in environ


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for a node file that cannot be read, is empty, or contradicts the variables."""
    job_id = need(host_env, "PBS_JOBID")[0]
    lines = pbs_family.node_lines(host_env)
    attributes, command = pbs_family.qstat(host_env)
    nodes, sources = _nodes(host_env, lines)
    ends_s, end = pbs_family.end(host_env, attributes, command)
    sources.insert(0, Source("nodes", ", ".join(node.name for node in nodes), "PBS_NODEFILE"))
    return Allocation("torque", tuple(check_nodes(nodes, "PBS_NODEFILE")), job_id, ends_s, (*sources, *end))


def _nodes(host_env: HostEnvironment, lines: list[str]) -> tuple[list[NodeSpec], list[Source]]:
    total = host_env.environ.get("PBS_NP", "")
    if total.isdigit() and int(total) != len(lines):
        raise SettingsError(f"{total} cores were given and PBS_NODEFILE has {len(lines)} lines", where="PBS_NP")
    gpus: dict[str, list[str]] = {}
    gpu_file = host_env.environ.get("PBS_GPUFILE")
    for line in ((host_env.read(gpu_file) if gpu_file else None) or "").split():
        found = _GPU_LINE.fullmatch(line)
        if found is None:
            raise SettingsError(f'"{line}" is not HOST-gpuNUMBER', where="PBS_GPUFILE")
        gpus.setdefault(short(found[1]), []).append(found[2])
    nodes = []
    for host, count in Counter(lines).items():
        cores, bind = core_ids(host_env, host, count)
        nodes.append(NodeSpec(host, cores, tuple(gpus.get(short(host), ())) or gpus_of(host_env, host, ()), 0, bind))
    sources = [Source("cores", shown(nodes), "PBS_NODEFILE")]
    if gpus:
        sources.append(
            Source("GPUs", ", ".join(f"{host}: {','.join(ids)}" for host, ids in gpus.items()), "PBS_GPUFILE")
        )
    return nodes, sources


SYSTEM = BatchSystem(
    "torque",
    "Torque",
    inside,
    find,
    AgentLauncher("pbsdsh", one_by_one("pbsdsh", "-h")),
    openmpi_component="tm",
    private_variables=pbs_family.PRIVATE,
    submit_commands=("qsub",),
)
