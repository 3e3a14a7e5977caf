"""Which allocations to ask for and which to give up, from what waits in the pilot and what is known of the allocations."""

# A pure function: whoever calls it again with the same gets the same, so an allocator that was killed decides as before, and
# what it has asked for stands in `known`.
#
# Each round begins anew. Nodes that are there or asked for take what they can within the time for which a node must be of use
# (`min_work_s`, fitting.py); what is left over is asked for. The specs are gone through by priority, and each sees what those
# before it have asked for in this round, so no demand is answered twice. All bounds are applied last, in one place
# (`_within_bounds`), to whatever is wanted.
#
# Invariants (tests/launcher/allocations hold them over simulated days):
#
# - what waits or runs is within `max_waiting`, `max_nodes` and the budget; for the budget what has not ended counts whole;
# - something that waits fits in each allocation that is asked for, and is over before it ends;
# - what starves (no node will ever run it) is asked for however little it is, as soon as the bounds allow for it, and what is
#   narrower does not take its room;
# - every decision, also the one to ask for nothing, has a reason in words.
#
# Rejected: to ask for one allocation per waiting task up to a limit (what comes first is idle when the others come). To ask
# all machines at once and keep the first (it fills queues with jobs that are cancelled, and sites count these); only when one
# has waited for PATIENCE_S do the others stop relying on it. To learn how long queues take: what was true yesterday is not
# today, and a wrong guess is worse than none.
#
# Example. 24 tasks of one core and an hour wait, nodes have 8 cores, one node is free. It takes 8, 16 are left: two nodes, for
# an hour and a fifth. In the next round these two are supply, and nothing is asked for.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...pilot.model.walltime import form
from ...pilot.wire.demand import Demand, NodeUse, ShapeDemand
from .bounds import MOST_FAILURES, budget_left, failures_in_a_row, rest_s
from .decisions import AllocationState as AllocationState
from .decisions import Cancel as Cancel
from .decisions import Decisions as Decisions
from .decisions import KnownAllocation as KnownAllocation
from .decisions import Pause as Pause
from .decisions import Quiet as Quiet
from .decisions import Release as Release
from .decisions import Submit as Submit
from .fitting import (
    Left,
    Supply,
    form_for,
    left_over,
    nodes_of_use,
    per_node,
    time_of_one,
    time_of_use,
    usable_s,
    walltime_for,
    width,
)
from .reasons import named, needs
from .spec import AllocationSpec, NodeSize

PATIENCE_S = 1800.0
"""How long others rely on an allocation that waits in the batch system."""
_LEAST_WINDOW_S = 60.0
_ROOM = 1.2
"""How much longer an allocation lasts than its tasks should take."""
_MOST_NAMED = 3
_COMING = ("READY", "EXPECTED", "STARTING", "SILENT", "RESTARTING")
"""States of nodes that do work, or will."""


def decide(
    specs: Sequence[AllocationSpec], demand: Demand, known: Sequence[KnownAllocation], now_s: float
) -> Decisions:
    """What to do now. `known`: all allocations that the specs have ever asked for, in any order."""
    return _Decider(specs, demand, known, now_s).decide()


