"""What the manager reports about itself: the `status` and `resourcesInfo` requests and `final_status.json`."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import UNSET

from ..console import echo
from ..model.free_cores import free_cores
from ..model.running import running
from ..model.scheduler import Scheduler
from ..model.states import State
from ..wire import codec, replies
from .auxdir import AuxDir
from .config import Settings
from .endpoints import Endpoints
from .publisher import Publisher
from .reporter import write_final_status

log = logging.getLogger(__name__)


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
        self._endpoints = endpoints
        self._scheduler = scheduler
        self._publisher = publisher
        self._now = now
        self.started_s = now()
        self.warnings: list[str] = []
        """What is not as it should be, in the order in which it was noticed."""
        self.metrics_address = ""
        """Where metrics are served, if they are."""
        self.problem = ""
        """Why the pilot had to end, if it had to."""

    def warn(self, text: str) -> None:
        """Say what is not as it should be: in the log, on stderr, and in each `status`, from which `run` learns it."""
        self.warnings.append(text)
        log.warning("service.warning", extra={"reason": text})
        echo(f"Warning: {text}", err=True)

    def resources(self) -> replies.Resources:
        """The cores of lost nodes, and the system core, count as used."""
        nodes = self._scheduler.nodes
        total = nodes.total_cores + nodes.system_cores
        free = free_cores(self._scheduler)
        return replies.Resources(nodes.count, total, total - free, free, self._named() or UNSET)

    def _named(self) -> dict[str, replies.NamedCounts]:
        """Of the nodes that are here and of the pool."""
        named: dict[str, replies.NamedCounts] = {}
        for stock in self._scheduler.nodes.named():
            counts = named.setdefault(stock.resource.name, replies.NamedCounts(0, 0))
            counts.total += stock.resource.total
            counts.free += stock.free
        return named

    def describe(self, ended: bool = False) -> replies.Status:
        """The data of a `status` reply; `ended`: no event address any more."""
        resources = self.resources()
        ready = self._scheduler.nodes.usable_count
        nodes = replies.NodeCounts(
            resources.total_nodes,
            ready,
            resources.total_cores,
            resources.used_cores,
            resources.free_cores,
            resources.named,
        )
        jobs = self._scheduler.jobs
        job_counts, task_counts = _by_group(jobs.jobs_in), _by_group(jobs.tasks_in)
        tasks = replies.TaskCounts(*task_counts, running(self._scheduler))
        return replies.Status(self._system(ended), nodes, replies.JobCounts(*job_counts), tasks)

    def _system(self, ended: bool) -> replies.System:
        now = self._now()
        return replies.System(
            instance_id=self._aux.instance_id,
            started=_moment(self.started_s),
            generated=_moment(now),
            uptime=str(timedelta(seconds=now - self.started_s)),
            zmqaddress=self._endpoints.address,
            ifaces=(["FILE"] if self._settings.file else []) + ["ZMQ"],
            status_publisher=None if ended else self._endpoints.event_address,
            event_seq=self._publisher.last_seq,
            host=socket.gethostname(),
            account=_account(),
            wd=os.getcwd(),
            python_version=sys.version.replace("\n", " "),
            python=sys.executable,
            platform=_platform(),
            metrics_address=self.metrics_address or UNSET,
            aux_dir=codec.to_text(str(self._aux.path)),
            problem=self.problem or UNSET,
            warnings=self.warnings or UNSET,
            interrupted=self._scheduler.interrupted or UNSET,
            stalled=self._scheduler.stalled(now) or UNSET,
        )

    def write_final(self) -> None:
        """Write `final_status.json`. If that fails the service ends all the same."""
        try:
            write_final_status(self._aux.final_status, self.describe(ended=True))
        except OSError as error:
            log.error("final_status.failed", extra={"error": error})


def _by_group(by_state: list[int]) -> tuple[int, int, int, int, int]:
    """Total, in schedule, failed, finished, executing."""
    return (
        sum(by_state),
        by_state[State.QUEUED] + by_state[State.SCHEDULED],
        by_state[State.FAILED] + by_state[State.OMITTED],
        by_state[State.SUCCEED] + by_state[State.CANCELED],
        by_state[State.EXECUTING],
    )


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S.%f")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())


def _platform() -> str:
    """As platform.platform() has it, which runs `uname -p` for what it does not say then."""
    parts = platform.system(), platform.release(), platform.machine(), "with", "".join(platform.libc_ver())
    return "-".join(parts)
