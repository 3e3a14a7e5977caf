"""What there is for a pilot: the allocation of the batch system that we are in, or what the user says instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..model.errors import SettingsError
from . import document, local, registry
from .base import Allocation, HostEnvironment, Source, gpu_source, is_this_host, visible_gpus
from .gpus import Gpus
from .hostlist import compressed


def detect(
    host_env: HostEnvironment,
    nodes: str | None = None,
    resources: str = registry.AUTO,
    part: tuple[int | None, int | None] = (None, None),
    file: str | None = None,
) -> Allocation:
    """What there is for a pilot.

    Args:
        nodes: what `--nodes` says, which wins over what is found.
        resources: the name of a batch system, or `auto` for the first that we are in.
        part: the first node to use and the one after the last, by position (`document.BEGIN_OPTION`, `END_OPTION`).
        file: the resources document to take (`document.OPTION`), which wins over `--nodes`.

    Raises:
        SettingsError: the environment is incomplete or contradicts itself, or an argument makes no sense.
    """
    if any(system.inside(host_env.environ) for system in registry.SYSTEMS if system is not local.SYSTEM):
        # Also for `--resources local`: the machine's GPUs are not ours when a batch system gives them out.
        host_env = replace(host_env, find_gpus=_no_others)
    if file is not None:
        allocation = document.find(host_env, file)
    elif nodes is not None:
        source = Source("nodes", nodes, "--nodes")
        return Allocation(registry.GIVEN, tuple(local.parse_nodes(nodes)), sources=(source,))
    elif resources == registry.AUTO:
        allocation = next(system for system in registry.SYSTEMS if system.inside(host_env.environ)).find(host_env)
    else:
        allocation = registry.named(resources).find(host_env)
    begin, end = part
    kept = allocation.nodes[begin:end]
    if not kept:
        where = f"{document.BEGIN_OPTION}, {document.END_OPTION}"
        raise SettingsError(f"none of the {len(allocation.nodes)} nodes is left", where=where)
    return replace(allocation, nodes=kept, sources=(*allocation.sources, *_of_this_host(host_env, allocation)))


def _no_others() -> Gpus:
    return Gpus((), "none was granted")


def _of_this_host(host_env: HostEnvironment, allocation: Allocation) -> Iterator[Source]:
    """What every batch system is asked for in the same way: the ids of the node that we are on."""
    for node in allocation.nodes:
        if not is_this_host(host_env, node.name):
            continue
        if node.bind and node.core_ids == host_env.cpus.slots(len(node.core_ids)):
            yield Source(f"core ids of {node.name}", compressed(node.core_ids), "affinity of this process")
        visible = visible_gpus(host_env.environ)
        if visible is not None and node.gpu_ids == visible.ids and allocation.kind != local.SYSTEM.name:
            yield gpu_source(f"GPUs of {node.name}", visible)
