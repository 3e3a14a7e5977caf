"""Pilotfish: very many small tasks inside one large batch allocation.

The public names are loaded when first used: the command must start fast, and an eager root package would be imported twice
by pytest, under two names.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As `typing` has it, which takes longer to import than all the rest of this: meanwhile Ctrl-C would find nobody to answer."""

if TYPE_CHECKING:
    from typing import Any

    from . import dropin, errors
    from .api.aio import AsyncExecutor, AsyncManager
    from .api.executor import Command, Executor, Pool, as_completed, dask_scheduler, register_joblib, task, wait
    from .api.jobinfo import JobInfo
    from .api.jobs import Jobs
    from .api.local import LocalManager
    from .api.manager import Manager
    from .api.runs import Run
    from .api.timestamp import TimeStamp
    from .launcher.compat import fyrd
    from .launcher.compat.clusterjob.async_result import AsyncResult
    from .launcher.compat.clusterjob.jobscript import JobScript
    from .launcher.compat.dpdispatcher import (
        BaseContext,
        BohriumContext,
        DpCloudServerContext,
        HDFSContext,
        JobStatus,
        LazyLocalContext,
        LebesgueContext,
        LocalContext,
        OpenAPIContext,
        SSHContext,
        info,
    )
    from .launcher.description.pilot import Pilot
    from .launcher.description.resources import Resources
    from .launcher.description.task import Task
    from .launcher.submission.job import Job
    from .launcher.submission.machine import Machine
    from .launcher.submission.submission import Submission

__all__ = [
    "AsyncExecutor",
    "AsyncManager",
    "AsyncResult",
    "BaseContext",
    "BohriumContext",
    "Command",
    "DpCloudServerContext",
    "Executor",
    "HDFSContext",
    "Job",
    "JobInfo",
    "JobScript",
    "JobStatus",
    "Jobs",
    "LazyLocalContext",
    "LebesgueContext",
    "LocalContext",
    "LocalManager",
    "Machine",
    "Manager",
    "OpenAPIContext",
    "Pilot",
    "Pool",
    "Resources",
    "Run",
    "SSHContext",
    "Submission",
    "Task",
    "TimeStamp",
    "as_completed",
    "dask_scheduler",
    "dropin",
    "errors",
    "fyrd",
    "info",
    "register_joblib",
    "task",
    "wait",
]

_HOMES = {
    "AsyncExecutor": ".api.aio",
    "AsyncManager": ".api.aio",
    "AsyncResult": ".launcher.compat.clusterjob.async_result",
    "Command": ".api.executor",
    "Executor": ".api.executor",
    "Job": ".launcher.submission.job",
    "JobInfo": ".api.jobinfo",
    "JobScript": ".launcher.compat.clusterjob.jobscript",
    "Jobs": ".api.jobs",
    "LocalManager": ".api.local",
    "Machine": ".launcher.submission.machine",
    "MachinePlace": ".launcher.executor",
    "Manager": ".api.manager",
    "Pilot": ".launcher.description.pilot",
    "Pool": ".api.executor",
    "Resources": ".launcher.description.resources",
    "Run": ".api.runs",
    "Submission": ".launcher.submission.submission",
    "Task": ".launcher.description.task",
    "TimeStamp": ".api.timestamp",
    "as_completed": ".api.executor",
    "dask_scheduler": ".api.executor",
    "dropin": ".dropin",
    "register_joblib": ".api.executor",
    "task": ".api.executor",
    "wait": ".api.executor",
    "errors": ".errors",
    "fyrd": ".launcher.compat.fyrd",
}
_HOMES |= dict.fromkeys(
    (
        "BaseContext",
        "BohriumContext",
        "DpCloudServerContext",
        "HDFSContext",
        "JobStatus",
        "LazyLocalContext",
        "LebesgueContext",
        "LocalContext",
        "OpenAPIContext",
        "SSHContext",
        "info",
    ),
    ".launcher.compat.dpdispatcher",
)


def __getattr__(name: str) -> Any:
    """The names above, and for DPDispatcher's scripts a class for each batch system."""
    from importlib import import_module

    if name in _HOMES:
        home = import_module(_HOMES[name], __name__)
        return home if name in ("dropin", "errors", "fyrd") else getattr(home, name)
    if name[:1].isupper():
        classes = import_module(".launcher.compat.dpdispatcher.machine", __name__).SUBCLASSES
        if name in classes:
            return classes[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
