"""What the batch system is asked for when a spec asks for an allocation: resources, and the command that runs in it. No I/O.

Each node has one agent, so on each node one program gets all the cores. Where nobody has said how many these are, whole nodes
are asked for, and how large they are is learnt from the first that comes; where a batch system counts slots (Grid Engine) that
cannot be asked for, and the cores have to be given. Without a batch system an allocation is made of virtual nodes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contexts.shell import Text, from_home, sh, word
from ..description.machine import MachineDescription
from ..description.pilot import Pilot
from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..machines.directives import Directives
from ..machines.registry import build_machine
from ..submission import bootstrap
from .spec import AllocationSpec, NodeSize

_AGENTS = """\
{finder}
if [ -z "$pilotfish" ]; then
  echo "pilotfish is not here: $(uname -n), PATH=$PATH" >&2
  exit 1
fi
exec "${pilotfish[@]}" agent --connect {connection} --allocation {allocation}{ends}{tags}{nodes}"""


@dataclass(frozen=True)
class AllocationMachine:
    """A machine as its file says it, with what is written there of jobs and of Pilotfish there."""

    machine: MachineDescription
    asked: Mapping[str, Any]
    pilot: Pilot

    @property
    def directives(self) -> Directives | None:
        return build_machine(self.machine.batch_type).directives


def resources_for(spec: AllocationSpec, target: AllocationMachine, nodes: int, walltime_s: float) -> Resources:
    """Raises DescriptionError for what this batch system cannot be asked for."""
    given = {"group_size": 1, **target.asked, **spec.resources}
    given |= {"number_node": nodes, "walltime": float(round(walltime_s))}
    table = target.directives
    if table is None:
        _check_virtual(spec)
        return Resources.deserialize({**given, "number_node": 1, "memory": None})  # of nodes that are virtual
    cores = given.get("cpu_per_node")
    if cores is None and not (table.by_nodes and table.has("exclusive")):
        what = f"{target.machine.batch_type} gives cores, not whole nodes"
        raise DescriptionError(what, where=f"allocation {spec.name}", remedy="say how many cores a node has: --cores")
    if cores is None:
        cores, given["exclusive"] = 1, True
    if not table.by_nodes:
        return _slots(spec, given, nodes, cores)
    one_program = dict(table.one_program(cores))
    for name in ("kwargs", "envs"):
        if name in one_program:
            given[name] = {**one_program.pop(name), **given.get(name, {})}
    return Resources.deserialize({**given, **one_program, "cpu_per_node": cores})


def _check_virtual(spec: AllocationSpec) -> None:
    if spec.nodes[1] > 1 and spec.node is None:
        what = "without a batch system there are no nodes but this host"
        raise DescriptionError(
            what, where=f"allocation {spec.name}", remedy="give --cores, for virtual nodes of so many"
        )


def _slots(spec: AllocationSpec, given: dict[str, Any], nodes: int, cores: int) -> Resources:
    kwargs = dict(given.get("kwargs", {}))
    if spec.nodes[1] > 1 and "pe_name" not in kwargs:
        what = "Grid Engine has parallel environments instead of nodes"
        remedy = (
            "name one with `resources: {kwargs: {pe_name: NAME}}` beside the machine, or ask for one node at a time"
        )
        raise DescriptionError(what, where=f"allocation {spec.name}", remedy=remedy)
    kwargs.setdefault("pe_name", "smp" if cores > 1 else "")
    return Resources.deserialize({**given, "kwargs": kwargs, "number_node": 1, "cpu_per_node": nodes * cores})


@dataclass(frozen=True)
class Order:
    """One allocation: its id, how large it is and for how long, and where the pilot's connection file is there."""

    allocation: str
    nodes: int
    walltime_s: float
    connection: str


def command_for(spec: AllocationSpec, target: AllocationMachine, order: Order, *, local: bool) -> Text:
    """Shell text that lets the nodes of the allocation it runs in join the pilot. `local`: the machine is this one."""
    virtual = target.directives is None
    nodes = ",".join([_virtual_node(spec.node)] * order.nodes) if virtual and spec.node is not None else ""
    return sh(
        _AGENTS,
        finder=bootstrap.finder(target.pilot, target.machine.remote_root or "~", local=local),
        connection=from_home(order.connection),
        allocation=word(order.allocation),
        ends=sh(" --ends-in {time}", time=word(f"{order.walltime_s:.0f}s")) if virtual else sh(""),
        tags=sh(" --tags {tags}", tags=word(",".join(spec.tags))) if spec.tags else sh(""),
        nodes=sh(" --nodes {nodes}", nodes=word(nodes)) if nodes else sh(""),
    )


def _virtual_node(size: NodeSize) -> str:
    gpus = f":{size.gpus}gpu" if size.gpus else ""
    memory = f":{size.mem_bytes >> 20}M" if size.mem_bytes else ""
    return f"{size.cores}{gpus}{memory}"
