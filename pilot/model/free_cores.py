"""How many cores are free: on nodes that are there, and on those whose agent is on its way."""

# A node that is awaited counts as it will be when its agent has reported, so that a pilot that has just been resumed does not
# show cores as free that its tasks have all along. What nobody has reported yet is estimated by what the tasks need.
#
# It is a view, for those who look at the pilot. The scheduler itself never needs it: it starts
# tasks only where it knows what is free.

from __future__ import annotations

from itertools import chain

from .attempts import Attempt
from .scheduler import Scheduler
from .states import AWAITED


def free_cores(scheduler: Scheduler) -> int:
    """Cores that no task uses, on nodes that are there or whose agent is on its way.

    While agents of an earlier life have not told which cores their tasks have, those tasks count with what they need.
    """
    nodes, dispatch = scheduler.nodes, scheduler.dispatch
    if not any(nodes.in_state[state] for state in AWAITED):
        return nodes.free_count
    awaited = {node for node in nodes.here if nodes[node].state in AWAITED}
    free = sum(nodes.free_cores[node].bit_count() for node in awaited)
    if free and dispatch.attempts:
        there = chain.from_iterable(map(dispatch.attempts_on, awaited))
        free -= sum(_least(scheduler, attempt) for attempt in there if not attempt.grant)
    return nodes.free_count + max(0, free)


def _least(scheduler: Scheduler, attempt: Attempt) -> int:
    """The fewest cores with which this attempt can have started."""
    need = attempt.pending.shape.need
    cores = need.cores.min if need.cores else scheduler.nodes.all_cores[attempt.node].bit_count()
    return cores * (need.nodes.min if need.nodes else 1)
