"""Nodes and what is given out of them. Core and GPU sets are ints used as bit masks: bit i is slot i of the node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of the allocation as it was found or described.

    `core_ids` are the ids the operating system (or the batch system) uses, by slot; a slot of several hardware threads is
    `"0&40"`. `gpu_ids` are what CUDA_VISIBLE_DEVICES takes. `mem_bytes` 0: memory is not counted on this node.
    `bind`: the core ids are real cores of the machine, so tasks are bound to them; False for virtual nodes.
    `tags`: words by which jobs can ask for it. `joined`: its agent came by itself, and the node leaves with it.
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


SAME_HOST = "#"
"""Between a host's name and a number: two nodes of a pilot may be parts of one host, which two allocations share."""


def host_of(node: str) -> str:
    """The name of the host of a node: what launchers, tasks and reports call it."""
    return node.partition(SAME_HOST)[0]


def is_tag(word: str) -> bool:
    """Letters, digits and `._-`: it stands in lists with commas."""
    return word != "" and all(sign.isalnum() or sign in "._-" for sign in word)


class Share(NamedTuple):
    """What one grant takes of one node."""

    node: NodeNo
    cores: int
    gpus: int
    mem_bytes: int


class Grant(NamedTuple):
    """What tasks of one shape may use, one task at a time. The first share's node starts the process.

    An agent may run several tasks after another on one grant before it gives it back (a lease).
    """

    grant_id: GrantId
    pool: PoolId
    shares: tuple[Share, ...]
