"""A site in simulated time: the real core of a manager, its real demand, the real decisions, and batch queues that are played.

Nothing waits and nothing runs: days pass in a second. Agents are those of tests/pilot/model/world.py, nodes end as
manager/node_ends.py has it, and a batch queue lets an allocation wait for as long as it is told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "pilot" / "model"))

from world import World

from pilotfish.launcher.allocations.decide import (
    AllocationState,
    Decisions,
    KnownAllocation,
    Submit,
    decide,
)
from pilotfish.launcher.allocations.fitting import per_node, usable_s, width
from pilotfish.launcher.allocations.spec import AllocationSpec, NodeSize
from pilotfish.pilot.manager.demand import DemandView
from pilotfish.pilot.manager.shutdown import Shutdown
from pilotfish.pilot.model.ids import NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.model.steps import finish
from pilotfish.pilot.wire.demand import Demand

COMING_S = 8.0
"""How long agents take from the start of their allocation."""
MARGIN_S, LAST_S = 60.0, 15.0
_LONG_S = 400 * 86_400.0


@dataclass
class Allocation:
    """One as the batch system has it."""

    id: str
    asked: Submit
    submitted_s: float
    started_s: float | None = None
    ended_s: float | None = None
    numbers: list[int] = field(default_factory=list)
    """Its nodes that have joined."""
    seen: bool = False
    releasing: bool = False
    failed: bool = False
    longest_idle_s: float = 0.0
    idle_since_s: float | None = None

    @property
    def state(self) -> AllocationState:
        if self.ended_s is not None:
            return AllocationState.ENDED
        return AllocationState.WAITING if self.started_s is None else AllocationState.RUNNING


class _Pilot(World):
    """A world that says which tasks have just started."""

    def __init__(self, started: Callable[[int, TaskKey], None], checked: bool) -> None:
        self._started = started
        super().__init__()
        self.checks = checked
        self.scheduler.nodes.elastic = True

    def _start(self, number: NodeNo) -> None:
        before = set(self.agents[number].running)
        super()._start(number)
        for key in self.agents[number].running:
            if key not in before:
                self._started(number, key)

    def end(self, number: int, key: TaskKey, took_s: float) -> None:
        self._end(NodeNo(number), key, 0, Cause.EXITED, took_s)
        self.settle()

    def settle(self) -> None:
        super().settle()
        if not self.checks:
            self.turns.clear()
            self.events.clear()


class Site:
    """One pilot, and a batch system for each spec.

    Args:
        wait_s: for how long the allocation that is asked for waits; None: it never starts.
        took_s: how long a task of a job runs.
        fails: whether an allocation ends at once, without agents.
        look_s: how often the allocator looks.
        checked: whether the invariants of the core are checked in each turn.
        evicted_after_s: for how long the batch system lets an allocation run; None: to its limit.
    """

    def __init__(
        self,
        specs: Sequence[AllocationSpec],
        sizes: Mapping[str, NodeSize],
        wait_s: Callable[[Submit, float], float | None],
        took_s: Callable[[str], float],
        *,
        fails: Callable[[Submit], bool] = lambda submit: False,
        evicted_after_s: Callable[[Submit], float | None] = lambda submit: None,
        look_s: float = 30.0,
        checked: bool = True,
    ) -> None:
        self.look_s = look_s
        self.specs = {spec.name: spec for spec in specs}
        self.pilot = _Pilot(self._task_started, checked)
        self.allocations: dict[str, Allocation] = {}
        self.decisions: list[tuple[float, Decisions]] = []
        self.core_s = 0.0
        """Of tasks that have come to their end."""
        self._sizes, self._wait_s, self._took_s = sizes, wait_s, took_s
        self._fails, self._evicted_after_s = fails, evicted_after_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._runs: dict[TaskKey, int] = {}
        parts: Any = SimpleNamespace(
            scheduler=self.pilot.scheduler,
            now=lambda: self.pilot.now,
            settings=SimpleNamespace(end_margin_s=MARGIN_S),
        )
        self._view = DemandView(parts, Shutdown())

    # --- what a test does -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.pilot.now

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        heappush(self._events, (time_s, next(self._order), act))

    def submit_at(self, time_s: float, *specs: JobSpec) -> None:
        self.at(self.now + time_s, lambda: self.pilot.submit(*specs))

    def run(self, most_s: float = _LONG_S) -> float:
        """Until nothing is left to do and nothing is left of the allocations; returns after how many seconds the work was done.

        Raises AssertionError when it is not over after `most_s`.
        """
        begun_s, done_s = self.now, 0.0
        self.at(self.now, self._look)
        while self._events:
            time_s, _, act = heappop(self._events)
            assert time_s - begun_s <= most_s, f"not over after {most_s:.0f} s: {self.counts()}, {self.decisions[-1]}"
            self.pilot.now = max(self.now, time_s)
            act()
            if not done_s and not self.pilot.scheduler.unfinished:
                done_s = self.now - begun_s
            elif self.pilot.scheduler.unfinished:
                done_s = 0.0
        return done_s

    def counts(self) -> list[int]:
        return self.pilot.scheduler.jobs.tasks_in

    @property
    def node_s(self) -> float:
        """What all allocations have used."""
        ended = [each for each in self.allocations.values() if each.started_s is not None]
        return sum(each.asked.nodes * ((each.ended_s or self.now) - (each.started_s or 0)) for each in ended)

    def known(self) -> list[KnownAllocation]:
        return [self._known(each) for each in self.allocations.values()]

    # --- the allocator ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.pilot.pass_time(0)
        demand: Demand = finish(self._view.describe())
        self._note_idle()
        decisions = decide(tuple(self.specs.values()), demand, self.known(), self.now)
        if decisions.submit or decisions.cancel or decisions.release or decisions.pause or not self.decisions:
            self.decisions.append((self.now, decisions))
        for pause in decisions.pause:
            self.specs[pause.spec] = replace(self.specs[pause.spec], paused=True)
        for release in decisions.release:
            self._release(self.allocations[release.id])
        for cancel in decisions.cancel:
            self._ended(self.allocations[cancel.id])
        for submit in decisions.submit:
            self._check_use(submit, demand)
            self._ask(submit)
        self._check_bounds()
        alive = any(each.ended_s is None for each in self.allocations.values())
        can_ask = not all(spec.paused for spec in self.specs.values())
        if self._events or alive or (self.pilot.scheduler.unfinished and can_ask):
            self.at(self.now + self.look_s, self._look)

    def _check_use(self, submit: Submit, demand: Demand) -> None:
        """Something that waits fits there, and is over before it ends; and there is a reason in words."""
        left_s = usable_s(submit.walltime_s, MARGIN_S)
        size = self._sizes[submit.spec]
        known = self.specs[submit.spec].node is not None or any(
            each.seen for each in self.allocations.values() if each.asked.spec == submit.spec
        )
        fits = [
            shape
            for shape in demand.shapes
            if per_node(shape, size) and width(shape, size) <= submit.nodes and shape.least_s <= left_s
        ]
        assert fits or not known, f"nothing fits in {submit}: {demand.shapes}"
        assert submit.reason

    def _check_bounds(self) -> None:
        for name, spec in self.specs.items():
            theirs = [each for each in self.allocations.values() if each.asked.spec == name]
            here = [each for each in theirs if each.ended_s is None]
            waiting = [each for each in here if each.started_s is None]
            assert len(waiting) <= spec.max_waiting, f"{len(waiting)} of {name} wait"
            nodes = sum(each.asked.nodes for each in here)
            assert spec.max_nodes is None or nodes <= spec.max_nodes, f"{nodes} nodes of {name}"
            for each in theirs:
                assert spec.nodes[0] <= each.asked.nodes <= spec.nodes[1]
                assert each.asked.walltime_s <= spec.walltime_s
            if spec.budget_node_s is not None:
                used_s = sum(self._used_s(each) for each in theirs)
                assert used_s <= spec.budget_node_s + 1e-6, f"{used_s} node-seconds of {name}"

    def _used_s(self, each: Allocation) -> float:
        if each.started_s is None:
            return 0.0
        return each.asked.nodes * ((each.ended_s if each.ended_s is not None else self.now) - each.started_s)

    def _note_idle(self) -> None:
        for each in self.allocations.values():
            if each.state is not AllocationState.RUNNING or not each.numbers:
                continue
            nodes = self.pilot.scheduler.nodes
            if any(nodes.free_cores[number] != nodes.all_cores[number] for number in each.numbers):
                each.idle_since_s = None
            else:
                each.idle_since_s = self.now if each.idle_since_s is None else each.idle_since_s
                each.longest_idle_s = max(each.longest_idle_s, self.now - each.idle_since_s)

    # --- the batch systems ------------------------------------------------------------------------------------------------

    def _ask(self, submit: Submit) -> None:
        each = Allocation(f"a{len(self.allocations) + 1}", submit, self.now)
        self.allocations[each.id] = each
        wait_s = self._wait_s(submit, self.now)
        if wait_s is not None:
            self.at(self.now + wait_s, lambda: self._begin(each))

    def _begin(self, each: Allocation) -> None:
        if each.ended_s is not None:
            return
        each.started_s = self.now
        if self._fails(each.asked):
            each.failed = True
            self.at(self.now + 2, lambda: self._ended(each))
            return
        ends_s = self.now + each.asked.walltime_s
        margin_s = min(MARGIN_S, each.asked.walltime_s / 10)
        self.at(self.now + COMING_S, lambda: self._join(each, ends_s - margin_s))
        self.at(ends_s - margin_s, lambda: self._drain(each))
        self.at(ends_s - min(LAST_S, margin_s), lambda: self._ended(each))
        evicted_s = self._evicted_after_s(each.asked)
        if evicted_s is not None:
            self.at(self.now + evicted_s, lambda: self._evict(each))

    def _join(self, each: Allocation, until_s: float) -> None:
        if each.ended_s is not None:
            return
        each.seen = True
        size = self._sizes[each.asked.spec]
        for place in range(each.asked.nodes):
            spec = NodeSpec(
                f"{each.id}-{place}",
                tuple(map(str, range(size.cores))),
                tuple(map(str, range(size.gpus))),
                size.mem_bytes,
                tags=size.tags,
                joined=True,
                allocation=each.id,
            )
            number = self.pilot.join(spec)
            each.numbers.append(number)
            self.pilot.scheduler.nodes.times.set(NodeNo(number), until_s)
            self.pilot.settle()

    def _release(self, each: Allocation) -> None:
        each.releasing = True
        self._drain(each)

    def _drain(self, each: Allocation) -> None:
        if each.ended_s is None:
            for number in each.numbers:
                if not self.pilot.agents[NodeNo(number)].draining:
                    self.pilot.drain(number)
            self._end_if_empty(each)

    def _end_if_empty(self, each: Allocation) -> None:
        agents = [self.pilot.agents[NodeNo(number)] for number in each.numbers]
        if agents and all(agent.draining and not agent.running for agent in agents):
            self._ended(each)

    def _ended(self, each: Allocation) -> None:
        """It is over: what still ran there waits again."""
        if each.ended_s is None:
            each.ended_s = self.now
            for number in each.numbers:
                self.pilot.leave(number)

    def _evict(self, each: Allocation) -> None:
        """The batch system takes it back without a word."""
        if each.ended_s is None:
            each.ended_s = self.now
            for number in each.numbers:
                self.pilot.lose(number, silent=True)
                self.pilot.leave(number)

    # --- tasks ------------------------------------------------------------------------------------------------------------

    def _task_started(self, number: int, key: TaskKey) -> None:
        took_s = self._took_s(self.pilot.name_of(key))
        self._runs[key] = number
        self.at(self.now + took_s, lambda: self._task_ends(number, key, took_s))

    def _task_ends(self, number: int, key: TaskKey, took_s: float) -> None:
        if key not in self.pilot.agents[NodeNo(number)].running:
            return  # it was stopped
        attempt = self.pilot.scheduler.dispatch.attempts[key]
        cores = sum(share.cores.bit_count() for share in attempt.grant.shares) if attempt.grant else 0
        self.core_s += cores * took_s
        self.pilot.end(number, key, took_s)
        for each in self.allocations.values():
            if each.ended_s is None and number in each.numbers:
                self._end_if_empty(each)

    def _known(self, each: Allocation) -> KnownAllocation:
        return KnownAllocation(
            each.id,
            each.asked.spec,
            each.asked.nodes,
            each.asked.walltime_s,
            each.state,
            each.submitted_s,
            each.started_s,
            each.ended_s,
            each.seen,
            each.releasing,
            each.failed,
            "it ended at once" if each.failed else "",
            self._sizes[each.asked.spec] if each.seen else None,
        )
