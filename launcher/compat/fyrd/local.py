"""The queue of this machine: a pilot of this process, which gives each job its cores and starts the next when some are free."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ....api.jobinfo import JobInfo
from ....api.jobs import Jobs
from ....api.local import LocalManager
from ...contexts.base import Context
from ...contexts.lazy_local import LazyLocalContext
from ...job.states import JobState, Reason, Status
from ...submission.single import Script

if TYPE_CHECKING:
    from .job import Job

_STATES = {
    "QUEUED": (JobState.waiting, ""),
    "SCHEDULED": (JobState.waiting, ""),
    "EXECUTING": (JobState.running, ""),
    "SUCCEED": (JobState.finished, ""),
    "FAILED": (JobState.terminated, Reason.PROGRAM),
    "CANCELED": (JobState.terminated, Reason.CANCELLED),
    "OMITTED": (JobState.terminated, Reason.DEPENDENCY),
}


_LIMITS = {"wall time limit": Reason.TIME, "memory limit": Reason.MEMORY}
"""What a pilot says of a task that it has stopped -> why, as batch systems are told."""


class JobQueue:
    """Cores of this machine, shared by jobs; it starts with its first job and ends, with its jobs, when this process does.

    Args:
        cores: how many; default: all that this process may use.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores
        self.jobs: dict[str, Job] = {}
        self._manager: LocalManager | None = None
        self._removal: weakref.finalize[..., JobQueue] | None = None
        """Removes its working folder, in the process that made it."""

    @property
    def manager(self) -> LocalManager:
        if self._manager is None:
            folder = tempfile.mkdtemp(prefix="pilotfish-queue-")
            self._removal = weakref.finalize(self, _remove, folder, os.getpid())
            nodes = ["--nodes", self.cores] if self.cores is not None else []
            self._manager = LocalManager(["--wd", folder, *nodes], {"wdir": folder})
        return self._manager

    def close(self) -> None:
        """Stop all its jobs, and the queue; in a forked child: let go of it."""
        if self._manager is not None:
            if self._manager.is_ours:
                self._manager.stop()
            else:
                self._manager.close()
            self._manager = None
        if self._removal is not None:
            self._removal()
            self._removal = None

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def add(
        self,
        function: Callable[..., Any] | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        dependencies: Sequence[Job | str] = (),
        cores: int = 1,
        **options: Any,
    ) -> str:
        """Queue a function, or a command; its id."""
        from .job import Job

        job = Job(function, args, kwargs, queue=self, qtype="local", cores=cores, depends=list(dependencies), **options)
        job.submit()
        assert job.id is not None
        return job.id

    def wait(self, jobs: Iterable[Job | str] | Job | str | None = None) -> bool:
        """Until these jobs (default: all) are over; whether all ended well."""
        ended = [self[each].wait() for each in self._listed(jobs)]
        return all(ended)

    def get(self, job: Job | str) -> Any:
        """What a job returns, or raises."""
        return self[job].get()

    def _listed(self, jobs: Iterable[Job | str] | Job | str | None) -> list[Job | str]:
        if jobs is None:
            return list(self.jobs)
        return list(jobs) if isinstance(jobs, Iterable) and not isinstance(jobs, str) else [jobs]

    def update(self) -> None:
        for job in self.jobs.values():
            job.update()

    def _in_state(self, *states: str) -> dict[str, Job]:
        self.update()
        return {name: job for name, job in self.jobs.items() if job.state in states}

    @property
    def waiting(self) -> dict[str, Job]:
        return self._in_state("pending")

    @property
    def running(self) -> dict[str, Job]:
        return self._in_state("running")

    @property
    def done(self) -> dict[str, Job]:
        """Those that are over, well or not."""
        self.update()
        return {name: job for name, job in self.jobs.items() if job.done}

    def __getitem__(self, job: Job | str) -> Job:
        return self.jobs[job] if isinstance(job, str) else job

    def __iter__(self) -> Iterator[tuple[str, Job]]:
        return iter(self.jobs.items())

    def __len__(self) -> int:
        return len(self.jobs)


def _remove(folder: str, owner: int) -> None:
    """A forked child that ends comes here too, and must leave its parent's folder alone."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class LocalJob:
    """One job of a JobQueue; to be used as `OneJob`."""

    def __init__(self, queue: JobQueue, name: str, folder: str) -> None:
        self.queue, self.name, self.folder, self.id = queue, name, folder, ""
        self.context: Context = LazyLocalContext(Path.cwd(), None, {})

    def submit(self, given: Script, after: Sequence[str] = ()) -> None:
        resources = given.resources
        job: dict[str, Any] = {
            "name": self.name,
            "script": given.command,
            "wd": self.folder,
            "numCores": {"exact": resources.cpu_per_node},
            "modules": list(resources.module_list),
            "after": list(after),
            "stdout": given.out,
            "stderr": given.err,
        }
        if resources.walltime_s:
            job["wt"] = f"{resources.walltime_s:g}s"
        if resources.memory_mib:
            job["mem"] = resources.memory_mib
        self.queue.manager.submit(Jobs().add({name: value for name, value in job.items() if value}))
        self.id = self.name

    def look(self) -> Status:
        info = self.queue.manager.info_parsed(self.id)[self.id]
        state, reason = _STATES[info.status or "QUEUED"]
        if reason == Reason.PROGRAM and info.messages:
            reason = next((word for words, word in _LIMITS.items() if words in info.messages), info.messages)
        start_s, end_s = _times(info)
        code = info.exit_code
        return Status(state, info.status or "", reason, 128 - code if code and code < 0 else code, start_s, end_s)

    def cancel(self) -> Status:
        self.queue.manager.cancel(self.id)
        return Status(JobState.terminated, reason=Reason.CANCELLED)

    def read(self, name: str) -> bytes | None:
        return self.context.read([name]).get(name)

    def close(self) -> None:
        """The queue goes on."""


def _times(info: JobInfo) -> tuple[float | None, float | None]:
    start = next((at.timestamp() for at, state in reversed(info.history) if state == "EXECUTING"), None)
    if start is None or info.time is None:
        return start, None
    return start, start + info.time.total_seconds()


_queues: list[JobQueue] = []


def default_queue() -> JobQueue:
    """The queue of this process, with all cores."""
    if not _queues:
        _queues.append(JobQueue())
    return _queues[0]
