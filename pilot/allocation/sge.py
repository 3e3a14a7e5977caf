"""Grid Engine: PE_HOSTFILE, or NSLOTS on this host alone; `qstat` for the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from .base import Allocation, Site, Source, check_nodes, core_ids, is_this_host, need, need_file, visible_gpus

_LIMIT = re.compile(r"\bh_rt=(\d+)")
_STARTED = re.compile(r"<JB_job_number>(\d+)</JB_job_number>.*?<JAT_start_time>([^<]+)</JAT_start_time>", re.DOTALL)


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("JOB_ID") and environ.get("SGE_ROOT"))


def find(site: Site) -> Allocation:
    """Raises SettingsError for a host file that cannot be read or understood, or that contradicts NSLOTS."""
    job_id = need(site, "JOB_ID")[0]
    total_text, where = need(site, "NSLOTS")
    slots = {site.hostname: int(total_text)} if total_text.isdigit() else {}
    if site.environ.get("PE_HOSTFILE"):
        where = "PE_HOSTFILE"
        slots = _slots(need_file(site, where))
    if not slots or sum(slots.values()) != int(total_text):
        raise SettingsError(
            f'"{total_text}" does not agree with {where}: {slots}', where="NSLOTS", remedy="say --nodes"
        )
    nodes = [_node(site, host, count) for host, count in slots.items()]
    shown = ", ".join(f"{host}: {count}" for host, count in slots.items())
    ends_s, end = _end(site, job_id)
    source = Source("nodes, cores", shown, where)
    return Allocation("sge", tuple(check_nodes(nodes, where)), job_id, ends_s, (source, *end))


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


def _node(site: Site, host: str, count: int) -> NodeSpec:
    cores, bind = core_ids(site, host, count)
    gpus: tuple[str, ...] = ()
    if is_this_host(site, host):
        visible = visible_gpus(site.environ)
        gpus = tuple(visible.value.split(",") if visible else site.environ.get("SGE_HGR_gpu", "").split())
    return NodeSpec(host, cores, gpus, 0, bind)


def _end(site: Site, job_id: str) -> tuple[float | None, list[Source]]:
    limit = _LIMIT.search(site.run(["qstat", "-j", job_id]) or "")
    if limit is None:
        return None, []
    started = dict(_STARTED.findall(site.run(["qstat", "-s", "r", "-xml"]) or "")).get(job_id)
    begin_s = site.now_s if started is None else datetime.fromisoformat(started).timestamp()
    text = f"{limit[1]} s after {'now' if started is None else started}"
    return begin_s + int(limit[1]), [Source("end", text, "qstat: h_rt")]
