"""Starts a worker's tasks: from an attempt and a grant to a process with its folder, environment and processors.

What is the same for all tasks of a job, or of a job on one grant, is made once and kept; of a task like the last one only the
step id, its name and its run are new.
"""

from __future__ import annotations

import errno
import os
import secrets
from itertools import count

from .. import clock, variable_names
from ..execmodels.base import Place
from ..execmodels.default import LongTexts
from ..execmodels.environ import Env, base_environment, gpu_variable, grant_environment
from ..inherited import Inherited
from ..model.ids import JobNo
from ..model.job_spec import Calls, Execution
from ..model.resources import host_of
from ..model.variables import of_iteration, substitute_execution
from ..wire.frames import JobDef, NewGrant, Settings, TaskStart
from . import bind, earlier_output, forked, launch, places, rank_starts, submit_commands
from .function_workers import FunctionWorker, Wants
from .kept_output import KeptOutput
from .launch import Launch, LaunchError
from .launcher_hints import NO_HINTS, LauncherHints
from .memory_groups import MemoryGroups
from .tasks import HeldGrant, KnownJob, Pool, Task, key_of, task_name

_TASK, _RUN = os.fsencode(variable_names.TASK), os.fsencode(variable_names.RUN)
_MOST_TRIES = 100
_EXHAUSTED = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class NoRoomError(Exception):
    """The machine cannot take another process just now."""


