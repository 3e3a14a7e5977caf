"""Which batch system we are in, and what it gave us."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..model.errors import SettingsError
from . import document, flux, local, lsf, pbs, pjm, sge, slurm
from .base import Allocation, Backend, HostEnvironment, Source, is_this_host, own_gpus, visible_gpus
from .hostlist import compressed

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
    host_env: HostEnvironment,
    nodes: str | None = None,
    resources: str = AUTO,
    part: tuple[int | None, int | None] = (None, None),
    file: str | None = None,
) -> Allocation:
    """What there is for a pilot.

    Args:
        nodes: what `--nodes` says, which wins over what is found.
        resources: a name in BACKENDS, or `auto` for the first that we are in.
        part: the first node to use and the one after the last, by position (`--slurm-limit-nodes-range-*`).
        file: the resources document to take (`--slurm-resources-file`), which wins over `--nodes`.

    Raises:
        SettingsError: the environment is incomplete or contradicts itself, or an argument makes no sense.
    """
    if file is not None:
        found = document.find(host_env, file)
    elif nodes is not None:
        return Allocation("given", tuple(local.parse_nodes(nodes)), sources=(Source("nodes", nodes, "--nodes"),))
    else:
        found = _backend(host_env, resources).find(host_env)
    begin, end = part
    kept = found.nodes[begin:end]
    if not kept:
        where = "--slurm-limit-nodes-range-begin, --slurm-limit-nodes-range-end"
        raise SettingsError(f"none of the {len(found.nodes)} nodes is left", where=where)
    return replace(found, nodes=kept, sources=(*found.sources, *_of_this_host(host_env, found)))


def _backend(host_env: HostEnvironment, resources: str) -> Backend:
    if resources == AUTO:
        return next(backend for backend in BACKENDS.values() if backend.inside(host_env.environ))
    if resources in BACKENDS:
        return BACKENDS[resources]
    known = ", ".join([AUTO, *BACKENDS])
    raise SettingsError(f'"{resources}" is not known', where="--resources", remedy=f"use one of {known}")


def _of_this_host(host_env: HostEnvironment, found: Allocation) -> Iterator[Source]:
    """What every batch system is asked for in the same way: the ids of the node that we are on."""
    for node in found.nodes:
        if not is_this_host(host_env, node.name):
            continue
        if node.bind and node.core_ids == host_env.cpus.slots(len(node.core_ids)):
            yield Source(f"core ids of {node.name}", compressed(node.core_ids), "affinity of this process")
        visible = visible_gpus(host_env.environ)
        if visible is not None and node.gpu_ids == own_gpus(host_env, node.name):
            yield Source(f"GPUs of {node.name}", visible.value, visible.where)
