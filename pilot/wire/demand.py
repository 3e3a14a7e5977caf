"""Data of `demand` (ours): what waits for nodes and what the nodes do, for whoever asks a batch system for more of them.

Nothing here is an estimate by counts: what waits is told by shape, with all that decides whether and for how long a node would
be of use. Times are in seconds; `at_s` alone is a moment, since the epoch by the clock of the pilot. Members without a value
are left out.
"""

from __future__ import annotations

from msgspec import Struct

VERSION = 1


class ShapeDemand(Struct, omit_defaults=True):
    """Tasks with equal needs, in the order in which the pilot looks at them. What is blocked by other work only is not here.

    With `nodes`, all else is per node of the task, and `cores` absent means whole nodes; without, a task whose `gpus` or
    `mem_bytes` are given stays on one node, and its cores may come from any nodes otherwise. Sizes are (least, most); most
    None: as many as there are.
    """

    tasks: int
    """How many could start now, were there nodes: they wait for no other work, are not paused before another try, and the
    pool has all that they need of it.
    """
    cores: tuple[int, int | None] | None = None
    nodes: tuple[int, int | None] | None = None
    gpus: int = 0
    mem_bytes: int = 0
    tags: list[str] = []
    """What a node must have."""
    wt_s: float | None = None
    """How long one may take at most (`wt`); absent when one of them has no limit."""
    least_s: float = 0.0
    """How much time must be left on a node for one to start there: `min_time`, else `wt`, else none."""
    mean_s: float | None = None
    """How long they have taken of late; absent until some have ended."""
    running: int = 0
    """How many of them agents have."""
    first: str = ""
    """The name of the task that is next."""
    named: dict[str, float] = {}
    """How much of named resources of a node; below 1: a part of one thing. What the pool has besides limits `tasks`."""
    one_per_node: bool = False
    """No node takes two of them at a time: they want it for themselves, or are to be apart."""
    alternatives: list[ShapeDemand] = []
    """What the next of them would take instead, most liked first; of these only what one needs is told."""


class NodeUse(Struct, omit_defaults=True):
    """A node that is part of the pilot now. `allocation`: as its agent was told (`pilotfish agent --allocation`); or empty."""

    name: str
    state: str
    """READY, or why it takes no work (EXPECTED, STARTING, DRAINING, SILENT, LOST …)."""
    cores: int
    cores_free: int
    gpus: int = 0
    gpus_free: int = 0
    mem_bytes: int = 0
    """0: memory is not counted there."""
    mem_free_bytes: int = 0
    tags: list[str] = []
    allocation: str = ""
    idle_s: float | None = None
    """For how long nothing has been given to it; absent while something is."""
    left_s: float | None = None
    """How much longer tasks may run there: until its end, less the margin; absent when no end is known."""
    busy_for_s: float | None = None
    """In how long all that runs there must have ended; absent when nothing runs there, or something without a limit."""
    named: dict[str, float] = {}
    """How much it has of named resources."""


class Demand(Struct, omit_defaults=True):
    """Data of `demand`.

    `blocked`: tasks that wait for other work; `closing`: the pilot takes nothing new and ends when its work is done.
    `margin_s`: how long before the end of a node nothing may run there any more.
    """

    version: int
    at_s: float
    shapes: list[ShapeDemand]
    nodes: list[NodeUse]
    blocked: int = 0
    closing: bool = False
    ending: bool = False
    """The pilot is at its end: nothing starts any more."""
    margin_s: float = 0.0
    left_s: float | None = None
    """How much longer the pilot itself starts tasks; absent when no end is known."""
