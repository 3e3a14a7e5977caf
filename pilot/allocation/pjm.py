"""Fujitsu's job manager (Fugaku). It does not tell a job when it ends; say --walltime for that."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from .base import Allocation, Site, Source, check_nodes, need, need_file


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("PJM_JOBID"))


def find(site: Site) -> Allocation:
    """All nodes are alike and given whole, so each has the cores of this one. Raises SettingsError."""
    job_id = need(site, "PJM_JOBID")[0]
    hosts = list(dict.fromkeys(need_file(site, "PJM_O_NODEINF").split()))
    asked = site.environ.get("PJM_NODE", "")
    if not hosts or (asked.isdigit() and int(asked) != len(hosts)):
        raise SettingsError(f"{asked} nodes were given and PJM_O_NODEINF names {len(hosts)}", where="PJM_NODE")
    cores = tuple(map(str, site.cpus))
    nodes = [NodeSpec(host, cores, bind=True) for host in hosts]
    sources = (
        Source("nodes", ", ".join(hosts), "PJM_O_NODEINF"),
        Source("cores", str(len(cores)), "affinity of this process, for every node"),
    )
    return Allocation("pjm", tuple(check_nodes(nodes, "PJM_O_NODEINF")), job_id, None, sources)
