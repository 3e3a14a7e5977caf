"""The running tasks of one worker: started on grants, watched, stopped, reaped. Notes everything in the report buffer.

No sockets here; the clock for limits is the loop's, times in reports are seconds since the epoch. Orders and endings only
note what has become possible; `start_waiting`, once at the end of a turn, starts it. Starting at once while reaping would
never come to an end with short tasks: by the time one is started another has ended, and nobody reads the socket.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import secrets
import signal
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import count

from .. import clock, leftover_processes, variable_names
from ..execmodels.base import Place
from ..execmodels.default import LongTexts
from ..execmodels.environ import Env, base_environment, gpu_variable, grant_environment
from ..inherited import Inherited
from ..leftover_processes import Process
from ..loop import Loop
from ..model.ids import GrantId, JobNo, PoolId, TaskKey
from ..model.job_spec import Execution
from ..model.resources import host_of
from ..model.variables import substitute_execution
from ..wire.frames import Cause, Finished, JobDef, NewGrant, Settings, TaskStart
from . import bind, earlier_output, launch, places, submit_commands
from .launch import Launch, LaunchError
from .launcher_hints import NO_HINTS, LauncherHints
from .limits import Limits, settle_memory
from .memory_groups import MemoryGroups
from .report_buffer import ReportBuffer, unstarted
from .tasks import HeldGrant, KnownJob, Pool, Task, key_of, task_name

_TASK, _RUN = os.fsencode(variable_names.TASK), os.fsencode(variable_names.RUN)
log = logging.getLogger(__name__)

ANNOUNCE_S = 0.05
"""A task that ends within this time is reported once, by its end."""
_TRY_AGAIN_S = 0.1
_MOST_TRIES = 100
_EXHAUSTED = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
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
        self._agent_id = agent_id
        self._loop = loop
        self._report_buffer = report_buffer
        self._name = f"{agent_id}-{number}".replace("/", "_")
        self.groups = MemoryGroups(f"{agent_id}-{number}")
        self._limits = Limits(loop, self.running, self._stop)
        inherited = inherited or Inherited.note()
        for ignored in inherited.ignored:  # a signal that we handle would not be ignored in a child
            signal.signal(ignored, signal.SIG_IGN)
        self.ignored = inherited.ignored
        self._open_files = launch.task_open_files(inherited.open_files)
        self._signals = launch.task_signals(inherited)
        self._settings: Settings | None = None
        self._base: Env = {}
        self._cpus = bind.cpus_here()
        self._hints = LauncherHints(os.environb, self._cpus, os.cpu_count() or 1)
        self._gpus = b""
        self._jobs: dict[JobNo, KnownJob] = {}
        self._fresh: deque[Task] = deque()
        """Started and not announced, oldest first; those that have ended meanwhile are dropped when their turn comes."""
        self._step_prefix = secrets.token_hex(8).encode()
        self._steps = count(1)
        self._tries = 0
        self._ended_s = 0.0
        """When the last task ended."""
        self._kept_for: TaskStart | None = None
        """The last attempt for which earlier output was put aside."""
        self._paused = False
        self._until_s = math.inf
        """Nothing is started after that, by the loop's clock: the agent is silent, and its tasks may have been given away."""

    def configure(self, settings: Settings) -> None:
        """What the manager said in Welcome."""
        self._settings = settings
        self._base = base_environment(os.environb, self._agent_id, settings.env, settings.env_schemas)
        path = self._base.get(b"PATH")
        if path is not None:
            told = self._hints.variables
            self._base[b"PATH"] = os.fsencode(submit_commands.lay_ready(settings.aux_dir, os.fsdecode(path), told))
        self._gpus = gpu_variable(os.environb)

    # --- orders ---------------------------------------------------------------------------------------------------------

    def take_work(
        self, jobs: Iterable[JobDef], grants: Iterable[NewGrant], tasks: dict[PoolId, list[TaskStart]]
    ) -> None:
        assert self._settings is not None
        for job in jobs:
            self._jobs[job.job_no] = KnownJob(job)
        for grant in grants:
            env = grant_environment(grant, self._settings.env_schemas, self._gpus)
            cpus = bind.cpus_of(grant, self._cpus)
            held = HeldGrant(grant, env, cpus, self._hints.of(grant, cpus))
            self.grants[grant.grant_id] = held
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
        self.revoke([key_of(start) for pool in self._pools.values() for start in pool.waiting])
        for task in list(self.running.values()):
            self._stop(task, Cause.CANCELED, "the pilot was stopped")
            if at_once:
                _signal_group(task.pid, signal.SIGKILL)

    def _take_waiting(self, keys: Iterable[TaskKey]) -> list[TaskKey]:
        wanted = set(keys)
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
        leftover_processes.kill_all_below()
        self.groups.close()
        self._hints.close()
        for known in self._jobs.values():
            places.remove_files(known.files)

    def forget(self, numbers: Iterable[JobNo]) -> None:
        for number in numbers:
            known = self._jobs.pop(number, None)
            if known is not None and known.files:
                places.remove_files(known.files)
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
        return self._paused or self._loop.clock() > self._until_s

    def _start_next(self, pool: Pool) -> None:
        """Start the first waiting task on an idle grant. A task that cannot be started leaves the grant idle."""
        start, held = pool.waiting.popleft(), pool.idle.pop()
        try:
            task = self._start(start, held, pool)
        except (LaunchError, ValueError) as error:  # ValueError: what no system call takes, e.g. a NUL in an argument
            pool.idle.append(held)
            self._report_buffer.finished(unstarted(key_of(start), held.grant.grant_id, Cause.NOT_STARTED, str(error)))
        except _NoRoomError:
            pool.waiting.appendleft(start)
            pool.idle.append(held)
            self._pause()
        else:
            self._tries = 0
            self.running[task.pid] = task
            if not self._fresh:
                self._loop.call_after(ANNOUNCE_S, self._announce_old)
            self._fresh.append(task)
            self._limits.watch(task)

    def _start(self, start: TaskStart, held: HeldGrant, pool: Pool) -> Task:
        known = self._jobs[start.job_no]
        job = known.definition
        prepared = held.launches.get(start.job_no) or self._prepare(start, known, held)
        step_id = b"%s%016x" % (self._step_prefix, next(self._steps))
        env = prepared.env
        env[b"QCG_PM_STEP_ID"] = step_id
        env[_TASK] = os.fsencode(task_name(job, start))
        env[_RUN] = b"%d" % start.run
        launch.enter_folder(prepared.wd)
        if start.attempt > 1 and start is not self._kept_for:  # it may be tried again, for want of room
            earlier_output.keep(prepared.execution, start.attempt - 1)
            self._kept_for = start
        if held.cpus:
            bind.bind_self(held.cpus)
            try:
                pid = self._spawn(prepared, held.grant.mem_bytes)
            finally:
                bind.bind_self(self._cpus)
        else:
            pid = self._spawn(prepared, held.grant.mem_bytes)
        task = Task(start, job, held, pool, pid, clock.now(), step_id)
        task.confined = bool(held.grant.mem_bytes) and pid in self.groups
        task.files = prepared.files
        return task

    def _prepare(self, start: TaskStart, known: KnownJob, held: HeldGrant) -> Launch:
        assert self._settings is not None
        job, nodes = known.definition, held.grant.nodes
        execution, root_wd = job.execution, self._settings.root_wd
        if known.varies:
            execution = substitute_execution(execution, _start_values(start, held, root_wd))
        env = held.envs.get(job.job_no)
        if env is None:
            hints = held.hints if places.is_alone(execution, held, self._settings) else NO_HINTS
            env = launch.environment(execution, self._base, held.env, len(nodes[0].core_ids), hints)
            if job.is_iteration and not known.env_varies:
                held.envs[job.job_no] = env
        place = None if held.is_one_core else self._place(execution, start, job, held)
        stays = job.is_iteration and not known.varies and place is None
        texts = self._texts_of_job(start, known) if stays else LongTexts(lambda: self._stem(start, job))
        prepared = launch.prepare(execution, env, root_wd, place, texts)
        prepared.open_files, prepared.signals = self._open_files, self._signals
        if texts.files and not stays:
            prepared.files = {**prepared.files, **texts.files}
        elif texts.files and not known.files:
            places.write_files(texts.files)
            known.files = texts.files
        if job.is_iteration and not known.varies and not prepared.files:
            held.launches[job.job_no] = prepared
        return prepared

    def _place(self, execution: Execution, start: TaskStart, job: JobDef, held: HeldGrant) -> Place | None:
        assert self._settings is not None
        return places.place_of(execution, held, self._settings, self._gpus, self._stem(start, job), key_of(start))

    def _stem(self, start: TaskStart, job: JobDef) -> str:
        assert self._settings is not None
        return places.stem(self._settings, self._agent_id, task_name(job, start), start)

    def _texts_of_job(self, start: TaskStart, known: KnownJob) -> LongTexts:
        """Once for all its tasks here. Other worker processes have files of their own, and remove them in their own time."""
        if known.long_texts is None:
            known.long_texts = LongTexts(lambda: f"{self._stem(start, known.definition)}.{self._name}")
        return known.long_texts

    def _spawn(self, prepared: Launch, mem_bytes: int) -> int:
        if not prepared.files:
            return self._spawn_now(prepared, mem_bytes)
        places.write_files(prepared.files)
        try:
            return self._spawn_now(prepared, mem_bytes)
        except BaseException:
            places.remove_files(prepared.files)
            raise

    def _spawn_now(self, prepared: Launch, mem_bytes: int) -> int:
        try:
            return self.groups.spawn(prepared, mem_bytes) if mem_bytes else prepared.spawn()
        except OSError as error:
            if error.errno in _EXHAUSTED and self._tries < _MOST_TRIES:
                raise _NoRoomError from error
            self._tries = 0  # this one is given up; the next may try as often
            if not launch.mend(prepared):
                raise LaunchError(launch.why_not(prepared, error)) from error
        try:
            return self.groups.spawn(prepared, mem_bytes) if mem_bytes else prepared.spawn()
        except OSError as error:
            raise LaunchError(launch.why_not(prepared, error)) from error

    def _pause(self) -> None:
        """Out of processes, memory or descriptors: start nothing until a task has ended or a moment has passed."""
        if self._tries == 0:
            log.warning("start.no_room running=%d", len(self.running))
        self._tries += 1
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
                self._report_buffer.started(task.as_started())
        if self._fresh:
            self._loop.call_after(max(0.0, self._fresh[0].started_s + ANNOUNCE_S - now), self._announce_old)

    # --- the end of a task ----------------------------------------------------------------------------------------------

    def _stop(self, task: Task, cause: Cause, message: str) -> None:
        """SIGTERM to the task's process group, SIGKILL after the grace time."""
        if self.running.get(task.pid) is not task or task.kill_timer is not None or _has_ended(task.pid):
            return
        assert self._settings is not None
        task.cause, task.message = cause, message
        task.below |= self._descendants(task)  # while their parents live, it can be seen whose they are
        _signal_group(task.pid, signal.SIGTERM)
        task.kill_timer = self._limits.uptime.call_after(self._settings.kill_grace_s, lambda: self._kill(task))

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
                task = self.running.pop(ended.si_pid, None)
                if task is None:  # an orphan that came to us
                    os.waitpid(ended.si_pid, 0)
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
        pool, held = task.pool, task.held
        self._paused = False
        returns = len(pool.waiting) <= len(pool.idle)
        if returns:
            del self.grants[held.grant.grant_id]
        else:
            pool.idle.append(held)
            self._touched.add(pool)
            if not self._is_held_up:
                self._start_next(pool)
        self._report(task, ended_s, status, usage, returns)
        if task.files:
            places.remove_files(task.files)

    def _report(self, task: Task, ended_s: float, status: int, usage: resource.struct_rusage, returns: bool) -> None:
        exit_code = os.waitstatus_to_exitcode(status)
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


class _NoRoomError(Exception):
    """The machine cannot take another process just now."""


def _start_values(start: TaskStart, held: HeldGrant, root_wd: str) -> dict[str, str]:
    """Values of the variables of the start phase."""
    nodes = held.grant.nodes
    values = {
        "root_wd": root_wd,
        "ncores": str(sum(len(node.core_ids) for node in nodes)),
        "nnodes": str(len(nodes)),
        "nlist": ",".join(host_of(node.name) for node in nodes),
    }
    if start.it is not None:
        values["it"], values["itval"] = str(start.it), str(start.itval)
    return values


def _has_ended(pid: int) -> bool:
    """This child only waits to be reaped, and its end is its own: when we were stopped, its limit may have passed since."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


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
