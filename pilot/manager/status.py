"""What the manager tells of itself: the `status` and `resourcesInfo` requests and `final_status.json` (spec 4.1, 4.2, 16)."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ..model.scheduler import Scheduler
from ..model.states import State
from .auxdir import AuxDir
from .config import Settings
from .endpoints import Endpoints
from .publisher import Publisher
from .reporter import write_final_status

log = logging.getLogger(__name__)

_NAMES = ("Total", "InSchedule", "Failed", "Finished", "Executing")


class Status:
    def __init__(
        self,
        settings: Settings,
        aux: AuxDir,
        endpoints: Endpoints,
        scheduler: Scheduler,
        publisher: Publisher,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._aux = aux
        self._doors = endpoints
        self._scheduler = scheduler
        self._publisher = publisher
        self._now = now
        self._started_s = now()
        self.problem = ""
        """Why the pilot had to end, if it had to."""

    def resources(self) -> tuple[int, int, int, int]:
        """(nodes, cores, used, free): the cores of lost nodes, and the system core, count as used."""
        nodes = self._scheduler.nodes
        total = nodes.total_cores + nodes.system_cores
        free = self._scheduler.free_cores()
        return nodes.count, total, total - free, free

    def describe(self, ended: bool = False) -> dict[str, Any]:
        """The data of a `status` reply; `ended`: no event address any more."""
        nodes, total, used, free = self.resources()
        jobs = self._scheduler.jobs
        return {
            "System": self._system(ended),
            "Resources": {
                "TotalNodes": nodes,
                "ReadyNodes": self._scheduler.nodes.usable.bit_count(),
                "TotalCores": total,
                "UsedCores": used,
                "FreeCores": free,
            },
            "JobStats": _counts(jobs.jobs_in, "Jobs"),
            "IterationStats": _counts(jobs.tasks_in, "Iterations"),
        }

    def _system(self, ended: bool) -> dict[str, Any]:
        now = self._now()
        return {
            "InstanceId": self._aux.instance_id,
            "Started": _moment(self._started_s),
            "Generated": _moment(now),
            "Uptime": str(timedelta(seconds=now - self._started_s)),
            "Zmqaddress": self._doors.address,
            "Ifaces": (["FILE"] if self._settings.file else []) + ["ZMQ"],
            "StatusPublisher": None if ended else self._doors.event_address,
            "EventSeq": self._publisher.last_seq,
            "Host": socket.gethostname(),
            "Account": _account(),
            "Wd": os.getcwd(),
            "PythonVersion": sys.version.replace("\n", " "),
            "Python": sys.executable,
            "Platform": platform.platform(),
        } | self._troubles(now)

    def _troubles(self, now: float) -> dict[str, Any]:
        problem = {"Problem": self.problem} if self.problem else {}
        interrupted = {"Interrupted": self._scheduler.interrupted} if self._scheduler.interrupted else {}
        return problem | interrupted | ({"Stalled": True} if self._scheduler.stalled(now) else {})

    def write_final(self) -> None:
        """`final_status.json`; that it cannot be written must not keep the service from ending."""
        try:
            write_final_status(self._aux.final_status, self.describe(ended=True))
        except OSError as error:
            log.error("final_status.failed: %s", error)


def _counts(by_state: list[int], what: str) -> dict[str, int]:
    values = (
        sum(by_state),
        by_state[State.QUEUED] + by_state[State.SCHEDULED],
        by_state[State.FAILED] + by_state[State.OMITTED],
        by_state[State.SUCCEED] + by_state[State.CANCELED],
        by_state[State.EXECUTING],
    )
    return {f"{name}{what}": value for name, value in zip(_NAMES, values, strict=True)}


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S.%f")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())
