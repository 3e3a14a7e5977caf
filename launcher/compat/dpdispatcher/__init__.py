"""What only DPDispatcher's scripts ask for: a class for each batch system and context, older names of things, `info`.

`Machine`, `Resources`, `Task`, `Job` and `Submission` themselves are ours (`pilotfish.Machine` and so on). What is here has no
state and no behaviour of its own. What differs: docs/old-scripts.md.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from ...description.job_state import JobState as JobStatus
from ...submission.bound_context import Stream as SPRetObj
from .context import (
    BaseContext,
    BohriumContext,
    DpCloudServerContext,
    HDFSContext,
    LazyLocalContext,
    LebesgueContext,
    LocalContext,
    OpenAPIContext,
    SSHContext,
)
from .dlog import dlog
from .machine import SUBCLASSES
from .session import SSHSession

__all__ = [
    "BaseContext",
    "BohriumContext",
    "DpCloudServerContext",
    "HDFSContext",
    "JobStatus",
    "LazyLocalContext",
    "LebesgueContext",
    "LocalContext",
    "OpenAPIContext",
    "SPRetObj",
    "SSHContext",
    "SSHSession",
    "dlog",
    "info",
]


def __getattr__(name: str) -> Any:
    """The class of a batch system."""
    if name in SUBCLASSES:
        return SUBCLASSES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def info() -> None:
    """Print the versions of Pilotfish, Python and what the launcher needs."""
    print(f"pilotfish {version('pilotfish')}, Python {platform.python_version()}")
    for name in ("paramiko", "psutil", "pyzmq"):
        print(f"  {name} {version(name)}")
