"""Pilotfish: very many small tasks inside one large batch allocation.

The public names are loaded when first used: the command must start fast, and an eager root package would be imported twice
by pytest, under two names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.jobinfo import JobInfo
    from .api.jobs import Jobs
    from .api.local import LocalManager
    from .api.manager import Manager
    from .launcher import fyrd
    from .launcher.async_result import AsyncResult
    from .launcher.compat import Resources, Task
    from .launcher.compat_job import Job
    from .launcher.compat_machine import Machine
    from .launcher.compat_submission import Submission
    from .launcher.jobscript import JobScript

__all__ = [
    "AsyncResult",
    "Job",
    "JobInfo",
    "JobScript",
    "Jobs",
    "LocalManager",
    "Machine",
    "Manager",
    "Resources",
    "Submission",
    "Task",
    "fyrd",
]

_HOMES = {"JobInfo": ".api.jobinfo", "Jobs": ".api.jobs", "LocalManager": ".api.local", "Manager": ".api.manager"}
_HOMES |= dict.fromkeys(("Resources", "Task"), ".launcher.compat") | {"Machine": ".launcher.compat_machine"}
_HOMES |= {"fyrd": ".launcher.fyrd"}
_HOMES |= {"AsyncResult": ".launcher.async_result", "JobScript": ".launcher.jobscript"}
_HOMES |= {"Job": ".launcher.compat_job", "Submission": ".launcher.compat_submission"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name], __name__)
    return home if name == "fyrd" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
