"""CPU affinity of tasks.

The exact way is to bind the hand itself just before the spawn, so that the child is born bound. But moving the hand from
core to core costs 15 % of the no-op throughput (measured on 2 cores, docs/performance.md). So tasks of pools that have run
very short ones are started unbound, and bound when they turn out to run longer; all others are bound exactly.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from ..wire.frames import NewGrant

log = logging.getLogger(__name__)

EXACT_FROM_S = 0.05
"""Tasks that take at least this long on average are bound before they start."""


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
        log.warning("bind.impossible cores=%s here=%s", ",".join(core_ids), sorted(here))
        return frozenset()
    return cpus if cpus != here else frozenset()


def bind_self(cpus: frozenset[int]) -> None:
    """The next child is born with this affinity."""
    os.sched_setaffinity(0, cpus)


def bind_running(pid: int, cpus: frozenset[int]) -> None:
    """Bind a process that runs already, with the threads it has by now."""
    with suppress(OSError):  # it, or one of its threads, has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)
