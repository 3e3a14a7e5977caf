"""Flux: `flux resource R` describes the whole instance we are in (RFC 20, version 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..agent_launchers.base import AgentLauncher
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import hostlist
from .base import Allocation, BatchSystem, HostEnvironment, Source, check_nodes

_COMMAND = ("flux", "resource", "R")


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("FLUX_JOB_ID") or environ.get("FLUX_URI"))


def find(host_env: HostEnvironment) -> Allocation:
    """Raises SettingsError when flux does not answer, or answers with something other than a resource set."""
    where = " ".join(_COMMAND)
    text = host_env.run(_COMMAND)
    if text is None:
        raise SettingsError("does not answer", where=where, remedy="is flux on the PATH? or give --nodes")
    try:
        execution = json.loads(text)["execution"]
        names = [name for part in execution["nodelist"] for name in hostlist.hosts(part, where)]
        parts = [part for part in execution["R_lite"] for _ in hostlist.ids(part["rank"], where)]
        nodes = [_node(name, part["children"]) for name, part in zip(names, parts, strict=True)]
        ends_s = float(execution.get("expiration") or 0) or None
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"is not a resource set of version 1: {error!r}", where=where) from error
    sources = [Source("nodes, cores, GPUs", ", ".join(names), where)]
    if ends_s is not None:
        sources.append(Source("end", f"{ends_s:.0f}", where))
    return Allocation(
        "flux", tuple(check_nodes(nodes, where)), host_env.environ.get("FLUX_JOB_ID"), ends_s, tuple(sources)
    )


def _node(name: str, children: Mapping[str, Any]) -> NodeSpec:
    cores = hostlist.ids(str(children["core"]), "flux resource R: core")
    gpus = hostlist.ids(str(children.get("gpu", "")), "flux resource R: gpu")
    return NodeSpec(name, tuple(map(str, cores)), tuple(map(str, gpus)))


_ONLY_HERE = '[ "$(hostname)" = "$1" ] || exit 0; shift; exec "$@"'
"""`flux exec` knows ranks, not hosts; so for one host it runs everywhere, and goes on there only."""


def _exec(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    """`flux exec` runs a command on each broker, and a broker is a node."""
    everywhere = ["flux", "exec", "--noinput", "--rank=all"]
    if len(nodes) == 1:
        return [*everywhere, "/bin/sh", "-c", _ONLY_HERE, "sh", nodes[0], *command]
    return [*everywhere, *command]


SYSTEM = BatchSystem(
    "flux",
    "Flux",
    inside,
    find,
    AgentLauncher("flux", _exec, at_once=True, connect="environment"),
    rank_variables=r"FLUX_(TASK_RANK|TASK_LOCAL_ID|JOB_SIZE|JOB_NNODES|KVS_NAMESPACE|PMI_LIBRARY_PATH)",
    # FLUX_URI stays: it is the instance to which a task submits.
    private_variables=r"FLUX_(JOB_.*|TASK_.*|KVS_NAMESPACE|PMI_LIBRARY_PATH)",
)
