"""Tasks that are never spawned, of simulated agents and of workers of a real agent: both get the same frames.

A task "runs" for so many seconds, or until nothing else is due. As in a real worker, lent tasks start as others end, those
that have run for 50 ms are announced, a grant goes back with the result when there are no more tasks for it, and what can wait
is reported at most every 50 ms.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from pilotfish.pilot.agent.app import FLUSH_S
from pilotfish.pilot.agent.function_workers import with_output
from pilotfish.pilot.agent.report_buffer import ReportBuffer
from pilotfish.pilot.agent.task_runner import ANNOUNCE_S
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId, TaskKey
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import frames

_CHUNK = int(os.environ.get("PRETENDED_CHUNK", "1"))
RETURNED = with_output(b"", b"m" + msgspec.msgpack.encode(None if _CHUNK == 1 else [None] * _CHUNK))
"""The end of a call that has printed nothing and returned None, or of so many at once."""

Held = tuple[float, frames.TaskStart, GrantId, PoolId]


class PretendedTasks:
    """What one agent or worker holds. `due` is when it has to be looked at again, by `time.time()`."""

    def __init__(self, task_s: float, send: Callable[[frames.Report], None], is_agent: bool = False) -> None:
        self.report_buffer = ReportBuffer(in_columns=is_agent)
        self.due = time.time()
        self._task_s = task_s
        self._send = send
        self._idle: dict[PoolId, list[GrantId]] = {}
        self._waiting: dict[PoolId, deque[frames.TaskStart]] = {}
        self._running: deque[Held] = deque()
        self._unannounced: deque[Held] = deque()
        self._flushed = 0.0
        self._calls: set[JobNo] = set()
        """Jobs whose tasks are calls: each returns None."""

    def obey(self, message: frames.ToAgent) -> None:
        if isinstance(message, frames.Work):
            self._calls.update(job.job_no for job in message.jobs if job.execution.calls is not None)
            for grant in message.grants:
                self._idle.setdefault(grant.pool, []).append(grant.grant_id)
            for pool, tasks in message.tasks.items():
                self._waiting.setdefault(pool, deque()).extend(frames.each(tasks))
        elif isinstance(message, frames.Revoke):
            asked = set(message.tasks)
            for pool, tasks in self._waiting.items():
                for start in tasks:
                    if start[:3] in asked:
                        self.report_buffer.revoked(frames.TaskKey(*start[:3]))
                self._waiting[pool] = deque(start for start in tasks if start[:3] not in asked)

    def turn(self, now: float) -> None:
        """End what has run long enough, start what can be started, report, and set `due`."""
        while self._running and self._running[0][0] + self._task_s <= now:
            self._end(self._running.popleft())
        for pool, tasks in self._waiting.items():
            idle = self._idle.get(pool, [])
            while tasks and idle:
                self._start(now, tasks.popleft(), idle.pop(), pool)
            for grant_id in idle:
                self.report_buffer.returned(grant_id)
            idle.clear()
        while self._unannounced and self._unannounced[0][0] + ANNOUNCE_S <= now:
            begun, start, grant_id, _ = self._unannounced.popleft()
            self.report_buffer.started(frames.Started(*start[:3], grant_id, 1, begun))
        self._tell(now)

    def _start(self, now: float, start: frames.TaskStart, grant_id: GrantId, pool: PoolId) -> None:
        held = (now, start, grant_id, pool)
        self._running.append(held)
        if self._task_s > ANNOUNCE_S:
            self._unannounced.append(held)

    def _end(self, held: Held) -> None:
        begun, (job_no, pos, run, *_), grant_id, pool = held
        ended = begun + self._task_s
        waiting = self._waiting.get(pool)
        returns = not waiting
        if job_no in self._calls:
            self.report_buffer.returned_value(TaskKey(job_no, pos, run), RETURNED)
        if waiting:
            self._start(ended, waiting.popleft(), grant_id, pool)
        self.report_buffer.finished(
            frames.Finished(job_no, pos, run, grant_id, 1, begun, ended, 0, Cause.EXITED, 0.001, 2000, "", returns)
        )

    def _tell(self, now: float) -> None:
        buffer = self.report_buffer
        if not buffer.empty and (buffer.urgent or now >= self._flushed + FLUSH_S):
            self._flushed = now
            self._send(buffer.seal())
        self.due = now + 3600.0
        if self._running:
            self.due = min(self.due, self._running[0][0] + self._task_s)
        if self._unannounced:
            self.due = min(self.due, self._unannounced[0][0] + ANNOUNCE_S)
        if not buffer.empty:
            self.due = min(self.due, self._flushed + FLUSH_S)


class Member(Protocol):
    """One agent or worker of a crowd. `due`: when it has to be looked at again, `timer`: when it will be, at the latest."""

    due: float
    timer: float

    def read(self) -> bool:
        """Take in all frames; whether there were any."""

    def turn(self, now: float) -> None:
        """Do what is due, and set `due`."""


class Crowd:
    """All members in one process, with one descriptor each and one `epoll` over them."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self._epoll = select.epoll()
        self._timers: list[tuple[float, int]] = []

    def add(self, descriptor: int, member: Member) -> None:
        self.members[descriptor] = member
        self._epoll.register(descriptor, select.EPOLLIN)
        heappush(self._timers, (member.due, descriptor))

    def turn(self) -> None:
        """Wait for a moment at most, and do what is due."""
        now = time.time()
        patience_s = min(max(0.0, self._timers[0][0] - now), 0.05) if self._timers else 0.05
        touched = {descriptor for descriptor, _ in self._epoll.poll(patience_s)}
        now = time.time()
        while self._timers and self._timers[0][0] <= now:
            due, descriptor = heappop(self._timers)
            if due == self.members[descriptor].timer:  # else it has been set anew since
                touched.add(descriptor)
        for descriptor in touched:
            member = self.members[descriptor]
            member.read()
            member.turn(now)
            while (
                member.read()
            ):  # the descriptor of a ZeroMQ socket tells only of changes, and sending uses up such news
                member.turn(now)
            if member.timer <= now or member.due < member.timer:
                member.timer = member.due
                heappush(self._timers, (member.due, descriptor))
