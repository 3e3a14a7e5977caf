"""Bounds that follow from what earlier allocations of a spec came to: its failures, and its budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .decisions import AllocationState, KnownAllocation
from .spec import AllocationSpec

MOST_FAILURES = 3
"""After so many allocations in a row that were of no use a spec is paused."""
_RETRY_S, _RETRY_FACTOR = 30.0, 4.0
"""How long it rests after the first of them, and how many times longer after each other."""


def failures_in_a_row(spec: AllocationSpec, known: Sequence[KnownAllocation]) -> list[KnownAllocation]:
    """The allocations of this spec that were of no use since the last that was."""
    failures: list[KnownAllocation] = []
    for each in sorted(known, key=lambda each: each.submitted_s):
        if each.spec != spec.name:
            continue
        if each.failed:
            failures.append(each)
        elif each.agents_seen:
            failures.clear()
    return failures


def budget_left(spec: AllocationSpec, known: Sequence[KnownAllocation], now_s: float) -> float:
    """Node-seconds that it may still ask for; infinite without a budget. What has not ended counts with all its time."""
    if spec.budget_node_s is None:
        return math.inf
    spent = 0.0
    for each in known:
        if each.spec != spec.name:
            continue
        if each.state is not AllocationState.ENDED:
            spent += each.nodes * each.walltime_s
        elif each.started_s is not None:
            spent += each.nodes * max(0.0, (each.ended_s or now_s) - each.started_s)
    return spec.budget_node_s - spent


def rest_s(failures: Sequence[KnownAllocation], now_s: float) -> float:
    """For how long nothing is asked for after these failures in a row."""
    ended_s = failures[-1].ended_s if failures[-1].ended_s is not None else now_s
    return max(0.0, ended_s + _RETRY_S * float(_RETRY_FACTOR ** (len(failures) - 1)) - now_s)
