"""What one turn of the core has decided: record, then act, then tell.

The three parts are kept apart so that the order cannot be got wrong: the manager writes `results`, `sent` and the other
facts to the journal, then sends `orders` to the agents, then publishes `changes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .ids import JobNo, NodeNo, PoolId, TaskKey
from .jobs import Job
from .resources import Grant
from .results import Result, Successes
from .states import State


class Change(NamedTuple):
    """A job (`pos` None) or a task of an iteration job has a new state. `exit_code`: only of a task that has run."""

    job: Job
    pos: int | None
    state: State
    time_s: float
    exit_code: int | None = None
    message: str = ""

    @property
    def ends_job(self) -> bool:
        return self.pos is None and self.state.final


@dataclass(frozen=True, slots=True)
class Lent:
    """The tasks at these positions of a job were sent in one turn: each is SCHEDULED."""

    job: Job
    positions: range
    time_s: float

    @property
    def count(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Change]:
        return (Change(self.job, pos, State.SCHEDULED, self.time_s) for pos in self.positions)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Tasks of a job that have succeeded.

    `places` has the numbers of `ends.places` in the registry. `unannounced`: that the tasks execute had not been known, so each
    of them changes twice.
    """

    job: Job
    ends: Successes
    places: list[int]
    unannounced: bool

    @property
    def count(self) -> int:
        return len(self.ends.pos) * (1 + self.unannounced)

    def __iter__(self) -> Iterator[Change]:
        job, ends = self.job, self.ends
        for pos, started_s, ended_s in zip(ends.pos, ends.started_s, ends.ended_s, strict=True):
            if self.unannounced:
                yield Change(job, pos, State.EXECUTING, started_s)
            yield Change(job, pos, State.SUCCEED, ended_s, 0)


Changes = Change | Lent | Succeeded
"""One change, or many that nothing distinguishes: these are only looked at one by one by who is interested in each."""


def each_change(changes: Iterable[Changes]) -> Iterator[Change]:
    """All of them, one by one and in order."""
    for change in changes:
        if isinstance(change, Change):
            yield change
        else:
            yield from change


@dataclass(slots=True)
class Orders:
    """What goes to one agent, as one frame."""

    grants: list[Grant] = field(default_factory=list)
    starts: dict[PoolId, list[TaskKey]] = field(default_factory=dict)
    kills: list[TaskKey] = field(default_factory=list)
    revokes: list[TaskKey] = field(default_factory=list)


@dataclass(slots=True)
class Decisions:
    """`canceled` and `removed` are facts accepted from clients; `taken` attempts came back without a start."""

    canceled: list[tuple[JobNo, int | None]] = field(default_factory=list)
    taken: list[TaskKey] = field(default_factory=list)
    results: list[Result | Successes] = field(default_factory=list)
    removed: list[JobNo] = field(default_factory=list)
    sent: dict[NodeNo, list[TaskKey]] = field(default_factory=dict)
    orders: dict[NodeNo, Orders] = field(default_factory=dict)
    changes: list[Changes] = field(default_factory=list)
    idle: bool = False
    """The last piece of work has just ended: nothing is queued, nothing is running."""

    def orders_for(self, node: NodeNo) -> Orders:
        orders = self.orders.get(node)
        if orders is None:
            orders = self.orders[node] = Orders()
        return orders

    def drain(self) -> Decisions:
        """Hand over everything and start anew."""
        full = Decisions(self.canceled, self.taken, self.results, self.removed, self.sent, self.orders, self.changes)
        self.canceled, self.taken, self.results, self.removed = [], [], [], []
        self.sent, self.orders, self.changes = {}, {}, []
        return full
