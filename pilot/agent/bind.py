"""CPU affinity of tasks.

The exact way is to bind the agent itself just before the spawn, so that the child is born bound. But moving the agent from
core to core costs 15 % of the no-op throughput (measured on 2 cores, docs/performance.md). So tasks of pools that have run
very short ones are started unbound, and bound when they turn out to run longer; all others are bound exactly.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ..wire.frames import NewGrant

EXACT_FROM_S = 0.05
"""Tasks that take at least this long on average are bound before they start."""

ALL_CPUS = frozenset(os.sched_getaffinity(0))


def cpus_of(grant: NewGrant) -> frozenset[int]:
    """Processor numbers to bind to; empty when the grant asks for none or this machine does not have them."""
    if not grant.bind:
        return frozenset()
    try:
        cpus = frozenset(int(number) for core in grant.nodes[0].core_ids for number in core.split("&"))
    except ValueError:
        return frozenset()
    return cpus if cpus <= ALL_CPUS and cpus != ALL_CPUS else frozenset()


def bind_self(cpus: frozenset[int]) -> None:
    """The next child is born with this affinity."""
    os.sched_setaffinity(0, cpus)


def bind_running(pid: int, cpus: frozenset[int]) -> None:
    """Bind a process that runs already, with the threads it has by now."""
    with suppress(OSError):  # it, or one of its threads, has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)
