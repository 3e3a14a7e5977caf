"""The running tasks of one agent: started on grants, watched, stopped, reaped. Notes everything in the outbox.

No sockets here; the clock for limits is the loop's, times in reports are seconds since the epoch.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count

import psutil

from ..execmodels.environ import Env, base_environment, grant_environment
from ..loop import Loop
from ..model.ids import GrantId, JobNo, PoolId, TaskKey
from ..model.variables import has_variables, substitute_execution
from ..wire.frames import Cause, Finished, JobDef, NewGrant, Settings, Started, TaskStart
from . import bind, launch, strays
from .launch import Launch, LaunchError
from .outbox import Outbox
from .tasks import HeldGrant, Pool, Task, task_name

log = logging.getLogger(__name__)

ANNOUNCE_S = 0.05
"""A task that ends within this time is reported once, by its end."""
MEMORY_WATCH_S = 0.5
_TRY_AGAIN_S = 0.1
_MOST_TRIES = 100
_EXHAUSTED = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_NO_GRANT = GrantId(0)


class Crew:
    """All tasks of this agent."""

    def __init__(self, agent_id: str, loop: Loop, outbox: Outbox) -> None:
        self.running: dict[int, Task] = {}
        """By process id."""
        self.grants: dict[GrantId, HeldGrant] = {}
        self.pools: dict[PoolId, Pool] = {}
        self._agent_id = agent_id
        self._loop = loop
        self._outbox = outbox
        self._settings: Settings | None = None
        self._base: Env = {}
        self._jobs: dict[JobNo, JobDef] = {}
        self._varies: dict[JobNo, bool] = {}
        self._fresh: list[Task] = []
        self._step_prefix = secrets.token_hex(8)
        self._steps = count(1)
        self._tries = 0
        self._paused = False
        self._cwd = ""
        self._watching = False

    def configure(self, settings: Settings) -> None:
        """What the manager said in Welcome."""
        self._settings = settings
        self._base = base_environment(os.environb, self._agent_id, settings.env)

    # --- orders ---------------------------------------------------------------------------------------------------------

    def take_work(self, jobs: Iterable[JobDef], grants: Iterable[NewGrant], tasks: dict[PoolId, list[TaskStart]]) -> None:
        assert self._settings is not None
        for job in jobs:
            self._jobs[job.job_no] = job
            self._varies[job.job_no] = has_variables(job.execution)
        for grant in grants:
            env = grant_environment(grant, self._settings.env_schemas)
            held = HeldGrant(grant, env, bind.cpus_of(grant))
            self.grants[grant.grant_id] = held
            self._pool(grant.pool).idle.append(held)
        for pool_id, starts in tasks.items():
            self._pool(pool_id).waiting.extend(starts)
        for pool in self.pools.values():
            self._start_waiting(pool)
        self._return_idle()

    def _pool(self, pool_id: PoolId) -> Pool:
        pool = self.pools.get(pool_id)
        if pool is None:
            pool = self.pools[pool_id] = Pool(pool_id)
        return pool

    def _return_idle(self) -> None:
        for pool in self.pools.values():
            while pool.idle and not pool.waiting:
                held = pool.idle.pop()
                del self.grants[held.grant.grant_id]
                self._outbox.returned(held.grant.grant_id)

    def revoke(self, keys: Iterable[TaskKey]) -> None:
        """Give back those that have not started."""
        for key in self._take_waiting(keys):
            self._outbox.revoked(key)

    def kill(self, keys: Iterable[TaskKey]) -> None:
        """Stop those that run, drop those that wait; each is reported as CANCELED."""
        wanted = {TaskKey(*key) for key in keys}
        now = time.time()
        for key in self._take_waiting(wanted):
            self._outbox.finished(_unstarted(key, _NO_GRANT, now, Cause.CANCELED, "", returns_grant=False))
        for task in list(self.running.values()):
            if task.key in wanted:
                self._stop(task, Cause.CANCELED, "")

    def _take_waiting(self, keys: Iterable[TaskKey]) -> list[TaskKey]:
        wanted = {TaskKey(*key) for key in keys}
        taken = []
        for pool in self.pools.values():
            found = [start for start in pool.waiting if start[:3] in wanted]
            for start in found:
                pool.waiting.remove(start)
                taken.append(TaskKey(*start[:3]))
        self._return_idle()
        return taken

    def forget(self, numbers: Iterable[JobNo]) -> None:
        for number in numbers:
            self._jobs.pop(number, None)
            self._varies.pop(number, None)
            for held in self.grants.values():
                held.launches.pop(number, None)
        for pool_id, pool in list(self.pools.items()):
            if not pool.waiting and not any(held.grant.pool == pool_id for held in self.grants.values()):
                del self.pools[pool_id]

    def waiting(self) -> dict[PoolId, list[TaskKey]]:
        return {
            pool.pool_id: [TaskKey(*start[:3]) for start in pool.waiting] for pool in self.pools.values() if pool.waiting
        }

    # --- starting -------------------------------------------------------------------------------------------------------

    def _start_waiting(self, pool: Pool) -> None:
        while pool.waiting and pool.idle and not self._paused:
            held = pool.idle.pop()
            if not self._start_next(pool, held):
                pool.idle.append(held)

    def _start_next(self, pool: Pool, held: HeldGrant) -> bool:
        """Start the first waiting task on `held`; False when the machine has no room for a process just now."""
        start = pool.waiting.popleft()
        job = self._jobs[start.job_no]
        try:
            prepared = self._prepare(start, job, held)
            step_id = b"%s%016x" % (self._step_prefix.encode(), next(self._steps))
            env = prepared.env
            env[b"QCG_PM_STEP_ID"] = step_id
            env[b"PILOTFISH_TASK"] = os.fsencode(task_name(job, start))
            env[b"PILOTFISH_RUN"] = b"%d" % start.run
            exact = bool(held.cpus) and _exactly(prepared, held, pool)
            pid = self._spawn(prepared, held, exact)
        except LaunchError as error:
            now = time.time()
            returns = not pool.waiting
            key = TaskKey(*start[:3])
            finished = _unstarted(key, held.grant.grant_id, now, Cause.NOT_STARTED, str(error), returns_grant=returns)
            self._outbox.finished(finished)
            if returns:
                del self.grants[held.grant.grant_id]
                return True
            return self._start_next(pool, held)
        except _NoRoomError:
            pool.waiting.appendleft(start)
            self._pause()
            return False
        self._tries = 0
        task = Task(start, job, held, pool, pid, time.time())
        task.step_id, task.exact = step_id, exact
        self.running[pid] = task
        self._watch(task)
        return True

    def _prepare(self, start: TaskStart, job: JobDef, held: HeldGrant) -> Launch:
        assert self._settings is not None
        prepared = held.launches.get(job.job_no)
        if prepared is not None:
            return prepared
        execution, cores = job.execution, len(held.grant.nodes[0].core_ids)
        varies = self._varies[job.job_no]
        if varies:
            values = {
                "root_wd": self._settings.root_wd,
                "ncores": str(sum(len(node.core_ids) for node in held.grant.nodes)),
                "nnodes": str(len(held.grant.nodes)),
                "nlist": ",".join(node.name for node in held.grant.nodes),
            }
            if start.it is not None:
                values["it"], values["itval"] = str(start.it), str(start.itval)
            execution = substitute_execution(execution, values)
        prepared = launch.prepare(execution, self._base, held.env, cores, self._settings.root_wd)
        if not varies and job.is_iteration:
            held.launches[job.job_no] = prepared
        return prepared

    def _spawn(self, prepared: Launch, held: HeldGrant, exact: bool) -> int:
        if prepared.wd != self._cwd:
            launch.enter_folder(prepared.wd)
            self._cwd = prepared.wd
        if exact:
            bind.bind_self(held.cpus)
        try:
            pid = self._spawn_mended(prepared)
        finally:
            if exact:
                bind.bind_self(bind.ALL_CPUS)
        return pid

    def _spawn_mended(self, prepared: Launch) -> int:
        try:
            return prepared.spawn()
        except OSError as error:
            if error.errno in _EXHAUSTED and self._tries < _MOST_TRIES:
                raise _NoRoomError from error
            self._cwd = ""  # it may have been removed: look again next time
            launch.enter_folder(prepared.wd)
            if not launch.mend(prepared):
                raise LaunchError(launch.why_not(prepared, error)) from error
        try:
            return prepared.spawn()
        except OSError as error:
            raise LaunchError(launch.why_not(prepared, error)) from error

    def _pause(self) -> None:
        """Out of processes, memory or descriptors: start nothing until a task has ended or a moment has passed."""
        if self._tries == 0:
            log.warning("start.no_room", extra={"running": len(self.running)})
        self._tries += 1
        self._paused = True
        self._loop.call_after(_TRY_AGAIN_S, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        for pool in self.pools.values():
            self._start_waiting(pool)

    def _watch(self, task: Task) -> None:
        if not self._fresh:
            self._loop.call_after(ANNOUNCE_S, self.announce)
        self._fresh.append(task)
        if task.job.wt_s is not None:
            wt_s = task.job.wt_s
            text = f"wall time limit of {wt_s:g} s reached"
            task.wt_timer = self._loop.call_after(wt_s, lambda: self._stop(task, Cause.WALL_TIME, text))
        if task.held.grant.mem_bytes and not self._watching:
            self._watching = True
            self._loop.call_after(MEMORY_WATCH_S, self._check_memory)

    def announce(self) -> None:
        """Report the starts of those that still run."""
        for task in self._fresh:
            if self.running.get(task.pid) is task:
                self._outbox.started(started_of(task))
                if task.held.cpus and not task.exact:
                    bind.bind_running(task.pid, task.held.cpus)
        self._fresh.clear()

    # --- stopping -------------------------------------------------------------------------------------------------------

    def stop_all(self) -> None:
        """Stop every task and drop what waits; used when the agent ends."""
        self.kill([key for keys in self.waiting().values() for key in keys])
        for task in list(self.running.values()):
            self._stop(task, Cause.CANCELED, "the pilot was stopped")

    def _stop(self, task: Task, cause: Cause, message: str) -> None:
        """SIGTERM to the task's process group, SIGKILL after the grace time."""
        if self.running.get(task.pid) is not task or task.kill_timer is not None:
            return
        assert self._settings is not None
        task.cause, task.message = cause, message
        _signal_group(task.pid, signal.SIGTERM)
        grace_s = self._settings.kill_grace_s
        task.kill_timer = self._loop.call_after(grace_s, lambda: _signal_group(task.pid, signal.SIGKILL))

    def _check_memory(self) -> None:
        limited = [task for task in self.running.values() if task.held.grant.mem_bytes]
        for task in limited:
            used, limit = _memory_of(task.pid), task.held.grant.mem_bytes
            if used > limit:
                text = f"memory limit of {limit / 2**20:.0f} MiB exceeded: {used / 2**20:.0f} MiB in use"
                self._stop(task, Cause.MEMORY, text)
        self._watching = bool(limited)
        if limited:
            self._loop.call_after(MEMORY_WATCH_S, self._check_memory)

    # --- the end of a task ----------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Take in all children that have ended.

        What an ended task has left in its process group is killed before its leader is reaped: until then nobody else
        can get the number of the group.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            task = self.running.pop(ended.si_pid, None)
            if task is not None:
                _signal_group(task.pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            if task is not None:
                cpu_s = usage.ru_utime + usage.ru_stime
                self._ended(task, os.waitstatus_to_exitcode(status), cpu_s, usage.ru_maxrss)

    def _ended(self, task: Task, exit_code: int, cpu_s: float, max_rss_kib: int) -> None:
        now = time.time()
        for timer in (task.wt_timer, task.kill_timer):
            if timer is not None:
                timer.cancel()
        if task.kill_timer is not None:
            strays.kill_marked(b"QCG_PM_STEP_ID=" + task.step_id)
        pool, held, start = task.pool, task.held, task.start
        pool.ran(now - task.started_s)
        returns = not pool.waiting
        self._outbox.finished(
            Finished(
                start.job_no,
                start.pos,
                start.run,
                held.grant.grant_id,
                task.pid,
                task.started_s,
                now,
                exit_code,
                task.cause,
                cpu_s,
                max_rss_kib,
                task.message or (f"killed by {_signal_name(-exit_code)}" if exit_code < 0 else ""),
                returns,
            )
        )
        if returns:
            del self.grants[held.grant.grant_id]
            return
        self._paused = False
        pool.idle.append(held)
        self._start_waiting(pool)


class _NoRoomError(Exception):
    """The machine cannot take another process just now."""


def _exactly(prepared: Launch, held: HeldGrant, pool: Pool) -> bool:
    """Whether the task must be bound before it starts (see bind.py)."""
    return pool.mean_s >= bind.EXACT_FROM_S or len(held.cpus) > 1 or prepared.execution.model is not None


def started_of(task: Task) -> Started:
    start = task.start
    return Started(start.job_no, start.pos, start.run, task.held.grant.grant_id, task.pid, task.started_s)


def _unstarted(
    key: TaskKey, grant_id: GrantId, now: float, cause: Cause, message: str, *, returns_grant: bool
) -> Finished:
    return Finished(*key, grant_id, -1, now, now, -1, cause, 0.0, 0, message, returns_grant)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory_of(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes."""
    total = 0
    with suppress(psutil.Error):
        leader = psutil.Process(pid)
        for process in [leader, *leader.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
