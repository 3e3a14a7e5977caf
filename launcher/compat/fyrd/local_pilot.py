"""Cores of this machine: a pilot of this process, and one job of it, with the face of a batch job."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ....api.jobinfo import JobInfo
from ....api.jobs import Jobs
from ....api.local import LocalManager
from ...contexts.base import Context
from ...contexts.lazy_local import LazyLocalContext
from ...job.states import JobState, Reason, Status
from ...submission.single import Script
from . import conf

_STATES = {
    "QUEUED": (JobState.waiting, ""),
    "SCHEDULED": (JobState.waiting, ""),
    "EXECUTING": (JobState.running, ""),
    "SUCCEED": (JobState.finished, ""),
    "FAILED": (JobState.terminated, Reason.PROGRAM),
    "CANCELED": (JobState.terminated, Reason.CANCELED),
    "OMITTED": (JobState.terminated, Reason.DEPENDENCY),
}
_LIMITS = {"wall time limit": Reason.TIME, "memory limit": Reason.MEMORY}
"""What a pilot says of a task that it has stopped -> why, as batch systems are told."""

_Job = TypeVar("_Job")


class LocalPilot(Generic[_Job]):
    """Cores that jobs share; it starts with its first job and ends, with its jobs, when this process does.

    Attributes:
        cores: how many; None: all that this process may use.
        jobs: those that were submitted to it, by their ids.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores
        self.jobs: dict[str, _Job] = {}
        self._manager: LocalManager | None = None
        self._removal: weakref.finalize[..., LocalPilot[_Job]] | None = None
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
        """Stop all its jobs, and the pilot; in a forked child: let go of it."""
        if self._manager is not None:
            if self._manager.is_ours:
                self._manager.stop()
            else:
                self._manager.close()
            self._manager = None
        if self._removal is not None:
            self._removal()
            self._removal = None


class HasPilot(Protocol):
    """What jobs of this machine are submitted to."""

    @property
    def pilot(self) -> LocalPilot[Any]: ...


_default: list[LocalPilot[Any]] = []


def default_pilot() -> LocalPilot[Any]:
    """The one of this process, with all cores, or as many as the setting `local.max_jobs` says."""
    if not _default:
        most = conf.get_option("local", "max_jobs")
        _default.append(LocalPilot(None if most is None else int(most)))
    return _default[0]


def _remove(folder: str, owner: int) -> None:
    """A forked child that ends comes here too, and must leave its parent's folder alone."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class LocalJob:
    """One job of a LocalPilot. It has no record: pilot and job end with this process."""

    def __init__(self, pilot: LocalPilot[Any], name: str, folder: str) -> None:
        self.pilot, self.name, self.folder, self.id = pilot, name, folder, ""
        self.context: Context = LazyLocalContext(Path.cwd(), None, {})
        self.status = Status(JobState.unsubmitted)
        self.submitted_s: float | None = None

    @property
    def submitted(self) -> bool:
        return bool(self.id)

    def submit(self, given: Script, after: Sequence[str], now_s: float) -> None:
        resources = given.resources
        job: dict[str, Any] = {
            "name": self.name,
            "script": given.command,
            "wd": self.folder,
            "numCores": {"exact": self._cores(resources.cpu_per_node)},
            "modules": list(resources.module_list),
            "after": list(after),
            "stdout": given.out,
            "stderr": given.err,
        }
        if resources.walltime_s:
            job["wt"] = f"{resources.walltime_s:g}s"
        if resources.memory_mib:
            job["mem"] = resources.memory_mib
        self.pilot.manager.submit(Jobs().add({name: value for name, value in job.items() if value}))
        self.id, self.submitted_s = self.name, now_s

    def _cores(self, wanted: int) -> int:
        """fyrd gives a job that wants more than there are all of them, and says so."""
        if wanted <= 1:
            return wanted
        there_are: int = self.pilot.manager.resources()["total_cores"]
        if wanted > there_are:
            warnings.warn(
                f"{self.name}: {wanted} cores are wanted and there are {there_are}: it gets these", stacklevel=5
            )
        return min(wanted, there_are)

    def look(self) -> Status:
        if not self.status.state.ended:
            info = self.pilot.manager.info_parsed(self.id)[self.id]
            state, reason = _STATES[info.status or "QUEUED"]
            if reason == Reason.PROGRAM and info.messages:
                reason = next((word for words, word in _LIMITS.items() if words in info.messages), info.messages)
            start_s, end_s = _times(info)
            code = info.exit_code
            code = 128 - code if code and code < 0 else code
            self.status = Status(state, info.status or "", reason, code, start_s, end_s)
        return self.status

    def cancel(self) -> Status:
        self.pilot.manager.cancel(self.id)
        self.status = Status(JobState.terminated, reason=Reason.CANCELED)
        return self.status

    def read(self, name: str) -> bytes | None:
        return self.context.read([name]).get(name)


def _times(info: JobInfo) -> tuple[float | None, float | None]:
    start = next((at.timestamp() for at, state in reversed(info.history) if state == "EXECUTING"), None)
    if start is None or info.time is None:
        return start, None
    return start, start + info.time.total_seconds()
