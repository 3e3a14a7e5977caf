"""LSF, also in the form with JSM (jsrun), where the first host only launches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from .base import (
    Allocation,
    BatchSystem,
    HostEnvironment,
    Source,
    check_nodes,
    core_ids,
    gpus_of,
    need,
    one_by_one,
)

_TIME_LEFT = re.compile(r"(\d+):(\d+)")


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("LSB_JOBID"))


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError for a host list that is not pairs of host and slots."""
    job_id = need(host_env, "LSB_JOBID")[0]
    slots, where = _slots(host_env)
    if "CSM_ALLOCATION_ID" in host_env.environ and len(slots) > 1:  # set where jsrun starts the processes
        slots.pop(next(iter(slots)))
    bound = _affinity(host_env)
    nodes = [_node(host_env, host, count, bound.get(host)) for host, count in slots.items()]
    shown = ", ".join(f"{node.name}: {len(node.core_ids)}" for node in nodes)
    sources = [Source("nodes, cores", shown, "LSB_AFFINITY_HOSTFILE" if bound else where)]
    ends_s, end = _end(host_env, job_id)
    return Allocation("lsf", tuple(check_nodes(nodes, where)), job_id, ends_s, (*sources, *end))


def _slots(host_env: HostEnvironment) -> tuple[dict[str, int], str]:
    """Slots by host, in order."""
    if not host_env.environ.get("LSB_MCPU_HOSTS"):
        text, where = need(host_env, "LSB_HOSTS")
        return dict(Counter(text.split())), where
    words, where = host_env.environ["LSB_MCPU_HOSTS"].split(), "LSB_MCPU_HOSTS"
    if len(words) % 2 or not all(word.isdigit() and int(word) for word in words[1::2]):
        raise SettingsError(f'"{" ".join(words)}" is not pairs of host and slots', where=where)
    slots: dict[str, int] = {}
    for host, count in zip(words[::2], words[1::2], strict=True):
        slots[host] = slots.get(host, 0) + int(count)
    return slots, where


def _affinity(host_env: HostEnvironment) -> dict[str, tuple[str, ...]]:
    """Processors by host from lines `HOST 0,1,2 ...`, which are there when the job asked for binding."""
    path = host_env.environ.get("LSB_AFFINITY_HOSTFILE")
    found: dict[str, list[str]] = {}
    for line in ((host_env.read(path) if path else None) or "").splitlines():
        host, _, rest = line.partition(" ")
        if rest:
            found.setdefault(host, []).extend(rest.split()[0].split(","))
    return {host: tuple(ids) for host, ids in found.items()}


def _node(host_env: HostEnvironment, host: str, count: int, bound: tuple[str, ...] | None) -> NodeSpec:
    cores, bind = (bound, True) if bound else core_ids(host_env, host, count)
    return NodeSpec(host, cores, gpus_of(host_env, host, ()), 0, bind)


def _end(host_env: HostEnvironment, job_id: str) -> tuple[float | None, list[Source]]:
    """`bjobs` gives the hours and minutes that are left, `-` without a limit."""
    command = ["bjobs", "-noheader", "-o", "time_left", job_id]
    text = (host_env.run(command) or "").strip()
    found = _TIME_LEFT.match(text)
    if found is None:
        return None, []
    return host_env.now_s + int(found[1]) * 3600 + int(found[2]) * 60, [Source("end", f"in {text}", " ".join(command))]


_PRIVATE = r"""
    LSB_(?!CONFDIR$|SHAREDIR$).* | LS_(JOBPID|SUBCWD|EXEC_T) | CSM_.*
"""
"""`bsub` sends the whole environment along."""

SYSTEM = BatchSystem(
    "lsf",
    "LSF",
    inside,
    find,
    # Without a shell of its own, and with our environment.
    AgentLauncher("blaunch", one_by_one("blaunch", "-no-shell"), connect="environment"),
    openmpi_component="lsf",
    private_variables=_PRIVATE,
    submit_commands=("bsub",),
    script_suffixes=(".lsf",),
    end_moves=True,
)
