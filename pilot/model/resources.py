"""Nodes and what is given out of them. Core and GPU sets are ints used as bit masks: bit i is slot i of the node."""

# Beside cores, GPUs and memory a node, or the pool as a whole, may have *named resources*. One has ids, which tasks are told
# ("nvme", ids 0 to 3), or it is an amount of which they get some ("licence", 20; "scratch", 400 GiB in bytes).
#
# Part of a thing with an id can be given out. Parts are whole numbers of 1/PARTS: their sums are exact, and what was taken
# and given back makes the whole again. Rejected: floats, of which ten tenths are not one; fractions of any denominator, whose
# numbers grow with what they are added to, and do not fit into a frame.

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

from .ids import GrantId, NodeNo, PoolId


def mask_of(count: int) -> int:
    """The mask with the lowest `count` bits set."""
    return (1 << count) - 1


def bits(mask: int) -> Iterator[int]:
    """Positions of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def lowest(mask: int, count: int) -> int:
    """The lowest `count` set bits of `mask` (which must have as many)."""
    taken = 0
    for _ in range(count):
        low = mask & -mask
        taken |= low
        mask ^= low
    return taken


GPU = "gpu"
"""The name of GPUs where they stand among named resources: parts of them do."""
MOST_IDS, MOST_AMOUNT = 4096, 1 << 60
"""Of one named resource."""
PARTS = 2_520_000
"""Of a thing of which parts are given out. A multiple of all numbers up to 10, and of 10,000: for thirds and for decimals."""


APART = "apart:"
"""Before a label: of each such name every node has one, so that tasks with the same label are never together on a node."""
UNUSED = "unused:"
"""The cores of a node that a task has to itself and is not told of."""


def is_condition(name: str) -> bool:
    """Whether what stands by this name among named resources is none, but says how a task wants to be placed."""
    return name.endswith(":") or name.startswith(APART)


_RESOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
NO_RESOURCE_NAMES = frozenset(
    (
        *(
            "core",
            "cores",
            "numcores",
            "cpu",
            "cpus",
            "gpu",
            "gpus",
            "mem",
            "memory",
            "node",
            "nodes",
            "numnodes",
            "nodecrs",
        ),
        *("tag", "tags", "wt", "walltime", "weight", "placement", "apart", "resource", "resources"),
    )
)
"""What would be taken for something else."""


def is_resource_name(word: str) -> bool:
    """Whether a named resource may be called so: it is part of the name of a variable, and a key of a description."""
    return _RESOURCE_NAME.fullmatch(word) is not None and word not in NO_RESOURCE_NAMES


def fraction(parts: int) -> str:
    """So many PARTS in words: `1/4`."""
    divisor = gcd(parts, PARTS)
    return f"{parts // divisor}/{PARTS // divisor}"


class NamedResource(NamedTuple):
    """What a node or the pool has by a name of the user's: things with ids, else an amount. `in_bytes`: of bytes."""

    name: str
    ids: tuple[str, ...] = ()
    amount: int = 0
    in_bytes: bool = False

    @property
    def total(self) -> int:
        return len(self.ids) or self.amount

    @property
    def is_possible(self) -> bool:
        """Whether there can be such a thing: what comes from elsewhere may be anything."""
        if self.ids:
            numbers = not self.amount and len(set(self.ids)) == len(self.ids) <= MOST_IDS
        else:
            numbers = 0 < self.amount <= MOST_AMOUNT
        return numbers and is_resource_name(self.name)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of the allocation as it was found or described.

    `core_ids` are the ids the operating system (or the batch system) uses, by slot; a slot of several hardware threads is
    `"0&40"`. `gpu_ids` are what CUDA_VISIBLE_DEVICES takes. `mem_bytes` 0: memory is not counted on this node.
    `bind`: the core ids are real cores of the machine, so tasks are bound to them; False for virtual nodes.
    `tags`: words by which jobs can ask for it. `joined`: its agent came by itself, and the node leaves with it.
    `named`: its named resources, each name once.
    `name` is the host's, or `HOST#2` for the second node of a host (see `host_of`). `allocation`: whatever brought it calls
    itself so, and it goes with that; `ends_s`: when the batch system ends that, in seconds since the epoch, if it is not with
    the pilot.
    """

    name: str
    core_ids: tuple[str, ...]
    gpu_ids: tuple[str, ...] = ()
    mem_bytes: int = 0
    bind: bool = False
    tags: tuple[str, ...] = ()
    joined: bool = False
    allocation: str = ""
    ends_s: float | None = None
    named: tuple[NamedResource, ...] = ()


SAME_HOST = "#"
"""Between a host's name and a number: two nodes of a pilot may be parts of one host, which two allocations share."""


def host_of(node: str) -> str:
    """The name of the host of a node: what launchers, tasks and reports call it."""
    return node.partition(SAME_HOST)[0]


def is_tag(word: str) -> bool:
    """Letters, digits and `._-`: it stands in lists with commas."""
    return word != "" and all(sign.isalnum() or sign in "._-" for sign in word)


class Taken(NamedTuple):
    """Of a named resource: an amount, or things with ids as a bit mask; `parts` 0: these as a whole, else so much of one."""

    name: str
    amount: int
    slots: int = 0
    parts: int = 0


class Share(NamedTuple):
    """What one grant takes of one node. `named` of the first share has also what the grant takes of the pool."""

    node: NodeNo
    cores: int
    gpus: int
    mem_bytes: int
    named: tuple[Taken, ...] = ()

    @property
    def used_cores(self) -> int:
        """Those that the task is told of."""
        cores = self.cores
        for taken in self.named:
            if taken.name == UNUSED:
                cores &= ~taken.slots
        return cores


class Grant(NamedTuple):
    """What tasks of one shape may use, one task at a time. The first share's node starts the process.

    An agent may run several tasks after another on one grant before it gives it back (a lease).
    """

    grant_id: GrantId
    pool: PoolId
    shares: tuple[Share, ...]
