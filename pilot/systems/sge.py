"""Grid Engine: PE_HOSTFILE, or NSLOTS on this host alone; `qstat` for memory and the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.units import parse_bytes
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
    need_file,
    one_by_one,
)

_TIME_LIMIT = re.compile(r"\bh_rt=(\d+)")
_MEMORY_LIMIT = re.compile(r"\bh_vmem=([\d.]+[kKmMgGtT]?)")


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("JOB_ID") and environ.get("SGE_ROOT"))


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for a host file that cannot be read or understood, or that contradicts NSLOTS."""
    job_id = need(host_env, "JOB_ID")[0]
    total, where = need(host_env, "NSLOTS")
    slots = {host_env.hostname: int(total)} if total.isdigit() else {}
    if host_env.environ.get("PE_HOSTFILE"):
        where = "PE_HOSTFILE"
        slots = _slots(need_file(host_env, where))
    if not total.isdigit() or sum(slots.values()) != int(total):
        given = f"{sum(slots.values())} in PE_HOSTFILE" if where == "PE_HOSTFILE" else "not a number"
        raise SettingsError(f'"{total}", but {given}', where="NSLOTS", remedy="give --nodes to do without it")
    command = ["qstat", "-j", job_id]
    output = host_env.run(command) or ""
    per_slot = _memory(output)
    nodes = [_node(host_env, host, count, per_slot) for host, count in slots.items()]
    sources = [Source("nodes, cores", ", ".join(f"{host}: {count}" for host, count in slots.items()), where)]
    if per_slot:
        sources.append(Source("memory", f"h_vmem of {per_slot} bytes for each slot", " ".join(command)))
    ends_s, end = _end(host_env, job_id, output)
    return Allocation("sge", tuple(check_nodes(nodes, where)), job_id, ends_s, (*sources, *end))


def _slots(text: str) -> dict[str, int]:
    """Lines `HOST SLOTS QUEUE PROCESSORS`; a host may have several, one for each queue."""
    slots: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not words[1].isdigit():
            raise SettingsError(f'"{line}" is not host and slots', where=f"PE_HOSTFILE line {number}")
        slots[words[0]] = slots.get(words[0], 0) + int(words[1])
    return slots


def _node(host_env: HostEnvironment, host: str, count: int, mem_per_slot: int) -> NodeSpec:
    cores, bind = core_ids(host_env, host, count)
    granted = host_env.environ.get("SGE_HGR_gpu", "").split() if is_this_host(host_env, host) else []
    return NodeSpec(host, cores, gpus_of(host_env, host, granted), mem_per_slot * count, bind)


def _memory(output: str) -> int:
    """Bytes that each slot may have; 0 without a limit. The last limit counts, as for `qsub`."""
    limits = _MEMORY_LIMIT.findall(output)
    try:
        return parse_bytes(limits[-1]) if limits else 0
    except UsageError:
        return 0


def _end(host_env: HostEnvironment, job_id: str, output: str) -> tuple[float | None, list[Source]]:
    """Two commands give the limit and the start; without a start the job counts as started now."""
    limit = _TIME_LIMIT.search(output)
    if limit is None:
        return None, []
    command = ["qstat", "-s", "r", "-xml"]
    started = _started(host_env.run(command) or "", job_id, host_env.environ.get("SGE_TASK_ID", ""))
    begin_s = host_env.now_s if started is None else datetime.fromisoformat(started).timestamp()
    text = f"{limit[1]} s after {'now' if started is None else started}"
    where = f"qstat -j {job_id}: h_rt" + (f"; {' '.join(command)}" if started else "")
    return begin_s + int(limit[1]), [Source("end", text, where)]


def _started(xml: str, job_id: str, task: str) -> str | None:
    """When the job, or this task of an array, started, as in ISO 8601."""
    from xml.etree import ElementTree  # an agent asks this file for facts too, and parses nothing

    try:
        jobs = ElementTree.fromstring(xml).iter("job_list")
    except ElementTree.ParseError:
        return None
    for job in jobs:
        if job.findtext("JB_job_number") == job_id and job.findtext("tasks") in (None, task):
            return job.findtext("JAT_start_time")
    return None


_PRIVATE = r"""
    JOB_(ID|NAME|SCRIPT) | NSLOTS | NHOSTS | NQUEUES | QUEUE | PE | PE_HOSTFILE | RESTARTED | REQUEST
    | SGE_(TASK_.*|HGR_.*|BINDING|JOB_SPOOL_DIR|STDERR_PATH|STDIN_PATH|STDOUT_PATH|RSH_COMMAND|O_.*)
"""
"""What `qsub -V` would send along."""

SYSTEM = BatchSystem(
    "sge",
    "Grid Engine",
    inside,
    find,
    # The parallel environment needs control_slaves TRUE, and a slot for it on each node.
    AgentLauncher("qrsh", one_by_one("qrsh", "-inherit", "-nostdin", "-V"), joins_words=True),
    aliases=("gridengine",),
    model_variables={"mpich": {"HYDRA_LAUNCHER": "sge"}},  # which Hydra does not always see by itself
    openmpi_component="gridengine",
    private_variables=_PRIVATE,
    submit_commands=("qsub",),
    script_suffixes=(".sge",),
)
