"""Wall time and memory limits of running tasks.

One timer serves all wall times, set to the earliest: a timer per task would keep a million short tasks that have a limit
of an hour in a heap for that hour. Memory is read only while a task runs that has a limit which the kernel does not hold
(memory_groups.py).

Time is that in which this worker process could run (clock.Uptime): the suspension of a whole job is nobody's time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping

from ..clock import TINY_S, Uptime
from ..loop import Loop, Timer
from ..wire.frames import Cause
from .memory_groups import Ending
from .tasks import Task

MEMORY_INTERVAL_S = 0.5
_LOOK_AGAIN_S = 60.0
"""How long at most a timer stays for tasks that have ended."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Limits:
    """Calls `stop(task, cause, message)` for tasks of `running` (by process id) that go beyond their limits."""

    def __init__(self, loop: Loop, running: Mapping[int, Task], stop: Callable[[Task, Cause, str], None]) -> None:
        self._loop = loop
        self.uptime = Uptime(loop)
        self._running = running
        self._stop = stop
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._measuring = False

    def watch(self, task: Task) -> None:
        """From now on, until it leaves `running`."""
        wt_s = task.wt_s
        if wt_s is not None:
            now = self.uptime.now()
            task.deadline = now + wt_s
            self._wake_at(task.deadline, now)
        if _is_watched(task) and not self._measuring:
            self._measuring = True
            self._loop.call_after(MEMORY_INTERVAL_S, self._check_memory)

    def _wake_at(self, when: float, now: float) -> None:
        when = min(when, now + _LOOK_AGAIN_S)
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self.uptime.call_after(when - now, self._check_time)

    def _check_time(self) -> None:
        now = self.uptime.now()
        self._timer, self._timer_at = None, math.inf
        for task in list(self._running.values()):
            if task.deadline <= now + TINY_S:
                task.deadline = math.inf
                self._stop(task, Cause.WALL_TIME, f"wall time limit of {task.wt_s:g} s reached")
        earliest = min((task.deadline for task in self._running.values()), default=math.inf)
        if earliest < math.inf:
            self._wake_at(earliest, now)

    def _check_memory(self) -> None:
        limited = [task for task in self._running.values() if _is_watched(task)]
        self._measuring = bool(limited)
        if not limited:
            return
        used = memory_by_session()
        for task in limited:
            has, limit = used.get(task.pid, 0), task.held.grant.mem_bytes
            if has > limit:
                self._stop(task, Cause.MEMORY, _beyond(limit, has))
        self._loop.call_after(MEMORY_INTERVAL_S, self._check_memory)


def _is_watched(task: Task) -> bool:
    return bool(task.held.grant.mem_bytes) and not task.confined


def settle_memory(task: Task, ending: Ending, exit_code: int) -> int:
    """Note why a confined task has ended, if it was for its memory.

    Returns the most that all its processes had at once, in KiB; 0: not known.
    """
    if ending.out_of_memory and exit_code < 0 and task.cause is Cause.EXITED:
        limit = task.held.grant.mem_bytes
        task.cause, task.message = Cause.MEMORY, _beyond(limit, max(ending.peak_bytes, limit))
    return ending.peak_bytes >> 10


def _beyond(limit_bytes: int, has_bytes: int) -> str:
    return f"memory limit of {_size(limit_bytes)} exceeded ({_size(has_bytes)} in use)"


def memory_by_session() -> dict[int, int]:
    """Resident bytes of all processes, added up by session: a task is the leader of one.

    One pass over /proc serves all tasks. Pages that processes share are counted for each of them.
    """
    used: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The name, in parentheses, may hold anything; after it: state ppid pgrp session ..., rss is the 22nd.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # it has just ended
            continue
        session = int(fields[3])
        used[session] = used.get(session, 0) + int(fields[21]) * _PAGE_BYTES
    return used


def _size(count: int) -> str:
    """In the largest unit that keeps the number at least 1."""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if count >> power:
            return f"{count / (1 << power):.4g} {unit}"
    return f"{count / 1024:.4g} KiB"
