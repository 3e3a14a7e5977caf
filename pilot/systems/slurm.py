"""Slurm: the job's variables, and `scontrol show job -d` for what they do not tell (ids, GPUs of other nodes, the end)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import hostlist
from .base import Allocation, HostEnvironment, Source, check_nodes, core_ids, is_this_host, need, own_gpus

_NODES = re.compile(r"\bNodes=(\S+) CPU_IDs=(\S+) Mem=(\d+) GRES=(\S*)")
_GPU_INDEXES = re.compile(r"gpu[^(,]*\(IDX:([\d,-]+)\)")
_END = re.compile(r"\bEndTime=(\S+)")
_MIB = 1 << 20


class _Detail(NamedTuple):
    """What scontrol tells of one node. Its processor ids are Slurm's own count, not the kernel's: names, not to bind to."""

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
    told = host_env.run(command) or ""
    details = dict(_details(told))
    divisor = _threads_per_slot(host_env, dict(zip(names, counts, strict=True)))
    nodes = [_node(host_env, name, cpus, divisor, details.get(name)) for name, cpus in zip(names, counts, strict=True)]
    cores = Source("cores", counts_text + (f" / {divisor}" if divisor > 1 else ""), counts_where)
    sources = [Source("nodes", text, where), cores]
    if details:
        sources.append(Source("memory, GPUs", f"{len(details)} nodes", " ".join(command)))
    else:
        sources += _told_by_variables(host_env)
    job_id, ends_s, end = job_and_end(host_env, told)
    return Allocation("slurm", tuple(check_nodes(nodes, where)), job_id, ends_s, (*sources, *end))


def job_and_end(host_env: HostEnvironment, told: str | None = None) -> tuple[str | None, float | None, list[Source]]:
    """Number of the job and when it ends. `told`: what scontrol said, None to ask it when there is need."""
    job_id = host_env.environ.get("SLURM_JOB_ID") or host_env.environ.get("SLURM_JOBID")
    text = host_env.environ.get("SLURM_JOB_END_TIME", "")
    if text.isdigit():
        return job_id, float(text), [Source("end", text, "SLURM_JOB_END_TIME")]
    if told is None and job_id is not None:
        told = host_env.run(_command(host_env))
    found = _END.search(told or "")
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
    remedy = "start the pilot in the batch script itself, or say --nodes"
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


def _details(told: str) -> Iterator[tuple[str, _Detail]]:
    for names, cpus, mem_mib, gres in _NODES.findall(told):
        indexes = _GPU_INDEXES.search(gres)
        gpu_ids = tuple(map(str, hostlist.ids(indexes[1], "scontrol: GRES"))) if indexes else ()
        cores = tuple(map(str, hostlist.ids(cpus, "scontrol: CPU_IDs")))
        for name in hostlist.hosts(names, "scontrol: Nodes"):
            yield name, _Detail(cores, gpu_ids, int(mem_mib) * _MIB)


def _node(host_env: HostEnvironment, name: str, cpus: int, divisor: int, detail: _Detail | None) -> NodeSpec:
    cores, bind = core_ids(host_env, name, cpus // divisor)
    if detail is None:
        told = host_env.environ.get("SLURM_JOB_GPUS", "")
        # The variables tell of this node; the others were asked for in the same way.
        gpu_ids = own_gpus(host_env, host_env.hostname) or tuple(map(str, hostlist.ids(told, "SLURM_JOB_GPUS")))
        return NodeSpec(name, cores, gpu_ids, _memory(host_env.environ, cpus), bind)
    if not bind and len(detail.core_ids) == len(cores):
        cores = detail.core_ids
    # What programs are told here may count from 0 where Slurm confines them to their GPUs.
    gpu_ids = own_gpus(host_env, name) or detail.gpu_ids
    return NodeSpec(name, cores, gpu_ids, detail.mem_bytes or _memory(host_env.environ, cpus), bind)


def _memory(environ: Mapping[str, str], cpus: int) -> int:
    """Bytes; 0 when the job has no memory limit of its own. Slurm's numbers are in MiB."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE", ""), environ.get("SLURM_MEM_PER_CPU", "")
    if per_node.isdigit():
        return int(per_node) * _MIB
    return int(per_core) * cpus * _MIB if per_core.isdigit() else 0


def _told_by_variables(host_env: HostEnvironment) -> Iterator[Source]:
    for what, name in (
        ("memory", "SLURM_MEM_PER_NODE"),
        ("memory", "SLURM_MEM_PER_CPU"),
        ("GPUs", "SLURM_JOB_GPUS"),
    ):
        if host_env.environ.get(name):
            yield Source(what, host_env.environ[name], name)
