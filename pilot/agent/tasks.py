"""What an agent holds: grants, pools of waiting tasks, running tasks."""

from __future__ import annotations

from collections import deque

from ..execmodels.environ import Env
from ..loop import Timer
from ..model.ids import PoolId, TaskKey
from ..wire.frames import Cause, JobDef, NewGrant, TaskStart
from .launch import Launch


class HeldGrant:
    """A grant, with what is the same for all tasks that run on it."""

    __slots__ = ("cpus", "env", "grant", "launches")

    def __init__(self, grant: NewGrant, env: Env, cpus: frozenset[int]) -> None:
        self.grant = grant
        self.env = env
        self.cpus = cpus
        """Processors to bind to; empty: no binding."""
        self.launches: dict[int, Launch] = {}
        """By job number: prepared starts of jobs whose tasks do not differ."""


class Pool:
    """Tasks waiting for a grant of one shape, and the grants of that shape that are idle."""

    __slots__ = ("idle", "mean_s", "pool_id", "waiting")

    def __init__(self, pool_id: PoolId) -> None:
        self.pool_id = pool_id
        self.idle: list[HeldGrant] = []
        self.waiting: deque[TaskStart] = deque()
        self.mean_s = 1.0
        """Moving average of how long tasks take; starts high, so the first ones are bound exactly (see bind.py)."""

    def ran(self, seconds: float) -> None:
        self.mean_s += 0.2 * (seconds - self.mean_s)


class Task:
    """One running attempt."""

    __slots__ = (
        "cause",
        "exact",
        "held",
        "job",
        "kill_timer",
        "message",
        "pid",
        "pool",
        "start",
        "started_s",
        "step_id",
        "wt_timer",
    )

    def __init__(self, start: TaskStart, job: JobDef, held: HeldGrant, pool: Pool, pid: int, started_s: float) -> None:
        self.start = start
        self.job = job
        self.held = held
        self.pool = pool
        self.pid = pid
        self.started_s = started_s
        self.step_id = b""
        self.exact = True
        self.cause = Cause.EXITED
        self.message = ""
        self.wt_timer: Timer | None = None
        self.kill_timer: Timer | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.start.job_no, self.start.pos, self.start.run)

    @property
    def name(self) -> str:
        return task_name(self.job, self.start)


def task_name(job: JobDef, start: TaskStart) -> str:
    """`JOB`, or `JOB:INDEX` for a task of an iteration job."""
    return f"{job.name}:{start.it}" if job.is_iteration else job.name
