"""One attempt at one task, from the moment it goes to an agent until its end is known."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .ids import NodeNo, PoolId, TaskKey
from .jobs import Job, Pending
from .resources import Grant, Share
from .results import PlacedShare, Result
from .states import Cause, State
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
    """An attempt that an agent has, or may have: after a resume it is `in_doubt` until the agent has spoken or is gone."""

    __slots__ = (
        "canceling",
        "counted",
        "grant",
        "in_doubt",
        "job",
        "key",
        "lost",
        "node",
        "pending",
        "pid",
        "pool_id",
        "scheduled_s",
        "started_s",
    )

    def __init__(self, key: TaskKey, job: Job, pending: Pending, node: NodeNo, pool_id: PoolId, now: float) -> None:
        self.key = key
        self.job = job
        self.pending = pending
        self.node = node
        self.pool_id = pool_id
        self.scheduled_s = now
        self.grant: Grant | None = None
        self.pid = -1
        self.started_s = 0.0
        self.canceling = False
        self.lost = False
        """A further node of it was lost: it is being stopped and counts as crashed when its end comes."""
        self.in_doubt = False
        self.counted = False
        """Its loss has been counted as a crash of its task."""

    def __repr__(self) -> str:
        return f"<Attempt {self.job.spec.task_name(self.key.pos)} #{self.key.run} on node {self.node}>"

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


@lru_cache(maxsize=65_536)
def placed(shares: tuple[Share, ...]) -> tuple[PlacedShare, ...]:
    """In the words of results. Remembered, because very many tasks run in the same few places."""
    return tuple(PlacedShare(share.node, f"{share.cores:x}", f"{share.gpus:x}") for share in shares)
