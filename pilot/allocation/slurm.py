"""Slurm: the job's variables, and `scontrol show job -d` for what they do not tell (ids, GPUs of other nodes, the end)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import hostlist
from .base import Allocation, Site, Source, check_nodes, core_ids, is_this_host, need, visible_gpus

_NODES = re.compile(r"\bNodes=(\S+) CPU_IDs=(\S+) Mem=(\d+) GRES=(\S*)")
_GPU_INDEXES = re.compile(r"gpu[^(,]*\(IDX:([\d,-]+)\)")
_END = re.compile(r"\bEndTime=(\S+)")
_MIB = 1 << 20


class _Detail(NamedTuple):
    """What scontrol tells of one node."""

    gpu_ids: tuple[str, ...]
    mem_bytes: int


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID"))


def find(site: Site) -> Allocation:
    """Raises SettingsError for variables that are missing or contradict each other."""
    job_id = need(site, "SLURM_JOB_ID", "SLURM_JOBID")[0]
    text, where = need(site, "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    names = hostlist.hosts(text, where)
    counts_text, counts_where = need(site, "SLURM_JOB_CPUS_PER_NODE", "SLURM_CPUS_ON_NODE")
    counts = hostlist.counts(counts_text, counts_where)
    if len(counts) != len(names):
        raise SettingsError(
            f"{len(counts)} counts ({counts_text}) for the {len(names)} nodes of {where} ({text})",
            where=counts_where,
            remedy="start the pilot in the batch script itself, or say --nodes",
        )
    command = ["scontrol", "show", "job", "-d", job_id]
    told = site.run(command) or ""
    details = dict(_details(told))
    sources = [Source("nodes", text, where), Source("cores", counts_text, counts_where)]
    nodes = [_node(site, name, count, details.get(name)) for name, count in zip(names, counts, strict=True)]
    if details:
        sources.append(Source("memory, GPUs", f"{len(details)} nodes", " ".join(command)))
    elif (gpus := _own_gpus(site)) is not None:
        sources.append(gpus)
    ends_s, end = _end(site, told, " ".join(command))
    return Allocation("slurm", tuple(check_nodes(nodes, where)), job_id, ends_s, (*sources, *end))


def _details(told: str) -> Iterator[tuple[str, _Detail]]:
    for names, _, mem_mib, gres in _NODES.findall(told):
        indexes = _GPU_INDEXES.search(gres)
        gpu_ids = tuple(map(str, hostlist.ids(indexes[1], "scontrol: GRES"))) if indexes else ()
        for name in hostlist.hosts(names, "scontrol: Nodes"):
            yield name, _Detail(gpu_ids, int(mem_mib) * _MIB)


def _node(site: Site, name: str, count: int, detail: _Detail | None) -> NodeSpec:
    cores, bind = core_ids(site, name, count)
    gpu_ids = detail.gpu_ids if detail is not None else ()
    own = _own_gpus(site)
    if own is not None and (is_this_host(site, name) or detail is None):
        gpu_ids = tuple(own.value.split(","))
    mem_bytes = (detail.mem_bytes if detail is not None else 0) or _memory(site.environ, count)
    return NodeSpec(name, cores, gpu_ids, mem_bytes, bind)


def _own_gpus(site: Site) -> Source | None:
    visible = visible_gpus(site.environ)
    if visible is None and site.environ.get("SLURM_JOB_GPUS"):
        return Source("gpus", site.environ["SLURM_JOB_GPUS"], "SLURM_JOB_GPUS")
    return visible


def _memory(environ: Mapping[str, str], cores: int) -> int:
    """Bytes; 0 when the job has no memory limit of its own. Slurm's numbers are in MiB."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE", ""), environ.get("SLURM_MEM_PER_CPU", "")
    if per_node.isdigit():
        return int(per_node) * _MIB
    return int(per_core) * cores * _MIB if per_core.isdigit() else 0


def _end(site: Site, told: str, command: str) -> tuple[float | None, list[Source]]:
    text = site.environ.get("SLURM_JOB_END_TIME", "")
    if text.isdigit():
        return float(text), [Source("end", text, "SLURM_JOB_END_TIME")]
    found = _END.search(told)
    if found is not None:
        try:
            return datetime.fromisoformat(found[1]).timestamp(), [Source("end", found[1], command)]
        except ValueError:  # Unknown: the partition has no limit
            pass
    return None, []
