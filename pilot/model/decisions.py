"""What one turn of the core has decided: record, then act, then tell.

The three parts are kept apart so that the order cannot be got wrong: the manager writes `results`, `sent` and the other
facts to the journal, then sends `orders` to the agents, then publishes `changes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .ids import JobNo, NodeNo, PoolId, TaskKey
from .jobs import Job
from .resources import Grant
from .results import Result
from .states import State


class Change(NamedTuple):
    """A job (`pos` None) or a task of an iteration job has a new state. `exit_code`: only of a task that has run."""

    job: Job
    pos: int | None
    state: State
    time_s: float
    exit_code: int | None = None
    message: str = ""


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
    results: list[Result] = field(default_factory=list)
    removed: list[JobNo] = field(default_factory=list)
    sent: dict[NodeNo, list[TaskKey]] = field(default_factory=dict)
    orders: dict[NodeNo, Orders] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
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
