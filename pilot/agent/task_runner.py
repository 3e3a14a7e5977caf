"""The running tasks of one worker: what starts when and on which grant; watched, stopped, reaped. Notes everything in the
report buffer. How one is started is in task_starter.py.

No sockets here; the clock for limits is the loop's, times in reports are seconds since the epoch. Orders and endings only
note what has become possible; `start_waiting`, once at the end of a turn, starts it. Starting at once while reaping would
never come to an end with short tasks: by the time one is started another has ended, and nobody reads the socket.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from .. import clock, leftover_processes
from ..inherited import Inherited
from ..leftover_processes import Process
from ..loop import Loop
from ..model.ids import GrantId, JobNo, PoolId, TaskKey
from ..wire import codec
from ..wire.frames import Cause, Finished, JobDef, NewGrant, Settings, TaskStart
from . import places
from .calls import Calls
from .function_workers import has_ended
from .kept_output import KeptOutput
from .launch import LaunchError
from .limits import Limits, settle_memory
from .memory_groups import MemoryGroups
from .report_buffer import ReportBuffer, unstarted
from .run_times import RunTimes
from .task_starter import NoRoomError, TaskStarter
from .tasks import HeldGrant, Pool, Task, key_of, task_name

log = logging.getLogger(__name__)

ANNOUNCE_S = 0.05
"""A task that ends within this time is reported once, by its end."""
_TRY_AGAIN_S = 0.1
MOST_REAPED = 64
"""Children reaped in one turn: as they end as fast as they are started, there may be no last one."""


class TaskRunner:
    """All tasks of worker `number` of this agent. `inherited`: what they are to find; None: what we have."""

    def __init__(
        self, agent_id: str, number: int, loop: Loop, report_buffer: ReportBuffer, inherited: Inherited | None = None
    ) -> None:
        self.running: dict[int, Task] = {}
        """By process id."""
        self.grants: dict[GrantId, HeldGrant] = {}
        self._pools: dict[PoolId, Pool] = {}
        self._touched: set[Pool] = set()
        """Pools in which something may be started, or an idle grant given back."""
        self._loop = loop
        self._report_buffer = report_buffer
        self.groups = MemoryGroups(f"{agent_id}-{number}")
        self._limits = Limits(loop, self.running, self._stop)
        inherited = inherited or Inherited.note()
        for ignored in inherited.ignored:  # a signal that we handle would not be ignored in a child
            signal.signal(ignored, signal.SIG_IGN)
        self.ignored = inherited.ignored
        self._kept = KeptOutput(f"{agent_id}-{number}", loop)
        self._starter = TaskStarter(agent_id, number, inherited, self.groups, self._kept)
        self._calls = Calls(loop, self._starter, report_buffer, self._begun, self._over)
        self._kill_grace_s = 0.0
        self._run_times: RunTimes | None = None
        """With --enable-rt-stats."""
        self._fresh: deque[Task] = deque()
        """Started and not announced, oldest first; those that have ended meanwhile are dropped when their turn comes."""
        self._ended_s = 0.0
        """When the last task ended."""
        self._paused = False
        self._is_ending = False
        self._until_s = math.inf
        """Nothing is started after that, by the loop's clock: the agent is silent, and its tasks may have been given away."""

    def configure(self, settings: Settings) -> None:
        """What the manager said in Welcome."""
        self._kill_grace_s = settings.kill_grace_s
        self._starter.configure(settings)
        if settings.rt_stats and self._run_times is None:
            self._run_times = RunTimes(codec.to_os(settings.root_wd))

    # --- orders ---------------------------------------------------------------------------------------------------------

    def take_work(
        self, jobs: Iterable[JobDef], grants: Iterable[NewGrant], tasks: dict[PoolId, list[TaskStart]]
    ) -> None:
        for job in jobs:
            self._starter.learn(job)
        for grant in grants:
            held = self.grants[grant.grant_id] = self._starter.hold(grant)
            self._pool(grant.pool).idle.append(held)
        for pool_id, starts in tasks.items():
            self._pool(pool_id).waiting.extend(starts)

    def _pool(self, pool_id: PoolId) -> Pool:
        """The pool of that number, made if need be; counts as touched."""
        pool = self._pools.get(pool_id)
        if pool is None:
            pool = self._pools[pool_id] = Pool(pool_id)
        self._touched.add(pool)
        return pool

    def revoke(self, keys: Iterable[TaskKey]) -> None:
        """Give back those that have not started."""
        for key in self._take_waiting(keys):
            self._report_buffer.revoked(key)

    def kill(self, keys: Iterable[TaskKey]) -> None:
        """Stop those that run, drop those that wait; each is reported as CANCELED."""
        wanted = set(keys)
        for key in self._take_waiting(wanted):
            self._report_buffer.finished(unstarted(key))
        for task in list(self.running.values()):
            if task.key in wanted:
                self._stop(task, Cause.CANCELED, "")

    def stop_all(self, at_once: bool = False) -> None:
        """Stop every task and give back what waits; used when the agent ends. `at_once`: with no grace time."""
        self._is_ending = True
        self._calls.take_all_back()
        self._revoke_all()
        for task in list(self.running.values()):
            self._stop(task, Cause.CANCELED, "the pilot was stopped")
            if at_once:
                _signal_group(task.pid, signal.SIGKILL)

    def _revoke_all(self) -> None:
        self.revoke([key_of(start) for pool in self._pools.values() for start in pool.waiting])

    def _take_waiting(self, keys: Iterable[TaskKey]) -> list[TaskKey]:
        wanted = set(keys)
        self._calls.take_back(wanted)
        taken = []
        for pool in self._pools.values():
            found = [key for key in map(key_of, pool.waiting) if key in wanted]
            if found:
                taken += found
                kept = [start for start in pool.waiting if key_of(start) not in wanted]
                pool.waiting.clear()
                pool.waiting.extend(kept)
                self._touched.add(pool)
        return taken

    def close(self) -> None:
        """No task runs any more: what they have left behind ends with us."""
        self._calls.close()
        leftover_processes.kill_all_below()
        self.groups.close()
        self._kept.close()
        self._starter.close()

    def forget(self, numbers: Iterable[JobNo]) -> None:
        for number in numbers:
            self._starter.forget(number)
            self._calls.forget(number)
            for held in self.grants.values():
                held.forget(number)
        used = {held.grant.pool for held in self.grants.values()}
        for pool_id, pool in list(self._pools.items()):
            if not pool.waiting and pool_id not in used:
                del self._pools[pool_id]

    def may_start_until(self, until_s: float) -> None:
        self._until_s = until_s

    # --- starting -------------------------------------------------------------------------------------------------------

    def start_waiting(self) -> None:
        """Start what can be started and give back grants for which nothing waits; call once, at the end of a turn."""
        self._kept.flush()
        if self._is_ending:  # calls that were sent ahead may wait again
            self._revoke_all()
        while self._touched and not self._is_held_up:
            pool = self._touched.pop()
            while pool.waiting and pool.idle and not self._is_held_up:
                self._start_next(pool)
            if self._is_held_up:
                self._touched.add(pool)
                return
            while pool.idle:
                held = pool.idle.pop()
                del self.grants[held.grant.grant_id]
                self._report_buffer.returned(held.grant.grant_id)

    @property
    def _is_held_up(self) -> bool:
        return self._paused or self._is_ending or self._loop.clock() > self._until_s

    def _start_next(self, pool: Pool) -> None:
        """Start the first waiting task on the first idle grant. A task that cannot be started leaves the grant idle.

        The manager gives the lowest cores first, so that tasks are on the cores that users expect.
        """
        start, held = pool.waiting.popleft(), pool.idle.pop(0)
        try:
            is_call = self._starter.calls_of(start.job_no) is not None
            task = (self._calls if is_call else self._starter).start(start, held, pool)
        except (LaunchError, ValueError) as error:  # ValueError: what no system call takes, e.g. a NUL in an argument
            pool.idle.insert(0, held)
            self._report_buffer.finished(unstarted(key_of(start), held.grant.grant_id, Cause.NOT_STARTED, str(error)))
        except NoRoomError:
            pool.waiting.appendleft(start)
            pool.idle.insert(0, held)
            self._pause()
        else:
            self._begun(task)

    def _begun(self, task: Task) -> None:
        self.running[task.pid] = task
        if not self._fresh:
            self._loop.call_after(ANNOUNCE_S, self._announce_old)
        self._fresh.append(task)
        self._limits.watch(task)

    def _pause(self) -> None:
        """Out of processes, memory or descriptors: start nothing until a task has ended or a moment has passed."""
        if self._starter.tries == 1:
            log.warning("start.no_room", extra={"running": len(self.running)})
        self._paused = True
        self._loop.call_after(_TRY_AGAIN_S, self._go_on)

    def _go_on(self) -> None:
        self._paused = False

    def _announce_old(self) -> None:
        """Report the starts of what has run for ANNOUNCE_S and still runs."""
        now = clock.now()
        while self._fresh and self._fresh[0].started_s <= now - ANNOUNCE_S:
            task = self._fresh.popleft()
            if self.running.get(task.pid) is task:
                self._calls.turned_out_long(task)
            if self.running.get(task.pid) is task:  # a call may have turned out not to have begun
                self._report_buffer.started(task.as_started())
                if task.lane is not None:
                    self._kept.begun(task.lane, task_name(task.job, task.start), task.start)
        if self._fresh:
            self._loop.call_after(max(0.0, self._fresh[0].started_s + ANNOUNCE_S - now), self._announce_old)

    # --- the end of a task ----------------------------------------------------------------------------------------------

    def _stop(self, task: Task, cause: Cause, message: str) -> None:
        """SIGTERM to the task's process group, SIGKILL after the grace time."""
        if self.running.get(task.pid) is not task or task.kill_timer is not None:
            return
        if has_ended(task.pid):  # and its end is its own: when we were stopped, its limit may have passed since
            return
        task.cause, task.message = cause, message
        task.below |= self._descendants(task)  # while their parents live, it can be seen whose they are
        _signal_group(task.pid, signal.SIGTERM)
        task.kill_timer = self._limits.uptime.call_after(self._kill_grace_s, lambda: self._kill(task))

    def _kill(self, task: Task) -> None:
        task.below |= self._descendants(task)
        _signal_group(task.pid, signal.SIGKILL)

    def _descendants(self, task: Task) -> set[Process]:
        """What was started by this task, as far as that can be known: orphans may be of any task that ran at their time."""
        is_alone = len(self.running) == 1 and self._ended_s < task.started_s
        ago_s = clock.now() - task.started_s
        since_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ago_s if is_alone else None
        return leftover_processes.below(task.pid) | leftover_processes.orphans_of(task.pid, since_s)

    def reap(self) -> None:
        """Take in children that have ended, at most MOST_REAPED of them; the rest in the next turn.

        The next task starts before the books of the ended one are written: its core is idle, and nothing else here is urgent.
        """
        stopped: list[bytes] = []
        below: set[Process] = set()
        with suppress(ChildProcessError):
            for _ in range(MOST_REAPED):
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    break
                self._calls.lost(ended.si_pid)
                task = self.running.pop(ended.si_pid, None)
                if task is None:  # an orphan that came to us, or an idle function worker
                    os.waitpid(ended.si_pid, 0)
                    if ended.si_pid in self.groups:
                        self.groups.ended(ended.si_pid)
                    continue
                self._reap_task(task)
                if task.kill_timer is not None:
                    task.kill_timer.cancel()
                    stopped.append(b"QCG_PM_STEP_ID=" + task.step_id)
                    below |= task.below
            else:
                self._loop.call_after(0, self.reap)  # their signals have been read already
        if stopped:
            leftover_processes.kill_trees(below)
            leftover_processes.kill_marked(stopped)

    def _reap_task(self, task: Task) -> None:
        """What the task has left in its process group is killed before its leader is reaped: until then nobody else can get
        the number of the group. What a stopped task has started in other groups is found by its step id.
        """
        _signal_group(task.pid, signal.SIGKILL)
        _, status, usage = os.wait4(task.pid, 0)
        ended_s = self._ended_s = clock.now()
        exit_code = os.waitstatus_to_exitcode(status)
        if task.lane is not None:  # the next task may have it
            failed = exit_code != 0 or task.cause is not Cause.EXITED
            self._kept.ended(task.lane, task_name(task.job, task.start), task.start, exit_code, failed)
        if exit_code >= 0 and task.job.execution.calls is not None and not task.message:  # it never ends for itself
            task.message = f"its process ended with exit code {exit_code} during the call"
            exit_code = exit_code or 1
        self._report(task, ended_s, exit_code, usage, self._is_free(task.held, task.pool))
        if task.files:
            places.remove_files(task.files)

    def _is_free(self, held: HeldGrant, pool: Pool) -> bool:
        """What ran on this grant has ended: start the next there. True if there is none, and it goes back."""
        self._paused = False
        if len(pool.waiting) <= len(pool.idle):
            del self.grants[held.grant.grant_id]
            return True
        pool.idle.append(held)
        self._touched.add(pool)
        if not self._is_held_up:
            self._start_next(pool)
        return False

    def _over(self, task: Task) -> bool:
        """A call is over, and its function worker has no other; whether its grant goes back with it."""
        del self.running[task.pid]
        if task.kill_timer is not None:
            task.kill_timer.cancel()
        return self._is_free(task.held, task.pool)

    def _report(self, task: Task, ended_s: float, exit_code: int, usage: resource.struct_rusage, returns: bool) -> None:
        if self._run_times is not None:
            node = task.held.grant.nodes[0].name
            self._run_times.add(node, task_name(task.job, task.start), task.started_s, ended_s)
        of_group_kib = settle_memory(task, self.groups.ended(task.pid), exit_code) if task.confined else 0
        self._report_buffer.finished(
            Finished(
                *task.start[:3],
                task.held.grant.grant_id,
                task.pid,
                task.started_s,
                ended_s,
                exit_code,
                task.cause,
                usage.ru_utime + usage.ru_stime,
                of_group_kib or usage.ru_maxrss,
                task.message or (f"killed by {_signal_name(-exit_code)}" if exit_code < 0 else ""),
                returns,
            )
        )


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
