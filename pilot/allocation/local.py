"""This machine, or virtual nodes on it (`--nodes`), which let anyone try a plan for many nodes on a laptop."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.units import parse_bytes
from .base import check_nodes

_GPUS = re.compile(r"(\d+)gpus?", re.IGNORECASE)
_CGROUP = Path("/sys/fs/cgroup")


def discover_local(environ: Mapping[str, str]) -> list[NodeSpec]:
    """This machine: the cores this process may use (affinity, cgroup quota), the memory, the GPUs of CUDA_VISIBLE_DEVICES."""
    cores = sorted(os.sched_getaffinity(0))
    quota = _cgroup_cores()
    bind = quota is None or quota >= len(cores)
    if not bind:
        cores = cores[: max(1, quota or 1)]
    gpus = tuple(part.strip() for part in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip())
    gpus = gpus if gpus != ("-1",) and "NoDevFiles" not in gpus else ()
    return [NodeSpec(socket.gethostname(), tuple(map(str, cores)), gpus, _memory(), bind)]


def parse_nodes(text: str) -> list[NodeSpec]:
    """`--nodes`: a comma list of `[NAME:]CORES[:Ngpu][:MEMORY]`, e.g. `4,2,2` or `n1:4,n2:4:2gpu:16G`.

    Nodes without a name are called n0, n1 ... by position (spec 10.5). Core ids are 0..CORES-1 of each node and are only
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
    if not name or "/" in name or any(character.isspace() for character in name):
        raise SettingsError(f'"{name}" is not a node name', where=where)
    gpus = mem_bytes = 0
    for part in parts[1:]:
        counted = _GPUS.fullmatch(part)
        if counted is not None:
            gpus = int(counted[1])
            continue
        try:
            mem_bytes = parse_bytes(part)
        except UsageError as error:
            raise SettingsError(
                f'"{part}" is neither GPUs nor memory', where=where, remedy="write 2gpu or 16G"
            ) from error
    return NodeSpec(name, _ids(cores), _ids(gpus), mem_bytes)


def _ids(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def choose(nodes: str | None, environ: Mapping[str, str]) -> list[NodeSpec]:
    """The nodes of this pilot: those of `--nodes`, else this machine."""
    return parse_nodes(nodes) if nodes is not None else discover_local(environ)


def _cgroup_cores() -> int | None:
    """Whole cores of the cgroup v2 quota; None without one."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2].lstrip("/")
        quota, period = (_CGROUP / group / "cpu.max").read_text().split()
        if quota != "max":
            return max(1, int(quota) // int(period))
    return None


def _memory() -> int:
    """Memory of this machine, or what its cgroup leaves of it."""
    total = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2].lstrip("/")
        return min(total, int((_CGROUP / group / "memory.max").read_text()))
    return total
