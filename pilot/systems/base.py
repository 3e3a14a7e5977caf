"""What an allocation is, and what a backend may look at to find it out. One file per batch system does so.

A backend is `inside(environ)` and `find(site)`: pure given the site, so each is tested on recorded environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..cpus import Cpus
from ..model.errors import SettingsError
from ..model.resources import NodeSpec


class Source(NamedTuple):
    """One fact and where it was read: `cores`, `node1: 4, node2: 4`, `SLURM_JOB_CPUS_PER_NODE`."""

    what: str
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """The nodes we were given. `ends_s`: seconds since the epoch, None when there is no end or nobody tells it."""

    kind: str
    nodes: tuple[NodeSpec, ...]
    job_id: str | None = None
    ends_s: float | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class HostEnvironment:
    """The machine as a backend sees it.

    `read` gives a file's text and `run` a command's output, both None when that cannot be had. `cpus` are the processors
    this process may use, `memory` the bytes it may; `quota` is how many processors it may keep busy, None for all.
    """

    environ: Mapping[str, str]
    hostname: str
    cpus: Cpus
    memory: int
    now_s: float
    read: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    quota: int | None = None


class Backend(Protocol):
    """What each file of this folder is for one batch system."""

    def inside(self, environ: Mapping[str, str]) -> bool:
        """Whether we are in a job of this system."""

    def find(self, host_env: HostEnvironment) -> Allocation:
        """What it gave us. Raises SettingsError for an environment that is incomplete or contradicts itself."""


def check_nodes(nodes: Sequence[NodeSpec], where: str) -> list[NodeSpec]:
    """Node names are how agents and tasks are told apart: each must be there once. Raises SettingsError."""
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            raise SettingsError(f'node "{node.name}" is there twice', where=where, remedy="give each node its own name")
        seen.add(node.name)
    return list(nodes)


def need(host_env: HostEnvironment, *names: str) -> tuple[str, str]:
    """(value, name) of the first of these variables that is set. Raises SettingsError when none is."""
    for name in names:
        if host_env.environ.get(name):
            return host_env.environ[name], name
    raise SettingsError(
        "is not set", where=names[0], remedy="start the pilot inside a job, or say --nodes or --resources local"
    )


def need_file(host_env: HostEnvironment, variable: str) -> str:
    """The text of the file that the variable names. Raises SettingsError when it cannot be read."""
    path = need(host_env, variable)[0]
    text = host_env.read(path)
    if text is None:
        raise SettingsError(f'"{path}" cannot be read', where=variable, remedy="say --nodes to go on without it")
    return text


def visible_gpus(environ: Mapping[str, str]) -> Source | None:
    """The GPUs of this host by what the batch system has set for programs; `value` is the comma list."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        text = environ.get(name, "")
        if text and text not in ("-1", "NoDevFiles"):
            return Source("gpus", text, name)
    return None


def own_gpus(host_env: HostEnvironment, host: str) -> tuple[str, ...]:
    """The ids of `visible_gpus` when `host` is this one, else none: variables tell nothing of other hosts."""
    visible = visible_gpus(host_env.environ) if is_this_host(host_env, host) else None
    return tuple(part.strip() for part in visible.value.split(",") if part.strip()) if visible else ()


def core_ids(host_env: HostEnvironment, host: str, count: int) -> tuple[tuple[str, ...], bool]:
    """Ids for the `count` cores of `host`, and whether they are real processors to bind tasks to.

    They are on this host, when the batch system has confined us to just as many processors, or to as many cores of several
    hardware threads. Of other hosts nothing is known here: their agents tell when they come (manager/agents.py).
    """
    slots = host_env.cpus.slots(count) if is_this_host(host_env, host) else None
    return (slots, True) if slots is not None else (tuple(map(str, range(count))), False)


def is_this_host(host_env: HostEnvironment, host: str) -> bool:
    return host.partition(".")[0] == host_env.hostname.partition(".")[0]
