"""What an agent holds: grants, pools of waiting tasks, running tasks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import replace

import msgspec

from ..execmodels.default import LongTexts
from ..execmodels.environ import Env
from ..leftover_processes import Process
from ..loop import Timer
from ..model.ids import JobNo, PoolId, TaskKey
from ..model.variables import has_variables
from ..wire.frames import Cause, JobDef, NewGrant, Started, TaskStart
from .kept_output import Lane
from .launch import Launch
from .launcher_hints import NO_HINTS, Hints


class HeldGrant:
    """A grant, with what is the same for all tasks that run on it."""

    __slots__ = ("cpus", "env", "envs", "grant", "hints", "is_one_core", "launches")

    def __init__(self, grant: NewGrant, env: Env, cpus: frozenset[int], hints: Hints = NO_HINTS) -> None:
        self.grant = grant
        self.env = env
        self.hints = hints
        self.cpus = cpus
        """Processors to bind to; empty: no binding."""
        self.is_one_core = len(grant.nodes) == 1 and len(grant.nodes[0].core_ids) == 1
        self.envs: dict[JobNo, Env] = {}
        """Environments of jobs whose tasks do not differ in them."""
        self.launches: dict[JobNo, Launch] = {}
        """Prepared starts of jobs whose tasks do not differ at all."""

    def forget(self, job_no: JobNo) -> None:
        self.envs.pop(job_no, None)
        self.launches.pop(job_no, None)


class KnownJob:
    """A job's definition, and which of its values differ from task to task."""

    __slots__ = ("calls", "definition", "env_varies", "execution", "files", "long_texts", "varies")

    def __init__(self, definition: JobDef) -> None:
        execution = definition.execution
        self.definition = definition
        self.calls = execution.calls
        if execution.calls is not None and definition.inputs:
            data = execution.calls.data + msgspec.msgpack.encode(definition.inputs)
            self.calls = replace(execution.calls, data=data)
        self.execution = execution if execution.calls is None else replace(execution, calls=None)
        """The process: of a job of calls, that of its function workers."""
        self.varies = has_variables(execution)
        self.env_varies = self.varies and any("$" in value for value in execution.env.values())
        self.long_texts: LongTexts | None = None
        """Shell texts of all its tasks."""
        self.files: Collection[str] = ()
        """Those of `long_texts` that have been written; they stay as long as the job is known."""


class Pool:
    """Tasks waiting for a grant of one shape, and the grants of that shape that are idle."""

    __slots__ = ("idle", "pool_id", "waiting")

    def __init__(self, pool_id: PoolId) -> None:
        self.pool_id = pool_id
        self.idle: list[HeldGrant] = []
        self.waiting: deque[TaskStart] = deque()


class Task:
    """One running attempt. `deadline` in seconds of uptime; `kill_timer` is set once it is being stopped."""

    __slots__ = (
        "below",
        "cause",
        "confined",
        "deadline",
        "files",
        "held",
        "job",
        "kill_timer",
        "lane",
        "message",
        "pid",
        "pool",
        "start",
        "started_s",
        "step_id",
    )

    def __init__(
        self, start: TaskStart, job: JobDef, held: HeldGrant, pool: Pool, pid: int, started_s: float, step_id: bytes
    ) -> None:
        self.start = start
        self.job = job
        self.held = held
        self.pool = pool
        self.pid = pid
        self.started_s = started_s
        self.step_id = step_id
        self.confined = False
        """Whether the kernel holds its memory limit (see memory_groups.py)."""
        self.files: Collection[str] = ()
        """To be removed when it has ended."""
        self.lane: Lane | None = None
        """Where it prints to without a file of its own."""
        self.below: set[Process] = set()
        """What was seen to descend from it when it was told to stop."""
        self.cause = Cause.EXITED
        self.message = ""
        self.deadline = math.inf
        self.kill_timer: Timer | None = None

    @property
    def wt_s(self) -> float | None:
        """Its wall time limit."""
        return self.job.wt_s if self.start.wt_s is None else self.start.wt_s

    @property
    def key(self) -> TaskKey:
        return key_of(self.start)

    def as_started(self) -> Started:
        start = self.start
        return Started(start.job_no, start.pos, start.run, self.held.grant.grant_id, self.pid, self.started_s)


def key_of(start: TaskStart) -> TaskKey:
    return TaskKey(start.job_no, start.pos, start.run)


def task_name(job: JobDef, start: TaskStart) -> str:
    """`JOB`, or `JOB:INDEX` for a task of an iteration job."""
    return f"{job.name}:{start.it}" if job.is_iteration else job.name
