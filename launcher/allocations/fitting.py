"""What fits where, and what the nodes that are there or asked for will do of what waits: the arithmetic of decide.py."""

# Work and nodes are compared as *fluids*: a node gives its cores, GPUs and memory for a window of time, a task takes its
# part of a node for as long as it runs or the window lasts. What is left when all nodes have taken their fill is what new
# nodes are for.
#
# Why fluids and not a simulated schedule: the real one is made by the scheduler when the nodes are there, from what waits
# then. The question here is only whether it would find enough to do, and it is asked every few seconds for thousands of tasks.
# A task's part of a node is rounded to what the node can hold of such tasks (`per_node`), so three tasks of two cores do not
# seem to fit on two nodes of three.
#
# A task whose length nobody knows (no `wt`, none has ended yet) is taken to fill the window: asking for too few nodes would
# cost the user the night, and a node too many leaves after `idle`.

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ...pilot.wire.demand import ShapeDemand
from .spec import NodeSize

START_S = 30.0
"""How long an allocation may take from its start until its agents take work."""
_SAME_END_S = 60.0
"""Nodes whose ends differ by less are treated alike."""


def usable_s(walltime_s: float, margin_s: float) -> float:
    """For how long an allocation of this limit takes tasks: less the pilot's margin at its end, a tenth of a short one."""
    return walltime_s - START_S - min(margin_s, walltime_s / 10)


def walltime_for(work_s: float, margin_s: float) -> float:
    """The limit with which it takes tasks for that long, in whole minutes."""
    return math.ceil((work_s + START_S + margin_s) / 60) * 60.0


def length_s(shape: ShapeDemand) -> float | None:
    """How long one such task is expected to run; None when nobody knows."""
    if shape.mean_s is not None:
        return shape.mean_s if shape.wt_s is None else min(shape.mean_s, shape.wt_s)
    return shape.wt_s


def width(shape: ShapeDemand, size: NodeSize | None) -> int:
    """On how many nodes of this size one task must run at the same time."""
    if shape.nodes is not None:
        return shape.nodes[0]
    if size is None or shape.cores is None or stays_on_a_node(shape):
        return 1
    return max(1, math.ceil(shape.cores[0] / size.cores))


def stays_on_a_node(shape: ShapeDemand) -> bool:
    """Whether a task that names no nodes needs something else than cores of one."""
    return bool(shape.gpus or shape.mem_bytes or shape.named)


