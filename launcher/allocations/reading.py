"""Specs of allocations from what people write: options of `pilotfish alloc add`, and `allocations:` in files of jobs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...pilot.model.resources import is_tag
from ..description import files, schema
from ..description.keys import at
from ..description.schema import DescriptionError
from ..description.units import mebibytes, seconds
from .batch_jobs import machine_here, target_of
from .request import resources_for
from .spec import AllocationSpec, NodeSize

_NODES = re.compile(r"(\d+)(?:-(\d+))?")
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(?:node-?(h(?:ours?)?|m(?:in(?:utes?)?)?|d(?:ays?)?))?", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "d": 86_400.0}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HERE = "here"


def specs_of(given: Any, where: str = "allocations", taken: Collection[str] = ()) -> list[AllocationSpec]:
    """The entries of `allocations:`, each of which must be able to be asked for. Raises DescriptionError."""
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DescriptionError("must be a list of allocations", where=where)
    found: list[AllocationSpec] = []
    for number, entry in enumerate(given):
        found.append(spec_of(entry, f"{where}[{number}]", [*taken, *(each.name for each in found)]))
    return found


def specs_in(path: str) -> list[AllocationSpec]:
    """Those of a file: its key `allocations`, or all of it. Raises DescriptionError."""
    given = files.load(path)
    if isinstance(given, Mapping):
        if "allocations" not in given:
            raise DescriptionError(
                "has no key 'allocations'", where=path, remedy="write a list of allocations below it"
            )
        given = given["allocations"]
    return specs_of(given, f"{path}: allocations")


def spec_of(given: Any, where: str, taken: Collection[str] = ()) -> AllocationSpec:
    """One entry; `taken`: names that others have. Raises DescriptionError also for what the machine cannot be asked for."""
    values = schema.check(schema.ALLOCATION, given, where)
    nodes = _nodes(values["nodes"], at(where, "nodes"))
    spec = AllocationSpec(
        name=_name(values["name"], values["machine"], taken, at(where, "name")),
        machine=_machine(values["machine"]),
        resources=_resources(values),
        nodes=nodes,
        walltime_s=seconds(values["walltime"], at(where, "walltime")),
        max_waiting=values["max_waiting"],
        max_nodes=_max_nodes(values["max_nodes"], nodes, at(where, "max_nodes")),
        idle_s=seconds(values["idle"], at(where, "idle")),
        min_work_s=_amount_or_zero(values["min_work"], at(where, "min_work")),
        budget_node_s=None if values["budget"] is None else _budget(values["budget"], at(where, "budget")),
        node=_node(values, where),
        tags=_tags(values["tags"], at(where, "tags")),
        priority=values["priority"],
        agents_connect=_address(values["agents_connect"], at(where, "agents_connect")),
    )
    target = target_of(spec)
    schema.check_pair(target.machine.batch_type, target.machine.context_type, at(where, "machine"))
    if schema.context_kind(target.machine.context_type).staged:
        what = f"{target.machine.batch_type} takes jobs together with their files, and gives no nodes that a pilot could use"
        raise DescriptionError(what, where=at(where, "machine"), remedy="use a machine with a batch system of its own")
    resources_for(spec, target, nodes[1], spec.walltime_s)
    return spec


def _name(given: str | None, machine: str, taken: Collection[str], where: str) -> str:
    if given is not None:
        if not _NAME.fullmatch(given):
            raise DescriptionError(f"{given!r} is not a name", where=where, remedy="use letters, digits and _.-")
        if given in taken:
            remedy = "give another --name, or remove that one first: `pilotfish alloc remove`"
            raise DescriptionError(f"there are allocations called {given!r} already", where=where, remedy=remedy)
        return given
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(machine).stem).strip("._-")[:60] or _HERE
    return next(name for name in (stem, *(f"{stem}-{count}" for count in range(2, 10_000))) if name not in taken)


def _machine(given: str) -> str:
    """A file stays the same wherever the allocator works; a name stays a name."""
    if not given:
        return machine_here()
    path = Path(given).expanduser()
    return str(path.absolute()) if path.suffix and path.exists() else given


def _resources(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was said beside them wins over keys of resources."""
    found = dict(values["resources"])
    if values["cores"] is not None:
        found["cpu_per_node"] = values["cores"]
    if values["gpus"]:
        found["gpu_per_node"] = values["gpus"]
    if values["memory"] is not None:
        found["memory"] = values["memory"]
    return found


def _node(values: Mapping[str, Any], where: str) -> NodeSize | None:
    """Nodes are as large as was asked for, when that was said; tags are those that jobs can require."""
    if values["cores"] is None:
        return None
    memory = 0 if values["memory"] is None else mebibytes(values["memory"], at(where, "memory")) << 20
    return NodeSize(values["cores"], values["gpus"], memory, tuple(values["tags"]))


def _nodes(given: str | int, where: str) -> tuple[int, int]:
    match = _NODES.fullmatch(str(given).strip())
    least = int(match[1]) if match else 0
    most = int(match[2] or least) if match else 0
    if not 1 <= least <= most:
        raise DescriptionError(f"{given!r} is not a number of nodes", where=where, remedy="write 4, or 1-8")
    return least, most


def _max_nodes(given: int | None, nodes: tuple[int, int], where: str) -> int | None:
    if given is not None and given < nodes[0]:
        raise DescriptionError(f"{given} is less than the {nodes[0]} nodes of one allocation", where=where)
    return given


def _amount_or_zero(given: str | float, where: str) -> float:
    return 0.0 if str(given).strip() in ("0", "0.0", "0s") else seconds(given, where)


def _budget(given: str | float, where: str) -> float:
    match = _BUDGET.fullmatch(str(given).strip())
    if match is None or not float(match[1]):
        raise DescriptionError(f"{given!r} is not an amount of node-hours", where=where, remedy="write 500node-hours")
    return float(match[1]) * _SECONDS[(match[2] or "h")[0].lower()]


def _address(given: str | None, where: str) -> str:
    host, _, port = (given or "").rpartition(":")
    if given is not None and not (host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise DescriptionError(f"{given!r} is not an address", where=where, remedy="write HOST:PORT")
    return given or ""


def _tags(given: Sequence[str], where: str) -> tuple[str, ...]:
    for tag in given:
        if not is_tag(tag):
            raise DescriptionError(f"{tag!r} is not a tag", where=where, remedy="use letters, digits and ._-")
    return tuple(given)
