"""Which free cores and GPUs of a node to give: close together, and close to each other.

A node's *groups* are its sockets, as (cores, GPUs) masks of slots. They are hints: a task that fits into no group is spread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from .resources import NodeSpec, bits, lowest


class Group(NamedTuple):
    """Slots of one socket, as bit masks."""

    cores: int
    gpus: int


def groups_of(
    spec: NodeSpec, sockets: Sequence[Collection[int]], near_gpus: Sequence[Collection[int]]
) -> tuple[Group, ...]:
    """The groups of a node, from what its agent reports; empty when there is nothing to choose between.

    Args:
        sockets: the processors of each socket.
        near_gpus: for each GPU, by index, the processors that are close to it.
    """
    if not spec.bind or len(sockets) < 2:
        return ()
    first = [int(core.partition("&")[0]) for core in spec.core_ids]
    groups = []
    for socket in sockets:
        cores = sum(1 << slot for slot, cpu in enumerate(first) if cpu in socket)
        gpus = sum(1 << slot for slot, gpu in enumerate(spec.gpu_ids) if _is_near(gpu, socket, near_gpus))
        groups.append(Group(cores, gpus))
    return tuple(groups)


def _is_near(gpu: str, socket: Collection[int], near_gpus: Sequence[Collection[int]]) -> bool:
    is_known = gpu.isdecimal() and int(gpu) < len(near_gpus)
    return is_known and any(cpu in socket for cpu in near_gpus[int(gpu)])


def choose(groups: Sequence[Group], free: Group, cores: int, gpus: int) -> Group:
    """`cores` and `gpus` of those that are free (there must be as many).

    Of the groups that have enough of both, the fullest; so the others stay whole for larger tasks.
    """
    if not groups:
        return Group(_lowest(free.cores, cores), lowest(free.gpus, gpus))
    fitting = [
        Group(group.cores & free.cores, group.gpus & free.gpus)
        for group in groups
        if (group.cores & free.cores).bit_count() >= cores and (group.gpus & free.gpus).bit_count() >= gpus
    ]
    best = min(
        fitting, key=lambda group: (group.gpus.bit_count() if gpus else 0, group.cores.bit_count()), default=free
    )
    return Group(_lowest(best.cores, cores), lowest(best.gpus, gpus))


def whole(groups: Sequence[Group], every: int, free: int, least: int) -> int:
    """All cores of wholly free groups, together at least so many; 0 when there are not as many.

    The smallest group that is enough by itself, else the first ones. A node without groups is one.

    Args:
        every: the cores of the node that tasks can get, free or not.
    """
    cores = [group.cores & every for group in groups] or [every]
    idle = [each for each in cores if each and not each & ~free]
    enough = [each for each in idle if each.bit_count() >= least]
    if enough:
        return min(enough, key=int.bit_count)
    taken = 0
    for each in idle:
        taken |= each
        if taken.bit_count() >= least:
            return taken
    return 0


def scattered(groups: Sequence[Group], free: int, cores: int) -> int:
    """So many of the free cores, one after the other of the group that has most left; without groups far from each other."""
    if len(groups) < 2:
        places = list(bits(free))
        return sum(1 << places[number * len(places) // cores] for number in range(cores))
    left = [group.cores & free for group in groups]
    taken = 0
    for _ in range(cores):
        most = max(range(len(left)), key=lambda number: left[number].bit_count())
        core = left[most] & -left[most]
        taken |= core
        left[most] ^= core
    return taken


def _lowest(mask: int, count: int) -> int:
    """Like `lowest`, but free when the mask is already the whole node."""
    return mask if mask.bit_count() == count else lowest(mask, count)