def per_node(shape: ShapeDemand, size: NodeSize) -> int:
    """How many such tasks, or parts of one over several nodes, one node of this size takes at a time; 0: none ever."""
    if not set(shape.tags) <= set(size.tags):
        return 0
    cores = size.cores if shape.cores is None else shape.cores[0]
    if shape.nodes is None and not stays_on_a_node(shape):
        cores = min(cores, size.cores)  # a task over several nodes takes whole ones, near enough
    most = [size.cores // max(1, cores)]
    if shape.gpus:
        most.append(size.gpus // shape.gpus)
    if shape.mem_bytes and size.mem_bytes:
        most.append(size.mem_bytes // shape.mem_bytes)
    if shape.named:
        has = {"gpu": size.gpus, **dict(size.named)}
        most += [math.floor(has.get(name, 0) / amount + 1e-9) for name, amount in shape.named.items()]
    return min(*most, 1) if shape.one_per_node else min(most)


def form_for(shape: ShapeDemand, size: NodeSize | None) -> ShapeDemand:
    """The first of its alternatives that fits on nodes of this size, with all else as it is; itself if none does."""
    if size is None or not shape.alternatives or per_node(shape, size):
        return shape
    other = next((each for each in shape.alternatives if per_node(each, size)), None)
    if other is None:
        return shape
    return replace(other, tasks=shape.tasks, mean_s=shape.mean_s, running=shape.running, first=shape.first)


@dataclass
class Nodes:
    """Nodes of one size that end at much the same time. `node_s`: how much of their time is free in the window, in nodes.

    `left_s`: how long tasks may run there.
    """

    size: NodeSize
    left_s: float
    count: int
    node_s: float


class Supply:
    """What is there and what was asked for, in a window of time."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._nodes: dict[tuple[NodeSize, float], Nodes] = {}
        self._unknown_s = 0.0
        """Node-seconds that were asked for, of nodes whose size nobody knows yet: they count as one task of any kind each."""

    def add(
        self, size: NodeSize | None, count: int, left_s: float, busy: float = 0.0, busy_for_s: float | None = None
    ) -> None:
        """`busy`: the part of each that is in use, for `busy_for_s` seconds; None: nobody knows how long."""
        if size is None:
            self._unknown_s += count * min(self._window_s, left_s)
            return
        window_s = min(self._window_s, left_s)
        until_s = window_s if busy_for_s is None else min(busy_for_s, window_s)
        free_s = window_s - busy * until_s
        key = (size, left_s // _SAME_END_S)
        nodes = self._nodes.get(key)
        if nodes is None:
            self._nodes[key] = Nodes(size, left_s, count, count * free_s)
        else:
            nodes.count += count
            nodes.node_s += count * free_s
            nodes.left_s = min(nodes.left_s, left_s)

    def _able(self, shape: ShapeDemand) -> list[Nodes]:
        return [
            each
            for each in self._nodes.values()
            if shape.least_s <= each.left_s and per_node(form_for(shape, each.size), each.size)
        ]

    def can_ever(self, shape: ShapeDemand) -> bool:
        """Whether such a task will run in the end although nothing more is asked for."""
        able = self._able(shape)
        return bool(able) and sum(each.count for each in able) >= min(
            width(form_for(shape, each.size), each.size) for each in able
        )

    def take(self, shape: ShapeDemand) -> int:
        """Give it what is free; returns how many of its tasks are left."""
        left = float(shape.tasks)
        seconds = length_s(shape)
        in_window_s = self._window_s if seconds is None else min(seconds, self._window_s)
        for nodes in self._able(shape) if self.can_ever(shape) else ():
            needed_s = part_of_node(form_for(shape, nodes.size), nodes.size) * min(in_window_s, nodes.left_s)
            taken = left if needed_s <= 0 else min(left, nodes.node_s // needed_s)
            nodes.node_s -= taken * needed_s
            left -= taken
        if left and self._unknown_s:
            needed_s = max(1e-3, width(shape, None) * in_window_s)
            taken = min(left, self._unknown_s // needed_s)
            self._unknown_s -= taken * needed_s
            left -= taken
        return int(left)


def part_of_node(shape: ShapeDemand, size: NodeSize) -> float:
    """How much of a node one task takes; of one over several nodes, how many."""
    return width(shape, size) / per_node(shape, size)


@dataclass(frozen=True)
class Left:
    """Tasks of one shape that no node takes within the window. `starving`: none ever will."""

    shape: ShapeDemand
    tasks: int
    starving: bool


def left_over(shapes: Iterable[ShapeDemand], supply: Supply) -> list[Left]:
    """In the order of the shapes, which is that in which the pilot looks at them."""
    found = []
    for shape in shapes:
        starving = not supply.can_ever(shape)
        tasks = supply.take(shape)
        if tasks:
            found.append(Left(shape, tasks, starving))
    return found


def nodes_of_use(left: Sequence[Left], size: NodeSize, window_s: float) -> int:
    """How many nodes of this size would each be in use for the window, or for as long as a single task.

    Short tasks are put together until they fill the window; what is left of them fills up nodes that long ones do not fill.
    Of what would fill less than one node nothing is asked for here.
    """
    long = short = 0.0
    widest = 0
    for each in left:
        part = part_of_node(each.shape, size)
        seconds = length_s(each.shape)
        if seconds is None or seconds >= window_s:
            long += each.tasks * part
            widest = max(widest, width(each.shape, size))
        else:
            short += each.tasks * part * seconds / window_s
    whole = max(widest, math.ceil(long - 1e-9))
    return whole + math.floor(max(0.0, short - (whole - long)) + 1e-9)


def time_of_use(left: Sequence[Left], size: NodeSize, count: int) -> float:
    """In how many seconds `count` nodes get through with it, every task having as much time left as it asks for.

    Infinite when nobody knows.
    """
    work_s = 0.0
    for each in left:
        seconds = length_s(each.shape)
        if seconds is None:
            return math.inf
        work_s += each.tasks * part_of_node(each.shape, size) * seconds
    even_s = work_s / count
    return max(_finished_s(each.shape, even_s) for each in left)


def _finished_s(shape: ShapeDemand, even_s: float) -> float:
    """When the last task of this shape is over that starts so that all is done by `even_s`, given all the time it asks for."""
    return max(0.0, even_s - (length_s(shape) or 0.0)) + time_of_one(shape)


def time_of_one(shape: ShapeDemand) -> float:
    """How much time a node must have left for one such task to start and end."""
    return max(shape.least_s, length_s(shape) or 0.0)
