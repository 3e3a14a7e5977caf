"""CPU affinity of tasks: the worker binds itself just before the spawn, so that the child is born bound."""

from __future__ import annotations

import logging
import os

from ..wire.frames import NewGrant

log = logging.getLogger(__name__)


def cpus_here() -> frozenset[int]:
    """Processors this process may use."""
    return frozenset(os.sched_getaffinity(0))


def cpus_of(grant: NewGrant, here: frozenset[int]) -> frozenset[int]:
    """Processor numbers to bind to; empty when the grant asks for none or this machine does not have them.

    A core of several hardware threads is written `0&40`.
    """
    if not grant.bind:
        return frozenset()
    core_ids = grant.nodes[0].core_ids
    try:
        cpus = frozenset(int(number) for core in core_ids for number in core.split("&"))
    except ValueError:
        cpus = frozenset()
    if not cpus or not cpus <= here:
        log.warning("bind.impossible", extra={"cores": ",".join(core_ids), "here": sorted(here)})
        return frozenset()
    return cpus if cpus != here else frozenset()


def bind_self(cpus: frozenset[int]) -> None:
    """The next child is born with this affinity."""
    os.sched_setaffinity(0, cpus)