class TaskStarter:
    """For worker `number` of the agent. `inherited`: what tasks are to find."""

    def __init__(
        self, agent_id: str, number: int, inherited: Inherited, groups: MemoryGroups, kept: KeptOutput
    ) -> None:
        self.tries = 0
        """How often in a row there was no room."""
        self._agent_id = agent_id
        self._name = f"{agent_id}-{number}".replace("/", "_")
        self._groups = groups
        self._kept = kept
        self._start = forked.plain_start()
        self._open_files = launch.task_open_files(inherited.open_files)
        self._signals = launch.task_signals(inherited)
        self._settings: Settings | None = None
        self._base: Env = {}
        self._cpus = bind.cpus_here()
        self._hints = LauncherHints(os.environb, self._cpus, os.cpu_count() or 1)
        self._gpus = b""
        self._jobs: dict[JobNo, KnownJob] = {}
        self._step_prefix = secrets.token_hex(8).encode()
        self._steps = count(1)
        self._kept_for: TaskStart | None = None
        """The last attempt for which earlier output was put aside."""

    def configure(self, settings: Settings) -> None:
        """What the manager said in Welcome."""
        self._settings = settings
        self._kept.configure(settings.aux_dir)
        self._base = base_environment(os.environb, self._agent_id, settings.env, settings.env_schemas)
        path = self._base.get(b"PATH")
        if path is not None:
            for_tasks = self._hints.variables
            self._base[b"PATH"] = os.fsencode(submit_commands.lay_ready(settings.aux_dir, os.fsdecode(path), for_tasks))
        self._gpus = gpu_variable(os.environb)

    def learn(self, job: JobDef) -> None:
        self._jobs[job.job_no] = KnownJob(job)

    def forget(self, number: JobNo) -> None:
        job = self._jobs.pop(number, None)
        if job is not None and job.files:
            places.remove_files(job.files)

    def hold(self, grant: NewGrant) -> HeldGrant:
        """The grant with what its tasks have in common."""
        assert self._settings is not None
        env = grant_environment(grant, self._settings.env_schemas, self._gpus)
        cpus = bind.cpus_of(grant, self._cpus)
        return HeldGrant(grant, env, cpus, self._hints.of(grant, cpus))

    def close(self) -> None:
        """Nothing runs any more."""
        self._hints.close()
        for known in self._jobs.values():
            places.remove_files(known.files)

    def start(self, start: TaskStart, held: HeldGrant, pool: Pool) -> Task:
        """Start it as a process on this grant.

        Raises LaunchError or ValueError when it cannot be started (ValueError: what no system call takes, e.g. a NUL in an
        argument), and NoRoomError when it may be tried again later.
        """
        known_job = self._jobs[start.job_no]
        job = known_job.definition
        prepared = held.launches.get(start.job_no) or self._prepare(start, known_job, held)
        step_id = b"%s%016x" % (self._step_prefix, next(self._steps))
        env = prepared.env
        env[b"QCG_PM_STEP_ID"] = step_id
        env[_TASK] = os.fsencode(task_name(job, start))
        env[_RUN] = b"%d" % start.run
        launch.enter_folder(prepared.wd)
        if start.attempt > 1 and start is not self._kept_for:  # it may be tried again, for want of room
            earlier_output.keep(prepared.execution, start.attempt - 1)
            self._kept_for = start
        lane = self._kept.lane(job.execution)
        prepared.kept = [] if lane is None else self._kept.actions(lane, job.execution)
        try:
            pid = self._spawn_bound(prepared, held)
        except BaseException:
            if lane is not None:
                self._kept.unused(lane)
            raise
        task = Task(start, job, held, pool, pid, clock.now(), step_id)
        task.lane = lane
        task.confined = self.is_confined(held, pid)
        task.files = prepared.files
        self.tries = 0
        return task

    def calls_of(self, job_no: JobNo) -> Calls | None:
        """What there is to call, if the tasks of the job are calls."""
        return self._jobs[job_no].calls

    def wants_of(self, job_no: JobNo, held: HeldGrant) -> Wants:
        """Which function workers can serve a job on this grant."""
        known, grant = self._jobs[job_no], held.grant
        assert known.calls is not None
        share = grant.nodes[0]
        return Wants(
            known.execution,
            known.calls.setup,
            known.calls.folder,
            len(share.core_ids),
            tuple(share.gpu_ids),
            tuple(share.named),
            grant.hide_gpus,
            grant.mem_bytes,
            len(grant.nodes),
            self._rank_starts(known.execution, held) if known.calls.ranks else b"",
        )

    def _rank_starts(self, execution: Execution, held: HeldGrant) -> bytes:
        """Raises LaunchError when its execution model cannot be had here."""
        assert self._settings is not None
        place = rank_starts.place_of(execution, held, self._settings, self._gpus)
        return b"" if place is None else rank_starts.encoded(execution, place)

    def spawn_function_worker(
        self, execution: Execution, held: HeldGrant, descriptors: dict[int, int]
    ) -> tuple[int, bytes]:
        """Start the process of one on this grant; returns its id and its step id. Raises as `start`."""
        assert self._settings is not None
        env = launch.environment(execution, self._base, held.env, len(held.grant.nodes[0].core_ids), held.hints)
        step_id = b"%s%016x" % (self._step_prefix, next(self._steps))
        env[b"QCG_PM_STEP_ID"] = step_id
        prepared = launch.prepare(execution, env, self._settings.root_wd)
        prepared.open_files, prepared.signals = self._open_files, self._signals
        prepared.kept = [(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in descriptors.items()]
        launch.enter_folder(prepared.wd)
        if held.cpus:
            bind.bind_self(held.cpus)
        try:
            pid = self._spawn_now(prepared, held.grant.mem_bytes)
        finally:
            if held.cpus:
                bind.bind_self(self._cpus)
        self.tries = 0
        return pid, step_id

    def is_confined(self, held: HeldGrant, pid: int) -> bool:
        """Whether the kernel holds the memory limit of the process on this grant."""
        return bool(held.grant.mem_bytes) and pid in self._groups

    def call(self, start: TaskStart, held: HeldGrant, pool: Pool, worker: FunctionWorker) -> Task:
        """The attempt that this function worker begins with."""
        job = self._jobs[start.job_no].definition
        task = worker.task = Task(start, job, held, pool, worker.pid, clock.now(), worker.step_id)
        task.confined = self.is_confined(held, worker.pid)
        return task

    def _prepare(self, start: TaskStart, known: KnownJob, held: HeldGrant) -> Launch:
        assert self._settings is not None
        job, nodes = known.definition, held.grant.nodes
        execution, root_wd = job.execution, self._settings.root_wd
        if known.varies:
            execution = substitute_execution(execution, _start_values(start, held, root_wd, job.has_params))
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

    def _spawn_bound(self, prepared: Launch, held: HeldGrant) -> int:
        if not held.cpus:
            return self._spawn(prepared, held.grant.mem_bytes)
        bind.bind_self(held.cpus)
        try:
            return self._spawn(prepared, held.grant.mem_bytes)
        finally:
            bind.bind_self(self._cpus)

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
            return self._groups.spawn(prepared, mem_bytes) if mem_bytes else self._start(prepared)
        except OSError as error:
            if self._may_try_again(error):
                raise NoRoomError from error
            if not launch.mend(prepared):
                raise LaunchError(launch.why_not(prepared, error)) from error
        try:
            return self._groups.spawn(prepared, mem_bytes) if mem_bytes else self._start(prepared)
        except OSError as error:
            raise LaunchError(launch.why_not(prepared, error)) from error

    def no_room(self, error: OSError) -> NoRoomError | LaunchError:
        """What to raise when this has come in the way of a start."""
        return NoRoomError() if self._may_try_again(error) else LaunchError(f"cannot start a function worker: {error}")

    def _may_try_again(self, error: OSError) -> bool:
        if error.errno in _EXHAUSTED and self.tries < _MOST_TRIES:
            self.tries += 1
            return True
        self.tries = 0  # this one is given up; the next may try as often
        return False


def _start_values(start: TaskStart, held: HeldGrant, root_wd: str, has_params: bool) -> dict[str, str]:
    """Values of the variables of the start phase."""
    nodes = held.grant.nodes
    values = {
        "root_wd": root_wd,
        "ncores": str(sum(len(node.core_ids) for node in nodes)),
        "nnodes": str(len(nodes)),
        "nlist": ",".join(host_of(node.name) for node in nodes),
    }
    if start.it is not None:
        values |= of_iteration(start.it, str(start.itval), has_params)
    return values
