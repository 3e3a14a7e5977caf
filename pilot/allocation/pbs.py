"""PBS Pro, OpenPBS and Torque: PBS_NODEFILE, and `qstat -f` for exact cores, GPUs, memory and the end.

Torque's file has a line for each core; PBS Pro's has one for each MPI rank, so there `exec_vnode` counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.units import parse_bytes
from ..model.walltime import parse as parse_walltime
from .base import Allocation, Site, Source, check_nodes, core_ids, is_this_host, need, need_file, visible_gpus

_CHUNK = re.compile(r"\(?([^():+]+):([^()+]*)\)?")
_STARTED = ("stime", "start_time")
_UNITS = {"b": "", "kb": "K", "mb": "M", "gb": "G", "tb": "T"}


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("PBS_JOBID") and environ.get("PBS_NODEFILE"))


def find(site: Site) -> Allocation:
    """Raises SettingsError for a node file that cannot be read, is empty, or names other hosts than `qstat` does."""
    job_id = need(site, "PBS_JOBID")[0]
    lines = [line.strip() for line in need_file(site, "PBS_NODEFILE").splitlines() if line.strip()]
    if not lines:
        raise SettingsError("names an empty file", where="PBS_NODEFILE", remedy="say --nodes to go on without it")
    listed = Counter(lines)
    command = ["qstat", "-f", job_id]
    told = _attributes(site.run(command) or "")
    chunks = _chunks(told.get("exec_vnode", ""))
    if chunks:
        strange = set(chunks) ^ {host.partition(".")[0] for host in listed}
        if strange:
            raise SettingsError(
                f"PBS_NODEFILE and exec_vnode do not agree on {', '.join(sorted(strange))}", where=" ".join(command)
            )
    torque = "PBS_NUM_PPN" in site.environ
    nodes = [_node(site, host, lines_of, chunks.get(host.partition(".")[0])) for host, lines_of in listed.items()]
    cores_from = " ".join(command) + ": exec_vnode" if chunks else "PBS_NODEFILE"
    shown = ", ".join(f"{node.name}: {len(node.core_ids)}" for node in nodes)
    sources = [Source("nodes", ", ".join(listed), "PBS_NODEFILE"), Source("cores", shown, cores_from)]
    ends_s, end = _end(told, " ".join(command))
    kind = "torque" if torque else "pbs"
    return Allocation(kind, tuple(check_nodes(nodes, "PBS_NODEFILE")), job_id, ends_s, (*sources, *end))


def _attributes(told: str) -> dict[str, str]:
    """`name = value` lines; long values go on in lines that begin with a tab."""
    found = {}
    for line in told.replace("\n\t", "").splitlines():
        name, equals, value = line.strip().partition(" = ")
        if equals:
            found[name] = value
    return found


def _chunks(exec_vnode: str) -> dict[str, dict[str, str]]:
    """`(n1:ncpus=4:mem=8gb)+(n2:ncpus=2)` by host; several chunks of one host are added up."""
    found: dict[str, dict[str, str]] = {}
    for name, members in _CHUNK.findall(exec_vnode):
        chunk = found.setdefault(name.partition("[")[0].partition(".")[0], {})
        for member in members.split(":"):
            key, _, value = member.partition("=")
            chunk[key] = str(int(chunk.get(key, 0)) + int(value)) if value.isdigit() else value
    return found


def _node(site: Site, host: str, lines: int, chunk: Mapping[str, str] | None) -> NodeSpec:
    count = int((chunk or {}).get("ncpus", 0)) or max(lines, _own_count(site, host))
    cores, bind = core_ids(site, host, count)
    visible = visible_gpus(site.environ)
    if visible is not None and is_this_host(site, host):
        gpu_ids = tuple(visible.value.split(","))
    else:
        gpu_ids = tuple(map(str, range(int((chunk or {}).get("ngpus", 0)))))
    return NodeSpec(host, cores, gpu_ids, _bytes((chunk or {}).get("mem", "")), bind)


def _own_count(site: Site, host: str) -> int:
    """NCPUS is what PBS Pro gave the first chunk, where the job script runs."""
    text = site.environ.get("NCPUS", "")
    return int(text) if text.isdigit() and is_this_host(site, host) else 0


def _bytes(text: str) -> int:
    """`8gb`, `8388608kb`; 0 for what is no size."""
    number = text.rstrip("bkmgtBKMGT")
    try:
        return parse_bytes(number + _UNITS.get(text[len(number) :].lower(), "")) if number else 0
    except UsageError:
        return 0


def _end(told: Mapping[str, str], command: str) -> tuple[float | None, list[Source]]:
    started = next((told[name] for name in _STARTED if name in told), None)
    limit = told.get("Resource_List.walltime")
    if started is None or limit is None:
        return None, []
    try:
        ends_s = datetime.strptime(started, "%a %b %d %H:%M:%S %Y").timestamp() + parse_walltime(limit)
    except (ValueError, UsageError):
        return None, []
    return ends_s, [Source("end", f"{limit} after {started}", command)]
