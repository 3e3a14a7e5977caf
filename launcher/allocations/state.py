"""What the journal of a pilot's allocations says: the specs, and each allocation that was ever asked for. No I/O, no clock.

Invariants:

1. An allocation is written down before the batch system is asked for it, and its end is final.
2. A spec that was removed stays until its last allocation has ended, so that nothing of it is left behind.
3. What an allocation is (waiting, running) is not written down: the batch system tells, each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .decide import AllocationState, KnownAllocation
from .events import (
    Asked,
    Event,
    EventOfAllocation,
    EventOfSpec,
    Joined,
    Leaving,
    NothingAsked,
    Over,
    Placed,
    Said,
    SpecAdded,
    SpecPaused,
    SpecRemoved,
    SpecResumed,
    Started,
)
from .spec import AllocationSpec, NodeSize


@dataclass
class SpecHistory:
    """A spec with what has been said of it since.

    Attributes:
        spec: as it is now; `paused` also where the allocator has paused it.
        why_paused: in whose words it was paused.
        quiet: why nothing was asked for when it was looked at last.
        removed: it is to go; `kill`: with all that runs.
        added_s: when it was added: allocations of an earlier one of this name are not its own.
        since_s: when it was added or resumed last: failures before do not count.
    """

    spec: AllocationSpec
    added_s: float
    since_s: float
    why_paused: str = ""
    quiet: str = ""
    removed: bool = False
    kill: bool = False


@dataclass
class Allocation:
    """One that was asked for. Moments are seconds since the epoch."""

    id: str
    spec: str
    nodes: int
    walltime_s: float
    reason: str
    asked_s: float
    job_id: str = ""
    started_s: float | None = None
    where: str = ""
    joined_s: float | None = None
    node: NodeSize | None = None
    leaving: str = ""
    why_leaving: str = ""
    of_no_use: bool = False
    ended_s: float | None = None
    end: str = ""
    failed: bool = False
    lines: str = ""

    @property
    def over(self) -> bool:
        return self.ended_s is not None

    def known(self, state: AllocationState, since_s: float) -> KnownAllocation:
        """As decisions see it. `since_s`: failures before do not count."""
        return KnownAllocation(
            id=self.id,
            spec=self.spec,
            nodes=self.nodes,
            walltime_s=self.walltime_s,
            state=AllocationState.ENDED if self.over else state,
            submitted_s=self.asked_s,
            started_s=self.started_s,
            ended_s=self.ended_s,
            agents_seen=self.joined_s is not None,
            releasing=bool(self.leaving),
            failed=self.failed and self.asked_s >= since_s,
            ended_reason=": ".join(filter(None, [self.end, *self.lines.splitlines()[-1:]]))
            if self.failed
            else self.end,
            node=self.node,
        )


class State:
    """`specs` by name, also those removed of which something lives; `allocations` by id, in the order of asking."""

    def __init__(self) -> None:
        self.specs: dict[str, SpecHistory] = {}
        self.allocations: dict[str, Allocation] = {}

    @property
    def living(self) -> list[Allocation]:
        return [each for each in self.allocations.values() if not each.over]

    def living_of(self, spec: str) -> list[Allocation]:
        return [each for each in self.living if each.spec == spec]

    @property
    def asking(self) -> list[SpecHistory]:
        """Specs that have not been removed."""
        return [each for each in self.specs.values() if not each.removed]

    def take(self, event: Event, time_s: float) -> None:
        """Let this have happened. What speaks of something unknown changes nothing: somebody may have removed it meanwhile."""
        match event:
            case SpecAdded():
                self.specs[event.spec.name] = SpecHistory(event.spec, time_s, time_s)
            case SpecPaused() | SpecResumed() | SpecRemoved() | NothingAsked():
                if event.spec in self.specs:
                    self._take_of_spec(self.specs[event.spec], event, time_s)
            case Asked():
                made = Allocation(event.id, event.spec, event.nodes, event.walltime_s, event.reason, time_s)
                self.allocations[event.id] = made
            case _:
                if event.id in self.allocations and not self.allocations[event.id].over:
                    self._take_of_allocation(self.allocations[event.id], event, time_s)

    def _take_of_spec(self, known: SpecHistory, event: EventOfSpec, time_s: float) -> None:
        match event:
            case SpecPaused():
                known.spec, known.why_paused = replace(known.spec, paused=True), event.reason
            case SpecResumed():
                known.spec, known.why_paused, known.since_s = replace(known.spec, paused=False), "", time_s
            case SpecRemoved():
                known.removed, known.kill = True, known.kill or event.kill
                self._forget_if_gone(event.spec)
            case NothingAsked():
                known.quiet = event.reason

    def _take_of_allocation(self, known: Allocation, event: EventOfAllocation, time_s: float) -> None:
        match event:
            case Placed():
                known.job_id = event.job_id
            case Started():
                known.started_s, known.where = known.started_s or time_s, event.where
            case Said():
                known.lines = event.lines
            case Joined():
                known.started_s, known.joined_s, known.node = known.started_s or time_s, time_s, event.node
            case Leaving():
                known.leaving, known.why_leaving, known.of_no_use = event.how, event.reason, event.failed
            case Over():
                known.ended_s, known.end = time_s, event.reason
                known.failed, known.lines = event.failed, event.lines
                self._forget_if_gone(known.spec)

    def _forget_if_gone(self, spec: str) -> None:
        if spec in self.specs and self.specs[spec].removed and not self.living_of(spec):
            del self.specs[spec]
