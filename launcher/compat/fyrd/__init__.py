"""fyrd's names in one place: `from pilotfish import fyrd`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from ...submission.job_options import (
    ClusterError,
    OptionsError,
    check_arguments,
    option_help,
    option_to_string,
    options_to_string,
    split_keywords,
)
from ...submission.profiles import Profile, del_profile, get_profile, get_profiles, set_profile
from ...submission.queue_view import QueueError
from ...submission.queues import get_cluster_environment
from .job import Job, wait_for
from .local import JobQueue, default_queue
from .queue import Queue, QueueJob

__all__ = [
    "ClusterError",
    "Job",
    "JobQueue",
    "OptionsError",
    "Profile",
    "Queue",
    "QueueError",
    "QueueJob",
    "check_arguments",
    "clean",
    "default_queue",
    "del_profile",
    "get",
    "get_cluster_environment",
    "get_profile",
    "get_profiles",
    "jobify",
    "make_job",
    "make_job_file",
    "option_help",
    "option_to_string",
    "options_to_string",
    "sanitize_arguments",
    "set_profile",
    "split_keywords",
    "submit",
    "wait",
]


def make_job(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job; arguments as Job. Nothing is written."""
    return Job(command, *args, **options)


def make_job_file(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job whose scripts are written."""
    return Job(command, *args, **options).write()


def submit(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job that is submitted."""
    return Job(command, *args, **options).submit()


def sanitize_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """These with synonyms replaced; nothing is checked."""
    known, others = split_keywords(given)
    return {**known, **others}


def wait(jobs: Job | QueueJob | str | int | Iterable[Job | QueueJob | str | int]) -> bool:
    """Until these, or those with these ids, are over; whether all ended well."""
    wanted = [jobs] if isinstance(jobs, Job | QueueJob | str | int) else list(jobs)
    local = default_queue().jobs
    own = [found for each in wanted if isinstance(found := local.get(str(each), each), Job)]
    others = [each for each in wanted if not isinstance(each, Job) and str(each) not in local]
    good = wait_for(own)
    return (Queue().wait(others) if others else True) and good


def get(jobs: Job | Iterable[Job]) -> Any:
    """What these return: of one job itself, of several a list in their order. Raises ClusterError for what is no Job."""
    if isinstance(jobs, Job):
        return jobs.get()
    listed = [jobs] if isinstance(jobs, str) else list(jobs)
    for each in listed:
        if not isinstance(each, Job):
            remedy = "keep the Job; `wait` takes ids"
            raise ClusterError(f"{each!r} is no Job, and only a Job has a result", where="get", remedy=remedy)
    wait_for(listed)
    return [job.get() for job in listed]


def clean(jobs: Job | Iterable[Job], clean_outputs: bool = False) -> None:
    """Remove the scripts of these jobs, and with `clean_outputs` what they have printed."""
    for job in _listed(jobs):
        job.clean(delete_outputs=clean_outputs)


def _listed(jobs: Job | Iterable[Job]) -> list[Job]:
    return [jobs] if isinstance(jobs, Job) else list(jobs)


def jobify(submit: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Job]]:
    """A decorator: calling the function makes a Job of it, which is submitted. The function itself is its `__wrapped__`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Job]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Job:
            job = Job(function, args, kwargs, **options)
            return job.submit() if submit else job

        return call

    return decorate
