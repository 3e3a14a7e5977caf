"""This machine, or virtual nodes on it (`--nodes`), which let anyone try a plan for many nodes on a laptop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile

from ..agent_launchers.process import FORK
from ..model.errors import SettingsError, UsageError
from ..model.resources import SAME_HOST, NodeSpec
from ..model.units import parse_bytes
from .base import (
    Allocation,
    BatchSystem,
    HostEnvironment,
    Source,
    check_nodes,
    gpu_source,
    numbered,
    visible_gpus,
)
from .gpus import Gpus
from .named_resources import parse_all

_GPUS = re.compile(r"(\d+)gpus?", re.IGNORECASE)


def inside(environ: Mapping[str, str]) -> bool:
    """A pilot can run on any machine."""
    return True


def find(host_env: HostEnvironment) -> Allocation:
    """This machine: the cores this process may use (affinity, cgroup quota), the memory, and the GPUs.

    The GPUs are all that the machine has, or those of them that a variable names (none, when it is empty).
    """
    gpus = _restricted(visible_gpus(host_env.environ), host_env)
    threads = host_env.cpus.threads
    bind = host_env.quota is None or host_env.quota >= len(threads)
    cpus = threads if bind else threads[: host_env.quota]
    node = NodeSpec(host_env.hostname, tuple(map(str, cpus)), gpus.ids, host_env.memory, bind)
    cores = Source("cores", str(len(cpus)), "affinity of this process" if bind else "cpu.max of this cgroup")
    memory = Source("memory", f"{host_env.memory / 2**30:.1f} GiB", "this machine and its cgroup")
    return Allocation("local", (node,), sources=(cores, memory, gpu_source("GPUs", gpus)))


def _restricted(visible: Gpus | None, host_env: HostEnvironment) -> Gpus:
    """What programs would see: CUDA ends its list at the first number that no GPU has. What the machine has is not always
    found, and a part or a unique id is taken as it is written; then the variable is believed.
    """
    if visible is not None and not visible.ids:
        return visible
    found = host_env.find_gpus()
    if visible is None or not found.ids or not all(map(str.isdecimal, found.ids)):
        return visible or found
    ids = takewhile(lambda gpu: not gpu.isdecimal() or gpu in found.ids, visible.ids)
    return Gpus(tuple(ids), visible.where)


def parse_nodes(text: str) -> list[NodeSpec]:
    """`--nodes`: a comma list of `[NAME:]CORES[:Ngpu][:MEMORY][:RESOURCE=VALUE]`, e.g. `4,2,2` or `n1:4,n2:4:2gpu:16G`.

    Nodes without a name are called n0, n1 ... by position. Core ids are 0..CORES-1 of each node and are only
    counted: nothing is bound to them. Raises SettingsError naming the entry.
    """
    return check_nodes([_node(number, entry.strip()) for number, entry in enumerate(text.split(","))], "--nodes")


def _node(number: int, entry: str) -> NodeSpec:
    where = f"--nodes: entry {number + 1}"
    parts = entry.split(":")
    name = f"n{number}" if parts[0].isdigit() or len(parts) == 1 else parts.pop(0)
    try:
        cores = int(parts[0])
    except ValueError:
        raise SettingsError(
            f'"{parts[0]}" is not a number of cores', where=where, remedy="write 4 or NAME:4 or NAME:4:2gpu:16G"
        ) from None
    if cores < 1:
        raise SettingsError(f'"{entry}": number of cores for a node must not be less than 1', where=where)
    if not name or set(name) & set(f"/{SAME_HOST}") or any(character.isspace() for character in name):
        raise SettingsError(f'"{name}" is not a node name', where=where)
    gpus = mem_bytes = 0
    named: list[str] = []
    for part in parts[1:]:
        if "=" in part:
            named.append(part)
            continue
        counted = _GPUS.fullmatch(part)
        if counted is not None:
            gpus = int(counted[1])
            continue
        try:
            mem_bytes = parse_bytes(part)
        except UsageError as error:
            raise SettingsError(
                f'"{part}" is neither GPUs nor memory', where=where, remedy="write 2gpu, 16G or NAME=4"
            ) from error
    return NodeSpec(name, numbered(cores), numbered(gpus), mem_bytes, named=parse_all(named, where))


SYSTEM = BatchSystem("local", "this machine", inside, find, FORK)
