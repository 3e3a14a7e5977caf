"""Fujitsu's job manager (Fugaku)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from .base import Allocation, BatchSystem, HostEnvironment, Source, check_nodes, need, need_file

_ROW = re.compile(r"\sRUN\s+\S+\s+(\d\d/\d\d \d\d:\d\d:\d\d)\S*\s+(\d+):(\d\d):(\d\d)\b")
"""Of `pjstat ID`: the columns ST, USER, START_DATE (without a year) and ELAPSE_LIM."""


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("PJM_JOBID"))


def find(host_env: HostEnvironment) -> Allocation:
    """All nodes are alike and given whole, so each has the cores of this one. Raises SettingsError."""
    job_id = need(host_env, "PJM_JOBID")[0]
    hosts = list(dict.fromkeys(need_file(host_env, "PJM_O_NODEINF").split()))
    asked = host_env.environ.get("PJM_NODE", "")
    if not hosts or (asked.isdigit() and int(asked) != len(hosts)):
        raise SettingsError(f"{asked} nodes were given and PJM_O_NODEINF names {len(hosts)}", where="PJM_NODE")
    cores = tuple(map(str, host_env.cpus.threads))
    nodes = [NodeSpec(host, cores, bind=True) for host in hosts]
    ends_s, end = _end(host_env, host_env.environ.get("PJM_SUBJOBID") or job_id)
    sources = (
        Source("nodes", ", ".join(hosts), "PJM_O_NODEINF"),
        Source("cores", str(len(cores)), "affinity of this process, for every node"),
        *end,
    )
    return Allocation("pjm", tuple(check_nodes(nodes, "PJM_O_NODEINF")), job_id, ends_s, sources)


def _end(host_env: HostEnvironment, job_id: str) -> tuple[float | None, list[Source]]:
    command = ["pjstat", job_id]
    found = _ROW.search(host_env.run(command) or "")
    if found is None:
        return None, []
    started, *limit = found.groups()
    now = datetime.fromtimestamp(host_env.now_s)
    begun = datetime.strptime(f"{now.year}/{started}", "%Y/%m/%d %H:%M:%S")
    if begun > now + timedelta(days=1):
        begun = begun.replace(year=now.year - 1)
    hours, minutes, seconds = map(int, limit)
    ends_s = (begun + timedelta(hours=hours, minutes=minutes, seconds=seconds)).timestamp()
    return ends_s, [Source("end", f"{':'.join(limit)} after {started}", " ".join(command))]


def _mpiexec(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    """Nodes are those of the job in their order; `pjsub --mpi proc=NODES` gives one process on each."""
    return ["mpiexec", "-n", str(len(nodes)), *command]


SYSTEM = BatchSystem(
    "pjm",
    "Fujitsu's job manager (PJM), as on Fugaku",
    inside,
    find,
    AgentLauncher("pjm", _mpiexec, at_once=True, starts_again=False),
    aliases=("fugaku", "fujitsu"),
    private_variables=r"PJM_.* | PLE_.*",
    submit_commands=("pjsub",),
)
