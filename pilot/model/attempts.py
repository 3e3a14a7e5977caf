"""An attempt at a task, from the moment it goes to an agent until its end is known; and the attempts of silent agents."""

# An attempt is *in flight* (`Dispatch.attempts`) while an agent has it or may have it, and *lost* (`LostAttempts`) once its
# agent has been silent for too long: its task waits again, but the agent may only have been cut off, and come back with the
# result. It would be a pity to throw that away, and wrong to run what has succeeded a second time; so a lost attempt is
# kept, but only for as long as that can happen:
#
# - until the agent that had it is heard again and has reported all it has, in one frame (`Recovery.drop_unnamed`);
# - until another agent reports for its node, because then the old one is turned away;
# - until its node is given up, or leaves (a joined node that comes again is another node, but reports what it did before);
# - until its task is over.
#
# An attempt whose agent is *known* to have ended is not kept at all. So the number of lost attempts is bounded by what runs,
# not by what has ever run.
#
# Rejected: to keep lost attempts for ever, because a few hundred bytes are nothing. It was so, and each of them kept its
# job alive, and with that all the results of a million iterations.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from .ids import GrantId, JobNo, NodeNo, PoolId, TaskKey
from .jobs import Entry, Job
from .resources import Grant, Share, is_condition
from .results import PlacedPart, PlacedShare, Result
from .states import ATTEMPT_TABLE, AttemptEvent, AttemptState, Cause, Fate, State, illegal_event
from .tasks import TaskRecord


class End(NamedTuple):
    """How an attempt ended, as its agent saw it; fields as in wire.frames.Finished."""

    pid: int
    started_s: float
    ended_s: float
    exit_code: int
    cause: Cause
    cpu_s: float = 0.0
    max_rss_kib: int = 0
    message: str = ""


class Attempt:
    """One start of a task: where it was sent, what it was given, and where it stands (`AttemptState`).

    Times and the pid are what was reported, and mean nothing else: whether it runs is told by `state` alone.
    """

    __slots__ = ("grant", "job", "key", "node", "pending", "pid", "pool_id", "scheduled_s", "started_s", "state")

    def __init__(
        self,
        key: TaskKey,
        job: Job,
        pending: Entry,
        node: NodeNo,
        pool_id: PoolId,
        now: float,
        state: AttemptState = AttemptState.SENT,
    ) -> None:
        self.key = key
        self.job = job
        self.pending = pending
        self.node = node
        self.pool_id = pool_id
        self.scheduled_s = now
        self.grant: Grant | None = None
        self.pid = -1
        self.started_s = 0.0
        self.state = state

    def __repr__(self) -> str:
        return (
            f"<Attempt {self.job.spec.task_name(self.key.pos)} #{self.key.run} {self.state.name} on node {self.node}>"
        )

    def after(self, event: AttemptEvent) -> Fate:
        """Let `event` happen; returns what that means for the task.

        Raises IllegalTransitionError before anything is changed.
        """
        cell = ATTEMPT_TABLE[event][self.state]
        if cell is None:
            raise illegal_event(self.state, event, repr(self))
        self.state, fate = cell
        return fate

    @staticmethod
    def all_after(attempts: Sequence[Attempt], event: AttemptEvent) -> Fate:
        """`after` for attempts that are all in the same state."""
        fate = attempts[0].after(event)
        state = attempts[0].state
        for attempt in attempts:
            attempt.state = state
        return fate

    @property
    def is_plain(self) -> bool:
        """Whether it is only what its agent was told to start: not being stopped, and not in doubt."""
        return self.state is AttemptState.RUNNING or self.state is AttemptState.SENT

    def record(self) -> TaskRecord:
        """What is known while it is in flight."""
        return TaskRecord(
            state=self.job.tasks.state(self.key.pos),
            run=self.key.run,
            pid=self.pid,
            scheduled_s=self.scheduled_s,
            started_s=self.started_s,
            shares=placed(self.grant.shares) if self.grant else (),
        )

    def result(self, state: State, end: End) -> Result:
        """The result of the attempt, which leaves the task in `state`."""
        job_no, pos, run = self.key
        pid, started_s, ended_s, exit_code, cause, cpu_s, max_rss_kib, message = end
        times = self.scheduled_s, started_s, ended_s
        shares = placed(self.grant.shares) if self.grant else ()
        return Result(job_no, pos, run, state, cause, exit_code, pid, *times, cpu_s, max_rss_kib, message, shares)

    def lost_result(self, state: State, now: float, message: str = "") -> Result:
        """The result of an attempt that nobody can report any more."""
        return self.result(state, End(self.pid, self.started_s, now, -1, Cause.LOST, message=message))


