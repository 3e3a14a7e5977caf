"""`Queue`: what is in the queue of a batch system, of me or of all, after fyrd."""

from __future__ import annotations

import getpass
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ...machines import registry
from ...machines.dialect import cluster_of, plain
from ...submission.queue_view import QueueError
from ...submission.queues import ACTIVE, BAD, GOOD, views
from . import batch_systems, conf
from .job import Job, wait_for
from .local import JobQueue, default_queue
from .queue_job import QueueJob

_MISSING = 12
"""So many looks a job may be missing before it counts as vanished."""

Run = Callable[[Sequence[str]], str]


class Queue:
    """The jobs of a batch system.

    Args:
        user: a login name, a number, or `self`; None or `ALL`: everybody.
        partition: only this one.
        qtype: a batch system of `views()`, or local; default: what there is.
        run: runs a command and gives what it prints.
    """

    def __init__(
        self,
        user: str | int | None = None,
        partition: str | None = None,
        qtype: str | None = None,
        *,
        run: Run | None = None,
        queue: JobQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.user, self.partition = _login(user), partition
        self.qtype = qtype or batch_systems.get_cluster_environment()
        if self.qtype != "local" and self.qtype not in views():
            remedy = (
                f"{', '.join([*views(), 'local'])} have one; `pilotfish submissions` shows your jobs on any machine"
            )
            raise QueueError(f"no view of queues of the kind {self.qtype!r}", where="qtype", remedy=remedy)
        self._jobs: dict[str, QueueJob] = {}
        self._clusters: set[str] = set()
        self._run, self._clock, self._sleep = run or _run, clock, sleep
        self._queue = queue
        self._looked_at_s: float | None = None
        settings = conf.get_option("queue")
        self._every_s, self._patience_s = float(settings["queue_update"]), float(settings["res_time"])
        self._max_jobs = int(settings["max_jobs"])

    def update(self) -> Queue:
        """Look, unless that was done a moment ago (the setting `queue_update`)."""
        now_s = self._clock()
        if self._looked_at_s is None or now_s - self._looked_at_s >= self._every_s:
            self._jobs = {job.id: job for job in self._rows() if self._wanted(job)}
            self._looked_at_s = now_s
        return self

    def _wanted(self, job: QueueJob) -> bool:
        return self.user in (None, job.owner) and self.partition in (None, job.queue)

    def _rows(self) -> Iterable[QueueJob]:
        return self.local() if self.qtype == "local" else self._listed()

    def _listed(self) -> Iterable[QueueJob]:
        """Of the cluster that is asked without more, and of each whose job was asked for: numbers are used on all of them."""
        for cluster in ("", *sorted(self._clusters)):
            told = [view.read(self._run(view.command(cluster, self.user is None))) for view in views()[self.qtype]]
            for job in {job.id: job for rows in reversed(told) for job in rows}.values():
                yield QueueJob(**{**vars(job), "id": f"{job.id};{cluster}" if cluster else job.id})

    def local(self) -> Iterable[QueueJob]:
        queue = default_queue() if self._queue is None else self._queue
        queue.update()
        me = getpass.getuser()
        for name, job in queue:
            yield QueueJob(name, job.name, me, "local", job.state, "", job.options.get("cores", 1), job.exitcode)

    # --- views ------------------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> dict[str, QueueJob]:
        """All, by their ids."""
        return self.update()._jobs

    def in_state(self, *states: str) -> dict[str, QueueJob]:
        return {name: job for name, job in self.jobs.items() if job.state in states}

    @property
    def running(self) -> dict[str, QueueJob]:
        return self.in_state("running")

    @property
    def queued(self) -> dict[str, QueueJob]:
        return self.in_state("pending")

    @property
    def completed(self) -> dict[str, QueueJob]:
        """Those that ended well."""
        return self.in_state(*GOOD)

    @property
    def bad(self) -> dict[str, QueueJob]:
        return self.in_state(*BAD)

    @property
    def finished(self) -> dict[str, QueueJob]:
        """Those that are over, well or not."""
        return self.in_state(*GOOD, *BAD)

    def __getattr__(self, state: str) -> dict[str, QueueJob]:
        """`queue.failed`, `queue.suspended` and the like: those in this state."""
        if state not in (*GOOD, *ACTIVE, *BAD):
            raise AttributeError(f"Queue has no {state!r}, and it is no state of a job")
        return self.in_state(state)

    @property
    def active_job_count(self) -> int:
        return len(self.in_state(*ACTIVE))

    @property
    def users(self) -> set[str]:
        return {job.owner for job in self.jobs.values()}

    @property
    def job_states(self) -> set[str]:
        return {job.state for job in self.jobs.values()}

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[QueueJob]:
        return iter(self.jobs.values())

    def __getitem__(self, job: str | int) -> QueueJob:
        name = self._listed_as(job)
        found = self.jobs.get(name)
        if found is None:
            raise QueueError(f"no job {job} in the queue")
        return found

    def _listed_as(self, job: str | int) -> str:
        """An id as the list has it: `7` of Torque's `7.server`, `7;east` as it is, whose cluster is looked at from now on."""
        cluster = cluster_of(str(job))
        if self.qtype == "local":
            return str(job)
        if not cluster:
            return plain(str(job))
        if cluster not in self._clusters:
            self._clusters.add(cluster)
            self._looked_at_s = None
        return f"{plain(str(job))};{cluster}"

    # --- waiting ----------------------------------------------------------------------------------------------------------

    def wait(
        self, jobs: Job | QueueJob | str | int | Iterable[Job | QueueJob | str | int], return_disp: bool = False
    ) -> bool | str:
        """Until these (or those with these ids) are over; whether all ended well.

        Raises QueueError for one that is never listed; with `return_disp` that is the answer `disappeared`.
        """
        wanted = [jobs] if isinstance(jobs, Job | QueueJob | str | int) else list(jobs)
        try:
            ended = [self._wait_for_one(each) for each in wanted]
        except QueueError:
            if return_disp:
                return "disappeared"
            raise
        return all(ended)

    def _wait_for_one(self, job: Job | QueueJob | str | int) -> bool:
        if isinstance(job, Job):
            return job.wait(self._sleep)
        return self._wait_for(job.id if isinstance(job, QueueJob) else self._listed_as(job))

    def _wait_for(self, name: str) -> bool:
        missing, doubtful_since_s = 0, None
        while True:
            found = self.jobs.get(name)
            doubtful = found is not None and found.state in batch_systems.UNCERTAIN_STATES
            if found is not None and found.state in (*GOOD, *BAD) and not doubtful:
                return found.state in GOOD
            now_s = self._clock()
            doubtful_since_s = (doubtful_since_s or now_s) if doubtful else None
            if doubtful_since_s is not None and now_s - doubtful_since_s >= self._patience_s:
                return False
            missing = missing + 1 if found is None else 0
            if missing >= _MISSING:
                raise QueueError(f"no job {name} in the queue, and no word of its end")
            self._sleep(self._every_s)

    def get(self, jobs: Iterable[Job]) -> list[Any]:
        """What each of these returns, in their order. Raises what the first bad one raises."""
        listed = list(jobs)
        wait_for(listed, self._sleep)
        return [job.get() for job in listed]

    @property
    def max_jobs(self) -> int:
        """How many waiting and running jobs are too many, by the settings."""
        return self._max_jobs

    @property
    def can_submit(self) -> CanSubmit:
        """Whether fewer jobs than `max_jobs` are waiting or running; `can_submit(10)`: fewer than 10."""
        return CanSubmit(self)

    def wait_to_submit(self, max_jobs: int | None = None) -> None:
        while not self.can_submit(max_jobs):
            self._sleep(self._every_s)

    # --- questions ----------------------------------------------------------------------------------------------------------

    def get_jobs(self, key: str) -> list[QueueJob]:
        """Those in a state, or in one of the views: `queued`, `completed`, `finished`, `bad`."""
        return list(getattr(self, key).values())

    def get_user_jobs(self, users: str | Iterable[str]) -> dict[str, QueueJob]:
        """Those of these users."""
        names = {users} if isinstance(users, str) else set(users)
        return {name: job for name, job in self.jobs.items() if job.owner in names}

    def check_dependencies(
        self, dependencies: Job | QueueJob | str | int | Iterable[Job | QueueJob | str | int]
    ) -> str:
        """Of jobs that another waits for: absent, bad or active where one is so, good where all have ended well."""
        wanted = [dependencies] if isinstance(dependencies, Job | QueueJob | str | int) else list(dependencies)
        states = [self._state_of(each) for each in wanted]
        for word, known in (("absent", ("",)), ("bad", BAD), ("active", ACTIVE)):
            if any(state in known for state in states):
                return word
        return "good"

    def _state_of(self, job: Job | QueueJob | str | int) -> str:
        name = str(job.id) if isinstance(job, Job | QueueJob) else str(job)
        found = self.jobs.get(self._listed_as(name))
        if found is None and isinstance(job, Job):
            return job.update().state if job.submitted else ""
        return "" if found is None else found.state

    def test_job_in_queue(self, job_id: str | int, array_id: str | int | None = None) -> bool:
        """Whether a job, or an element of an array, is listed."""
        name = self._listed_as(job_id)
        wanted = {name} if array_id is None else {f"{name}_{array_id}", f"{name}[{array_id}]"}
        return not wanted.isdisjoint(self.jobs)

    def __repr__(self) -> str:
        return f"<Queue {self.qtype} of {self.user or 'all'}: {len(self._jobs)} jobs>"

    def __str__(self) -> str:
        rows = [f"{job.id} {job.name} {job.owner} {job.queue} {job.state}" for job in self]
        return "\n".join([repr(self), *rows])


class CanSubmit:
    """An answer that may be asked for with a number, or taken as it is."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def __call__(self, max_jobs: int | None = None) -> bool:
        most = self._queue.max_jobs if max_jobs is None else max_jobs
        return self._queue.update().active_job_count < most

    def __bool__(self) -> bool:
        return self()


def _login(user: str | int | None) -> str | None:
    if user is None or user == "ALL":
        return None
    if user in ("self", "current"):
        return getpass.getuser()
    if not str(user).isdigit():
        return str(user)
    try:
        return pwd.getpwuid(int(user)).pw_name
    except KeyError:
        raise QueueError(f"there is no user with the number {user}", where="user") from None


def _run(command: Sequence[str]) -> str:
    """What it prints. Where there is no accounting its command fails or is not there, and tells nothing."""
    helpful = {name for batch_type in registry.names() for name in registry.system(batch_type).helpful_commands}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if command[0] in helpful:
            return ""
        remedy = "qtype='local' is the queue of this machine"
        raise QueueError(f"cannot be asked: {error}", where=command[0], remedy=remedy) from error
    if done.returncode and command[0] not in helpful:
        raise QueueError(done.stderr.strip() or f"ended with {done.returncode}", where=" ".join(command))
    return done.stdout
