"""`JobQueue`: jobs that share cores of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ....api.local import LocalManager
from .job import Job
from .local_pilot import LocalPilot, default_pilot


class JobQueue:
    """Cores of this machine, shared by jobs; it starts with its first job and ends, with its jobs, when this process does.

    Args:
        cores: how many; default: all that this process may use.
    """

    def __init__(self, cores: int | None = None, *, pilot: LocalPilot[Job] | None = None) -> None:
        self.pilot: LocalPilot[Job] = LocalPilot(cores) if pilot is None else pilot

    @property
    def cores(self) -> int | None:
        return self.pilot.cores

    @property
    def jobs(self) -> dict[str, Job]:
        return self.pilot.jobs

    @property
    def manager(self) -> LocalManager:
        return self.pilot.manager

    def close(self) -> None:
        """Stop all its jobs, and the queue; in a forked child: let go of it."""
        self.pilot.close()

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

    queued = waiting

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


_queues: list[JobQueue] = []


def default_queue() -> JobQueue:
    """The queue of this process, with all cores."""
    if not _queues:
        _queues.append(JobQueue(pilot=default_pilot()))
    return _queues[0]
