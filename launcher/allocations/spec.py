"""What the queue may ask for: one batch system, within bounds. `pilotfish alloc add`, or an entry of `allocations:`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NodeSize:
    """What one node of an allocation has for tasks. `mem_bytes` 0: not known, or not counted. `named`: by name how much."""

    cores: int
    gpus: int = 0
    mem_bytes: int = 0
    tags: tuple[str, ...] = ()
    named: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class AllocationSpec:
    """The allocations that one machine may be asked for.

    Attributes:
        name: unique in the pilot; `alloc list` shows it.
        machine: a machine file, or a profile, as `pilotfish job --machine` takes it.
        resources: keys of `resources` in a submission besides nodes and wall time (queue, account, …).
        nodes: least and most nodes of one allocation.
        walltime_s: the longest time limit that one is asked for with.
        max_waiting: how many allocations may wait in the batch system at once.
        max_nodes: how many nodes may be waiting or running in all; None: as many as `max_waiting` leads to.
        idle_s: how long a node may be idle before its allocation is released.
        min_work_s: for how long an allocation must be of use to be asked for, unless nothing else can do what waits.
        budget_node_s: node-seconds that all its allocations together may use, over the whole life; None: no bound.
        node: what one node has, where the user has said so; otherwise it is learnt from the first allocation that comes.
        tags: words by which jobs can ask for its nodes.
        priority: specs of a higher one are asked first.
        agents_connect: HOST:PORT at which its agents reach the pilot, where that is not where it listens: the end of a tunnel.
        paused: asks for nothing; what it has goes on.
    """

    name: str
    machine: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    nodes: tuple[int, int] = (1, 1)
    walltime_s: float = 3600.0
    max_waiting: int = 2
    max_nodes: int | None = None
    idle_s: float = 300.0
    min_work_s: float = 600.0
    budget_node_s: float | None = None
    node: NodeSize | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    agents_connect: str = ""
    paused: bool = False
