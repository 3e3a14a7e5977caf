"""PBS Pro, OpenPBS and Torque: PBS_NODEFILE, and `qstat -f` for exact cores, GPUs, memory and the end.

Torque's file has a line for each core; PBS Pro's has one for each MPI rank, so there `exec_vnode` counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.units import parse_bytes
from ..model.walltime import parse as parse_walltime
from .base import Allocation, HostEnvironment, Source, check_nodes, core_ids, is_this_host, need, need_file, own_gpus

_CHUNK = re.compile(r"\(?([^():+]+):([^()+]*)\)?")
_GPU_LINE = re.compile(r"(.+)-gpu(\d+)")
_STARTED = ("stime", "start_time")
_UNITS = {"b": "", "kb": "K", "mb": "M", "gb": "G", "tb": "T"}


@dataclass(slots=True)
class _Chunk:
    """What PBS Pro gave on one host."""

    ncpus: int = 0
    ngpus: int = 0
    mem_bytes: int = 0


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("PBS_JOBID") and environ.get("PBS_NODEFILE"))


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for a node file that cannot be read, is empty, or contradicts `qstat` or the variables."""
    job_id = need(host_env, "PBS_JOBID")[0]
    lines = [line.strip() for line in need_file(host_env, "PBS_NODEFILE").splitlines() if line.strip()]
    if not lines:
        raise SettingsError("names an empty file", where="PBS_NODEFILE", remedy="say --nodes to go on without it")
    command = ["qstat", "-f", job_id]
    told = _attributes(host_env.run(command) or "")
    if "PBS_NUM_PPN" in host_env.environ:
        kind, nodes, sources = "torque", *_torque(host_env, lines)
    else:
        kind, nodes, sources = "pbs", *_pro(host_env, lines, told.get("exec_vnode", ""), " ".join(command))
    ends_s, end = _end(host_env, told, " ".join(command))
    sources.insert(0, Source("nodes", ", ".join(node.name for node in nodes), "PBS_NODEFILE"))
    return Allocation(kind, tuple(check_nodes(nodes, "PBS_NODEFILE")), job_id, ends_s, (*sources, *end))


# --- Torque -------------------------------------------------------------------------------------------------------------


def _torque(host_env: HostEnvironment, lines: list[str]) -> tuple[list[NodeSpec], list[Source]]:
    total = host_env.environ.get("PBS_NP", "")
    if total.isdigit() and int(total) != len(lines):
        raise SettingsError(f"{total} cores were given and PBS_NODEFILE has {len(lines)} lines", where="PBS_NP")
    gpus: dict[str, list[str]] = {}
    gpu_file = host_env.environ.get("PBS_GPUFILE")
    for line in ((host_env.read(gpu_file) if gpu_file else None) or "").split():
        found = _GPU_LINE.fullmatch(line)
        if found is None:
            raise SettingsError(f'"{line}" is not HOST-gpuNUMBER', where="PBS_GPUFILE")
        gpus.setdefault(_short(found[1]), []).append(found[2])
    nodes = []
    for host, count in Counter(lines).items():
        cores, bind = core_ids(host_env, host, count)
        nodes.append(NodeSpec(host, cores, tuple(gpus.get(_short(host), ())) or own_gpus(host_env, host), 0, bind))
    sources = [Source("cores", _shown(nodes), "PBS_NODEFILE")]
    if gpus:
        sources.append(
            Source("GPUs", ", ".join(f"{host}: {','.join(ids)}" for host, ids in gpus.items()), "PBS_GPUFILE")
        )
    return nodes, sources


# --- PBS Pro, OpenPBS ---------------------------------------------------------------------------------------------------