class _LostWithNode(NamedTuple):
    attempts: dict[TaskKey, Attempt]
    grants: dict[GrantId, Grant]
    """What the agent held; a late result names one of these, which tells where it ran."""


class LostAttempts:
    """The attempts in state LOST or EXCUSED, each with the node whose agent had it."""

    def __init__(self) -> None:
        self.node_of: dict[TaskKey, NodeNo] = {}
        """Nearly always empty, and asked for each task that ends."""
        self._with: dict[NodeNo, _LostWithNode] = {}

    def __len__(self) -> int:
        return len(self.node_of)

    def __iter__(self) -> Iterator[Attempt]:
        return (self._with[node].attempts[key] for key, node in self.node_of.items())

    @property
    def nodes(self) -> list[NodeNo]:
        """Those with which something was lost."""
        return list(self._with)

    def add(self, attempt: Attempt) -> None:
        self.node_of[attempt.key] = attempt.node
        self._with.setdefault(attempt.node, _LostWithNode({}, {})).attempts[attempt.key] = attempt

    def add_grants(self, node: NodeNo, grants: Mapping[GrantId, Grant]) -> None:
        """What the agent of `node`, which has something that is lost, held when it was last heard."""
        if node in self._with:
            self._with[node].grants.update(grants)

    def get(self, key: TaskKey) -> Attempt | None:
        node = self.node_of.get(key)
        return None if node is None else self._with[node].attempts[key]

    def grant(self, attempt: Attempt, grant_id: GrantId) -> Grant | None:
        """A grant that the agent of this attempt held."""
        with_node = self._with.get(attempt.node)
        return None if with_node is None else with_node.grants.get(grant_id)

    def of_node(self, node: NodeNo) -> list[Attempt]:
        return list(self._with[node].attempts.values()) if node in self._with else []

    def remove(self, attempt: Attempt) -> None:
        """It is found, or its end is known."""
        node = self.node_of.pop(attempt.key)
        attempts = self._with[node].attempts
        del attempts[attempt.key]
        if not attempts:
            del self._with[node]

    def forget_node(self, node: NodeNo) -> None:
        """Nobody can report what was lost with this node any more."""
        self._forget(self.of_node(node))

    def forget_task(self, job_no: JobNo, pos: int, last_run: int) -> None:
        """The task is over, so no attempt at it, of which there were `last_run`, matters any more."""
        keys = (TaskKey(job_no, pos, run) for run in range(1, last_run + 1))
        self._forget([attempt for key in keys if (attempt := self.get(key)) is not None])

    def forget_waiting(self, job: Job) -> None:
        """All tasks of the job that wait are about to be over."""
        of_job = [attempt for attempt in self if attempt.job is job]
        self._forget([attempt for attempt in of_job if job.tasks.state(attempt.key.pos) is State.QUEUED])

    def _forget(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            attempt.after(AttemptEvent.FORGET)
            self.remove(attempt)


@lru_cache(maxsize=65_536)
def placed(shares: tuple[Share, ...]) -> tuple[PlacedShare, ...]:
    """In the words of results. Remembered, because very many tasks run in the same few places."""
    return tuple(
        PlacedShare(
            share.node,
            f"{share.used_cores:x}",
            f"{share.gpus:x}",
            tuple(
                PlacedPart(taken.name, taken.amount, f"{taken.slots:x}", taken.parts)
                for taken in share.named
                if not is_condition(taken.name)
            ),
        )
        for share in shares
    )
