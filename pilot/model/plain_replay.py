"""Replay of what is the same for very many tasks: sent for the first time, one behind the other, and ended well.

A journal of a million tasks is mostly that. `Recovery.replay_sent` and `replay_result` do it too, one by one and in five times
the time; they are asked when the answer here is False. Both ways lead to the same state, and a test compares them.

As in plain_ends.py, what is easy to get wrong is left to the general way: jobs that others wait for, tasks that were lost or
cancelled, nodes that have left, the last task of a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import cast

from .attempts import Attempt
from .decisions import Decisions, Succeeded
from .dispatch import Dispatch
from .ids import NodeNo, PoolId, TaskKey
from .jobs import Job, Pending
from .lifecycle import Lifecycle
from .nodes import Nodes
from .registry import Registry
from .results import Successes
from .states import AttemptEvent, AttemptState, Cause, NodeState, State
from .tasks import ManyTasks


class PlainReplay:
    def __init__(self, nodes: Nodes, jobs: Registry, dispatch: Dispatch, life: Lifecycle, decisions: Decisions) -> None:
        self._nodes = nodes
        self._jobs = jobs
        self._dispatch = dispatch
        self._life = life
        self._decisions = decisions

    def stretch(self, keys: Sequence[TaskKey]) -> tuple[Job, range] | None:
        """The job and positions when these are first attempts at tasks that follow each other and were never sent."""
        if not keys:
            return None
        job_no, first, run = keys[0]
        job, stop = self._jobs.by_no(job_no), first + len(keys)
        if job is None or run != 1 or not 0 <= first < stop <= job.spec.task_count:
            return None
        if not isinstance(job.tasks, ManyTasks) or job.tasks.fresh(first, stop) != len(keys):
            return None
        return (job, range(first, stop)) if keys == [(job_no, pos, 1) for pos in range(first, stop)] else None

    def sent(self, node: NodeNo, keys: Sequence[TaskKey], now: float) -> bool:
        """`Recovery.replay_sent` for all of these; False: nothing was done."""
        match = self.stretch(keys)
        if match is None or self._life.lost.node_of or self._life.retries.resting:
            return False
        job, positions = match
        pending = job.pendings
        if not isinstance(pending, Pending) or job.grown is not None or job.unmet or job.unmet_at is not None:
            return False
        assert isinstance(job.tasks, ManyTasks)
        job.tasks.send_first(positions)
        pending.live -= len(keys)
        self._jobs.tasks_in[State.QUEUED] -= len(keys)
        self._jobs.tasks_in[State.SCHEDULED] += len(keys)
        put, pool, state = self._dispatch.put, PoolId(0), AttemptState.IN_DOUBT
        for key in keys:
            put(Attempt(key, job, pending, node, pool, now, state))
        return True

    def succeeded(self, ends: Successes) -> bool:
        """`Recovery.replay_result` for all of these; False: nothing was done."""
        job, count = self._jobs.by_no(ends.job_no), len(ends.pos)
        if job is None or not count or not isinstance(job.tasks, ManyTasks) or self._life.lost.node_of:
            return False
        if job.dependents or job.messages or job.canceling or job.finished + count >= job.spec.task_count:
            return False
        in_flight = self._dispatch.attempts
        keys = cast("list[TaskKey]", list(zip(repeat(ends.job_no), ends.pos, repeat(ends.run))))  # equal to them
        attempts = [attempt for attempt in map(in_flight.get, keys) if attempt is not None]
        if len(attempts) != count or len(set(ends.pos)) != count:
            return False
        if {attempt.state for attempt in attempts} != {AttemptState.IN_DOUBT}:
            return False
        if any(self._nodes[node].state is NodeState.LEFT for node in {attempt.node for attempt in attempts}):
            return False
        for key in keys:
            del in_flight[key]
        Attempt.all_after(attempts, AttemptEvent.END)
        places = [self._jobs.places.number(shares) for shares in ends.places]
        where = [places[place] for place in ends.place]
        times = repeat(ends.scheduled_s), ends.started_s, ends.ended_s
        usage = ends.max_rss_kib, ends.cpu_s
        job.tasks.succeed_all(ends.pos, repeat(0), ends.pid, where, *usage, *times, repeat(Cause.EXITED))
        self._jobs.tasks_in[State.SCHEDULED] -= count
        self._jobs.tasks_in[State.SUCCEED] += count
        job.finished += count
        self._decisions.results.append(ends)
        self._decisions.changes.append(Succeeded(job, ends, places, unannounced=False))
        return True