def _pro(
    host_env: HostEnvironment, lines: list[str], exec_vnode: str, command: str
) -> tuple[list[NodeSpec], list[Source]]:
    ranks = Counter(lines)
    chunks = _chunks(exec_vnode)
    strange = set(chunks) ^ {_short(host) for host in ranks}
    if chunks and strange:
        what = f"PBS_NODEFILE and exec_vnode do not agree on {', '.join(sorted(strange))}"
        raise SettingsError(what, where=command)
    nodes = [_pro_node(host_env, host, count, chunks.get(_short(host), _Chunk())) for host, count in ranks.items()]
    where = f"{command}: exec_vnode"
    sources = [Source("cores", _shown(nodes), where if chunks else "PBS_NODEFILE, NCPUS")]
    if any(chunk.ngpus for chunk in chunks.values()):
        sources.append(Source("GPUs", ", ".join(f"{host}: {chunk.ngpus}" for host, chunk in chunks.items()), where))
    return nodes, sources


def _chunks(exec_vnode: str) -> dict[str, _Chunk]:
    """`(n1:ncpus=4:mem=8gb)+(n2:ncpus=2)` by host; several chunks of one host are added up."""
    found: dict[str, _Chunk] = {}
    for name, members in _CHUNK.findall(exec_vnode):
        chunk = found.setdefault(_short(name.partition("[")[0]), _Chunk())
        for member in members.split(":"):
            key, _, value = member.partition("=")
            if key == "ncpus" and value.isdigit():
                chunk.ncpus += int(value)
            elif key == "ngpus" and value.isdigit():
                chunk.ngpus += int(value)
            elif key == "mem":
                chunk.mem_bytes += _bytes(value)
    return found


def _pro_node(host_env: HostEnvironment, host: str, ranks: int, chunk: _Chunk) -> NodeSpec:
    cores, bind = core_ids(host_env, host, chunk.ncpus or max(ranks, _own_count(host_env, host)))
    gpu_ids = own_gpus(host_env, host) or tuple(map(str, range(chunk.ngpus)))
    return NodeSpec(host, cores, gpu_ids, chunk.mem_bytes, bind)


def _own_count(host_env: HostEnvironment, host: str) -> int:
    """NCPUS is what PBS Pro gave the first chunk, where the job script runs."""
    text = host_env.environ.get("NCPUS", "")
    return int(text) if text.isdigit() and is_this_host(host_env, host) else 0


def _bytes(text: str) -> int:
    """`8gb`, `8388608kb`; 0 for what is no size."""
    number = text.rstrip("bkmgtBKMGT")
    try:
        return parse_bytes(number + _UNITS.get(text[len(number) :].lower(), "")) if number else 0
    except UsageError:
        return 0


# --- both ---------------------------------------------------------------------------------------------------------------


def _attributes(told: str) -> dict[str, str]:
    """`name = value` lines; long values go on in lines that begin with a tab."""
    return dict(_pairs(told.replace("\n\t", "")))


def _pairs(told: str) -> Iterator[tuple[str, str]]:
    for line in told.splitlines():
        name, equals, value = line.strip().partition(" = ")
        if equals:
            yield name, value


def _end(host_env: HostEnvironment, told: Mapping[str, str], command: str) -> tuple[float | None, list[Source]]:
    """Start and limit as `qstat` tells them; without it Torque's PBS_WALLTIME, as if the job had started now."""
    started = next((told[name] for name in _STARTED if name in told), None)
    limit = told.get("Resource_List.walltime")
    if started is not None and limit is not None:
        try:
            ends_s = datetime.strptime(started, "%a %b %d %H:%M:%S %Y").timestamp() + parse_walltime(limit)
        except (ValueError, UsageError):
            return None, []
        return ends_s, [Source("end", f"{limit} after {started}", command)]
    seconds = host_env.environ.get("PBS_WALLTIME", "")
    if not told and seconds.isdigit() and int(seconds):
        return host_env.now_s + int(seconds), [Source("end", f"{seconds} s after now", "PBS_WALLTIME")]
    return None, []


def _short(host: str) -> str:
    return host.partition(".")[0]


def _shown(nodes: list[NodeSpec]) -> str:
    return ", ".join(f"{node.name}: {len(node.core_ids)}" for node in nodes)