class _Decider:
    """One round: the specs are gone through by priority, and each sees what those before it ask for."""

    def __init__(
        self, specs: Sequence[AllocationSpec], demand: Demand, known: Sequence[KnownAllocation], now_s: float
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._demand = demand
        self._known = sorted(known, key=lambda each: (each.submitted_s, each.id))
        self._now_s = now_s
        self._nodes_of: dict[str, list[NodeUse]] = {}
        for node in demand.nodes:
            self._nodes_of.setdefault(node.allocation, []).append(node)
        self._given_up: set[str] = set()
        """Allocations that are cancelled or released in this round: they count as supply no more."""
        self._submits: list[Submit] = []

    def decide(self) -> Decisions:
        released = list(self._released())
        canceled = list(self._canceled())
        self._given_up.update(each.id for each in released)
        self._given_up.update(each.id for each in canceled)
        paused, quiet = [], []
        for spec in sorted(self._specs.values(), key=lambda each: -each.priority):
            decision = self._ask(spec)
            if isinstance(decision, Pause):
                paused.append(decision)
                quiet.append(Quiet(spec.name, decision.reason))
            elif isinstance(decision, Quiet):
                quiet.append(decision)
            else:
                self._submits += decision
        return Decisions(tuple(self._submits), tuple(canceled), tuple(released), tuple(paused), tuple(quiet))

    # --- giving up --------------------------------------------------------------------------------------------------------

    def _released(self) -> Iterator[Release]:
        for each in self._known:
            if each.state is not AllocationState.RUNNING or each.releasing:
                continue
            nodes = self._nodes_of.get(each.id, [])
            if not nodes or not all(node.idle_s is not None for node in nodes):
                continue
            idle_s = min(node.idle_s or 0.0 for node in nodes)
            spec = self._specs.get(each.spec)
            if spec is None:
                yield Release(each.id, "nothing runs there, and nobody asks for such allocations any more")
            elif idle_s >= spec.idle_s:
                yield Release(
                    each.id, f"it has been idle for {form(round(idle_s))}, and may be for {form(spec.idle_s)}"
                )

    def _canceled(self) -> Iterator[Cancel]:
        for each in self._known:
            if each.releasing or each.state is AllocationState.ENDED:
                continue
            if each.started_s is not None:
                continue  # it runs, or may run, as far as the batch system has answered
            spec = self._specs.get(each.spec)
            if spec is None:
                yield Cancel(each.id, "nobody asks for such allocations any more")
            elif self._demand.ending:
                yield Cancel(each.id, "the pilot is at its end")
            elif not self._demand.blocked and not any(self._fits(spec, shape, each) for shape in self._demand.shapes):
                waits = "nothing of what waits fits there" if self._demand.shapes else "nothing waits any more"
                yield Cancel(each.id, waits)

    def _fits(self, spec: AllocationSpec, shape: ShapeDemand, allocation: KnownAllocation) -> bool:
        size = self._size_of(spec)
        shape = form_for(shape, size)
        if size is not None and not per_node(shape, size):
            return False
        left_s = usable_s(allocation.walltime_s, self._demand.margin_s)
        return width(shape, size) <= allocation.nodes and shape.least_s <= left_s

    # --- asking -----------------------------------------------------------------------------------------------------------

    def _ask(self, spec: AllocationSpec) -> list[Submit] | Quiet | Pause:
        """New allocations of this spec, or why there are none."""
        why_not = self._why_not(spec)
        if why_not is not None:
            return why_not
        theirs = [each for each in self._known if each.spec == spec.name]
        size = self._size_of(spec)
        left = [
            replace(each, shape=form_for(each.shape, size))
            for each in left_over(self._demand.shapes, self._supply(spec))
        ]
        if not left:
            return Quiet(spec.name, self._why_enough(spec))
        limit_s = self._longest_s(spec)
        fitting = [each for each in left if self._why_unfit(spec, size, each.shape, limit_s) is None]
        if not fitting:
            unfit = self._why_unfit(spec, size, left[0].shape, limit_s)
            return Quiet(spec.name, f"{named(left[0])}: {unfit}")
        if size is None:
            if any(each.state is not AllocationState.ENDED for each in theirs):
                return Quiet(spec.name, "what its nodes have is not known before the first of them has come")
            count = max(spec.nodes[0], width(fitting[0].shape, None))
            reason = f"{named(fitting[0])}; what its nodes have is to be seen"
            wanted = _Wanted(count, count, count, limit_s, limit_s, reason, (fitting[0],))
        else:
            found = self._wanted(spec, size, fitting, limit_s)
            if isinstance(found, Quiet):
                return found
            wanted = found
        return self._within_bounds(spec, theirs, wanted)

    def _why_not(self, spec: AllocationSpec) -> Quiet | Pause | None:
        """Why nothing is asked for whatever waits."""
        if spec.paused:
            return Quiet(spec.name, "it is paused")
        if self._demand.ending:
            return Quiet(spec.name, "the pilot is at its end")
        if not self._demand.shapes:
            blocked = self._demand.blocked
            return Quiet(
                spec.name, f"what waits ({blocked} tasks) waits for other work" if blocked else "nothing waits"
            )
        failures = failures_in_a_row(spec, self._known)
        if len(failures) >= MOST_FAILURES:
            last = failures[-1].ended_reason
            return Pause(spec.name, f"its last {len(failures)} allocations were of no use: {last}")
        if failures:
            again_s = rest_s(failures, self._now_s)
            if again_s > 0:
                return Quiet(
                    spec.name, f"its last allocation was of no use; it is tried again in {form(math.ceil(again_s))}"
                )
        return None

    def _why_unfit(self, spec: AllocationSpec, size: NodeSize | None, shape: ShapeDemand, limit_s: float) -> str | None:
        """Why no allocation of this spec can run such a task; None: one can."""
        most_s = usable_s(limit_s, self._demand.margin_s)
        if size is not None and not per_node(shape, size):
            return f"its nodes have not what one needs ({needs(shape)})"
        if width(shape, size) > spec.nodes[1]:
            return f"one needs {width(shape, size)} nodes, an allocation has {spec.nodes[1]} at most"
        if shape.least_s > most_s:
            return f"one needs {form(shape.least_s)}, an allocation lasts {form(max(1, math.floor(most_s)))} at most"
        return None

    def _wanted(self, spec: AllocationSpec, size: NodeSize, fitting: Sequence[Left], limit_s: float) -> _Wanted | Quiet:
        count = nodes_of_use(fitting, size, spec.min_work_s)
        widest = max(fitting, key=lambda each: width(each.shape, size))
        least = max(spec.nodes[0], width(widest.shape, size))
        starving = next((each for each in fitting if each.starving), None)
        if starving is not None and count < max(spec.nodes[0], width(starving.shape, size)):
            least = max(spec.nodes[0], width(starving.shape, size))
            reason = f"{named(starving)} and nothing that is there or asked for can run it"
            limits_s = self._limits_s(spec, [starving], size, least, limit_s)
            return _Wanted(least, least, least, *limits_s, reason, (starving,))
        if count < spec.nodes[0] or not count:
            work = "less than one node" if not count else f"{count} nodes"
            return Quiet(
                spec.name,
                f"what waits would keep {work} in use for {form(spec.min_work_s)}, and {spec.nodes[0]} are asked for at once",
            )
        if count < least:  # short wide tasks are passed by for now: nodes that are there will run them
            fitting = [each for each in fitting if width(each.shape, size) <= count]
            if not fitting:
                return Quiet(spec.name, f"{named(widest)}: too little for {least} nodes of their own")
            least = spec.nodes[0]
        reason = "; ".join(map(named, fitting[:_MOST_NAMED])) + ("; …" if len(fitting) > _MOST_NAMED else "")
        narrowest = max(spec.nodes[0], min(width(each.shape, size) for each in fitting))
        limits_s = self._limits_s(spec, fitting, size, count, limit_s)
        return _Wanted(count, least, narrowest, *limits_s, reason, tuple(fitting))

    def _limits_s(
        self, spec: AllocationSpec, left: Sequence[Left], size: NodeSize, count: int, limit_s: float
    ) -> tuple[float, float]:
        """The time limit with which all these tasks fit, or the longest; and the one with which the first of them do."""
        count = min(count, spec.max_nodes or count)
        needed_s = max(spec.min_work_s, time_of_use(left, size, count) * _ROOM)
        shortest_s = max(spec.min_work_s, *(time_of_one(each.shape) for each in left))
        margin_s = self._demand.margin_s
        wanted_s = limit_s if needed_s >= limit_s else min(limit_s, walltime_for(needed_s, margin_s))
        return wanted_s, min(wanted_s, walltime_for(shortest_s, margin_s))

    def _longest_s(self, spec: AllocationSpec) -> float:
        left_s = self._demand.left_s
        return spec.walltime_s if left_s is None else min(spec.walltime_s, left_s + self._demand.margin_s)

    def _within_bounds(
        self, spec: AllocationSpec, theirs: Sequence[KnownAllocation], wanted: _Wanted
    ) -> list[Submit] | Quiet:
        here = [each for each in theirs if each.state is not AllocationState.ENDED]
        waiting = [each for each in here if each.started_s is None and each.id not in self._given_up]
        room = spec.max_waiting - len(waiting)
        if failures_in_a_row(spec, self._known):
            room = min(room, 1 - len(waiting))
        if room <= 0:
            return Quiet(spec.name, f"{len(waiting)} of its allocations wait already; {wanted.reason}")
        used = sum(each.nodes for each in here)
        free = math.inf if spec.max_nodes is None else spec.max_nodes - used
        budget_s = budget_left(spec, theirs, self._now_s)
        submits: list[Submit] = []
        must = any(each.starving and width(each.shape, self._size_of(spec)) == wanted.least for each in wanted.work)
        left, least = wanted.nodes, wanted.least
        if free < least and not must:  # nodes that are there will run the wide tasks; there is room for the others
            least = wanted.narrowest
        while left >= least and len(submits) < room:
            nodes = int(min(max(least, min(left, spec.nodes[1])), free, budget_s / wanted.shortest_s))
            if nodes < least:
                break
            each_s = budget_s / nodes
            walltime_s = wanted.walltime_s if wanted.walltime_s <= each_s else each_s // 60 * 60
            submits.append(Submit(spec.name, nodes, walltime_s, wanted.reason))
            left, free, budget_s = left - nodes, free - nodes, budget_s - nodes * walltime_s
            least = wanted.narrowest
        if submits:
            return submits
        if free < least:
            return Quiet(spec.name, f"it has {used} of at most {spec.max_nodes} nodes; {wanted.reason}")
        hours = max(0.0, budget_s) / 3600
        return Quiet(spec.name, f"its budget has {hours:.1f} node-hours left, which is too little; {wanted.reason}")

    # --- what is there ----------------------------------------------------------------------------------------------------

    def _supply(self, spec: AllocationSpec) -> Supply:
        """What this spec need not ask for again: what is there, and what was asked for, by whichever spec.

        But others' that wait for very long may stay where they are: then what they were asked for is asked for here, too, and
        they are cancelled when nothing waits for them any more.
        """
        supply = Supply(max(spec.min_work_s, _LEAST_WINDOW_S))
        of_pilot_s = math.inf if self._demand.left_s is None else self._demand.left_s
        releasing = {each.id for each in self._known if each.releasing} | self._given_up
        for node in self._demand.nodes:
            if node.state in _COMING and node.allocation not in releasing and node.cores:
                left_s = min(of_pilot_s, math.inf if node.left_s is None else node.left_s)
                busy = 1 - node.cores_free / node.cores
                if node.gpus:
                    busy = max(busy, 1 - node.gpus_free / node.gpus)
                supply.add(size_of(node), 1, left_s, busy, node.busy_for_s)
        for each in self._known:
            if each.state is AllocationState.ENDED or each.id in releasing:
                continue
            joined = len(self._nodes_of.get(each.id, ()))
            if each.agents_seen and each.state is AllocationState.RUNNING:
                continue  # what has left again does not come back
            if each.spec != spec.name and each.started_s is None and self._now_s - each.submitted_s > PATIENCE_S:
                continue
            theirs = self._specs.get(each.spec)
            size = each.node or (None if theirs is None else self._size_of(theirs))
            supply.add(size, max(0, each.nodes - joined), usable_s(each.walltime_s, self._demand.margin_s))
        for submit in self._submits:
            size = self._size_of(self._specs[submit.spec])
            supply.add(size, submit.nodes, usable_s(submit.walltime_s, self._demand.margin_s))
        return supply

    def _size_of(self, spec: AllocationSpec) -> NodeSize | None:
        """What one of its nodes has: what has come counts more than what was said. None: nobody knows yet."""
        for each in reversed(self._known):
            if each.spec != spec.name:
                continue
            nodes = self._nodes_of.get(each.id)
            if nodes:
                return size_of(nodes[0])
            if each.node is not None:
                return each.node
        return None if spec.node is None else replace(spec.node, tags=tuple(spec.tags))

    def _why_enough(self, spec: AllocationSpec) -> str:
        coming = [each for each in self._known if each.state is not AllocationState.ENDED and each.started_s is None]
        asked = sum(each.nodes for each in coming) + sum(each.nodes for each in self._submits)
        there = sum(node.state == "READY" for node in self._demand.nodes)
        text = f"{there} nodes are there" + (f" and {asked} asked for" if asked else "")
        return f"what waits would not keep another node in use for {form(spec.min_work_s)}: {text}"


@dataclass(frozen=True)
class _Wanted:
    """`nodes` in all, of which the first allocation has `least` at least, and each other `narrowest`."""

    nodes: int
    least: int
    narrowest: int
    walltime_s: float
    shortest_s: float
    """The shortest time limit with which anything of it fits, for when the budget allows for no more."""
    reason: str
    work: tuple[Left, ...]


def size_of(node: NodeUse) -> NodeSize:
    """What a node has that has come."""
    return NodeSize(node.cores, node.gpus, node.mem_bytes, tuple(node.tags), tuple(node.named.items()))
