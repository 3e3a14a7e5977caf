"""Which batch system we are in, and what it gave us."""

from __future__ import annotations

from dataclasses import replace

from ..model.errors import SettingsError
from . import flux, local, lsf, pbs, pjm, sge, slurm
from .base import Allocation, Backend, Site, Source

BACKENDS: dict[str, Backend] = {
    "slurm": slurm,
    "pbs": pbs,
    "torque": pbs,
    "lsf": lsf,
    "sge": sge,
    "pjm": pjm,
    "flux": flux,
    "local": local,
}
"""By the name that `--resources` takes, in the order in which they are asked. Flux comes late: it runs inside the others,
and outside its own jobs it is only a way to start them; PBS and Torque are told apart by what they have set."""
AUTO = "auto"


def detect(
    site: Site, nodes: str | None = None, resources: str = AUTO, part: tuple[int | None, int | None] = (None, None)
) -> Allocation:
    """`nodes`: what `--nodes` says, which wins; `resources`: a name in BACKENDS, or `auto` for the first that we are in;
    `part`: the first node to use and the one after the last, by position (`--slurm-limit-nodes-range-*`).

    Raises SettingsError for an environment that is incomplete or contradicts itself.
    """
    if nodes is not None:
        return Allocation("given", tuple(local.parse_nodes(nodes)), sources=(Source("nodes", nodes, "--nodes"),))
    if resources == AUTO:
        backend = next(backend for backend in BACKENDS.values() if backend.inside(site.environ))
    elif resources in BACKENDS:
        backend = BACKENDS[resources]
    else:
        known = ", ".join([AUTO, *BACKENDS])
        raise SettingsError(f'"{resources}" is not known', where="--resources", remedy=f"use one of {known}")
    found = backend.find(site)
    begin, end = part
    kept = found.nodes[begin:end]
    if not kept:
        where = "--slurm-limit-nodes-range-begin, --slurm-limit-nodes-range-end"
        raise SettingsError(f"none of the {len(found.nodes)} nodes is left", where=where)
    return replace(found, nodes=kept)
