"""PBS Pro and OpenPBS: PBS_NODEFILE, and `qstat -f` for exact cores, GPUs, memory and the end.

The file has a line for each MPI rank, so `exec_vnode` counts. Torque, which began as the same program, is in torque.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.units import parse_bytes
from . import pbs_family
from .base import (
    Allocation,
    BatchSystem,
    HostEnvironment,
    Source,
    check_nodes,
    core_ids,
    gpus_of,
    is_this_host,
    need,
    one_by_one,
)
from .pbs_family import short, shown

_CHUNK = re.compile(r"\(?([^():+]+):([^()+]*)\)?")
_UNITS = {"b": "", "kb": "K", "mb": "M", "gb": "G", "tb": "T"}


@dataclass(slots=True)
class _Chunk:
    """What PBS Pro gave on one host."""

    ncpus: int = 0
    ngpus: int = 0
    mem_bytes: int = 0


def inside(environ: Mapping[str, str]) -> bool:
    return pbs_family.inside(environ) and pbs_family.TORQUE_MARK not in environ


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for a node file that cannot be read, is empty, or contradicts `qstat` or the variables."""
    job_id = need(host_env, "PBS_JOBID")[0]
    if pbs_family.TORQUE_MARK in host_env.environ:
        raise SettingsError(
            "is set, so this is a job of Torque", where=pbs_family.TORQUE_MARK, remedy="give --resources torque"
        )
    lines = pbs_family.node_lines(host_env)
    attributes, command = pbs_family.qstat(host_env)
    nodes, sources = _nodes(host_env, lines, attributes.get("exec_vnode", ""), command)
    ends_s, end = pbs_family.end(host_env, attributes, command)
    sources.insert(0, Source("nodes", ", ".join(node.name for node in nodes), "PBS_NODEFILE"))
    return Allocation("pbs", tuple(check_nodes(nodes, "PBS_NODEFILE")), job_id, ends_s, (*sources, *end))


def _nodes(
    host_env: HostEnvironment, lines: list[str], exec_vnode: str, command: str
) -> tuple[list[NodeSpec], list[Source]]:
    ranks = Counter(lines)
    chunks = _chunks(exec_vnode)
    strange = set(chunks) ^ {short(host) for host in ranks}
    if chunks and strange:
        what = f"PBS_NODEFILE and exec_vnode do not agree on {', '.join(sorted(strange))}"
        raise SettingsError(what, where=command)
    nodes = [_node(host_env, host, count, chunks.get(short(host), _Chunk())) for host, count in ranks.items()]
    where = f"{command}: exec_vnode"
    sources = [Source("cores", shown(nodes), where if chunks else "PBS_NODEFILE, NCPUS")]
    if any(chunk.ngpus for chunk in chunks.values()):
        sources.append(Source("GPUs", ", ".join(f"{host}: {chunk.ngpus}" for host, chunk in chunks.items()), where))
    return nodes, sources


def _chunks(exec_vnode: str) -> dict[str, _Chunk]:
    """`(n1:ncpus=4:mem=8gb)+(n2:ncpus=2)` by host; several chunks of one host are added up."""
    found: dict[str, _Chunk] = {}
    for name, members in _CHUNK.findall(exec_vnode):
        chunk = found.setdefault(short(name.partition("[")[0]), _Chunk())
        for member in members.split(":"):
            key, _, value = member.partition("=")
            if key == "ncpus" and value.isdigit():
                chunk.ncpus += int(value)
            elif key == "ngpus" and value.isdigit():
                chunk.ngpus += int(value)
            elif key == "mem":
                chunk.mem_bytes += _bytes(value)
    return found


def _node(host_env: HostEnvironment, host: str, ranks: int, chunk: _Chunk) -> NodeSpec:
    cores, bind = core_ids(host_env, host, chunk.ncpus or max(ranks, _own_count(host_env, host)))
    gpu_ids = gpus_of(host_env, host, list(map(str, range(chunk.ngpus))))
    return NodeSpec(host, cores, gpu_ids, chunk.mem_bytes, bind)


def _own_count(host_env: HostEnvironment, host: str) -> int:
    """NCPUS is what PBS Pro gave the first chunk, where the job script runs."""
    text = host_env.environ.get("NCPUS", "")
    return int(text) if text.isdigit() and is_this_host(host_env, host) else 0


def _bytes(text: str) -> int:
    """`8gb`, `8388608kb`; 0 if the text is not a size."""
    number = text.rstrip("bkmgtBKMGT")
    try:
        return parse_bytes(number + _UNITS.get(text[len(number) :].lower(), "")) if number else 0
    except UsageError:
        return 0


SYSTEM = BatchSystem(
    "pbs",
    "PBS Pro, OpenPBS",
    inside,
    find,
    AgentLauncher(
        "pbs_tmrsh", one_by_one("pbs_tmrsh")
    ),  # which takes a host; `pbsdsh` would take the number of a chunk
    aliases=("pbspro", "openpbs"),
    openmpi_component="tm",
    private_variables=pbs_family.PRIVATE,
    submit_commands=("qsub",),
    script_suffixes=(".pbs",),
    end_moves=True,
)
