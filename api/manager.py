"""`Manager`: talk to a running pilot. Methods, arguments and return values are those of the old API."""

from __future__ import annotations

import builtins
import contextlib
import os
import socket as network
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from msgspec import UNSET

from ..pilot import variable_names
from ..pilot.wire import connection, replies
from .channel import Channel
from .client import Client
from .clientlog import ClientLog
from .endings import Endings
from .errors import ConnectionError, PilotfishError, ServiceError, TimeoutElapsed, WrongArgumentsError
from .jobinfo import JobInfo
from .jobs import Jobs
from .plain import as_seconds
from .subscription import Subscription
from .timestamp import TimeStamp

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["Manager", "TimeStamp"]

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
DEFAULT_PORT = "5555"
_LOCAL_ANSWER_S = 1.0

_WHERE_TO_LOOK = "there is no pilot in this folder; name the one you mean: --connect FOLDER, or Manager(FOLDER)"
_LATE_S = 0.5
_FIRST_LOOK_S = 0.02
_LOOK_PER_NAME_S = 5e-5
"""A subscription takes a moment to reach the manager. Until then the state is asked for again after growing pauses."""


class Manager:
    """A pilot that runs already.

    May be used by any thread, and in a process that is forked, which gets a connection of its own. Pickled, as for a process
    of multiprocessing's `spawn`, it connects there to the same pilot.

    Args:
        address: a connection file, an auxiliary folder, a folder with some, or a ZeroMQ address (`[proto://]host[:port]`,
            completed with `tcp` and 5555). Without it: $PILOTFISH_CONNECTION, $QCG_PM_ZMQ_ADDRESS, the newest live pilot of
            the current folder, and at last tcp://127.0.0.1:5555.
        cfg: `poll_delay` (2 s): how often to look at the state when no event comes; `request_timeout` (60 s);
            `connect_timeout` (request_timeout): how long the constructor waits; `wdir` (`.`), `log_file`, `log_level`.

    Raises:
        ConnectionError: no pilot answers.
    """

    DEFAULT_ADDRESS_ENV = variable_names.ADDRESS
    DEFAULT_ADDRESS = DEFAULT_ADDRESS
    DEFAULT_PROTO = "tcp"
    DEFAULT_PORT = DEFAULT_PORT
    DEFAULT_POLL_DELAY = 2
    DEFAULT_PUB_TIMEOUT = 300

    def __init__(self, address: str | os.PathLike[str] | None = None, cfg: Mapping[str, Any] | None = None) -> None:
        config = dict(cfg or {})
        address = None if address is None else os.fspath(address)
        self._cfg = config
        request_timeout_s = self._seconds("request_timeout", 60.0)
        connect_timeout_s = self._seconds("connect_timeout", request_timeout_s)
        poll_delay_s = self._seconds("poll_delay", self._seconds("default_poll_delay", self.DEFAULT_POLL_DELAY))
        self._poll_delay_s = max(_FIRST_LOOK_S, poll_delay_s)
        self.default_poll_delay = self._poll_delay_s
        self.default_pub_timeout = self._seconds("pub_timeout", self.DEFAULT_PUB_TIMEOUT)
        self._channel = Channel(_target(address), request_timeout_s)
        self._log = ClientLog(config)
        self.client = Client(self._channel, self._log)
        """Typed requests, for the commands."""
        try:
            system = self.client.status(timeout_s=connect_timeout_s).system
        except PilotfishError as error:
            self.close()
            found_none = address is None and self._channel.address == DEFAULT_ADDRESS
            remedy = _WHERE_TO_LOOK if found_none else error.remedy
            raise ConnectionError(
                f"Failed to connect to {self._channel.address} - {error.what}", remedy=remedy
            ) from error
        self._events = system.status_publisher
        self._endings = None if system.event_seq is UNSET else Endings(system.event_seq)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._channel.address}>"

    @property
    def where(self) -> str:
        """Its connection file, or its address when that is all that is known."""
        return self._channel.where

    def _seconds(self, name: str, default: float) -> float:
        value = self._cfg.get(name)
        if isinstance(value, str):  # of a file of settings
            with contextlib.suppress(ValueError):
                value = float(value)
        return default if value is None else as_seconds(value, name, least=0.0)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes (`spawn`, executors) get a Manager of their own, with a connection of its own."""
        return Manager, (self.where, {**self._cfg, "log_file": os.devnull})

    # --- requests: dictionaries as they were sent, because the old API promises them ------------------------------------

    def send_request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send any request; returns the whole reply object. Raises ConnectionError when it is refused."""
        return self.client.send(request)

    def resources(self) -> dict[str, Any]:
        """`total_nodes`, `total_cores`, `used_cores`, `free_cores`; `named`: `total` and `free` of named resources, if any."""
        return self.client.ask(dict, "resourcesInfo")

    def submit(self, jobs: Jobs) -> list[str]:
        """Submit all jobs of the list, or none; returns their names."""
        if not hasattr(jobs, "ordered_jobs"):
            remedy = "write Jobs().add(exec='PROGRAM', args=[...]); functions run in an Executor"
            raise WrongArgumentsError(f"{repr(jobs)[:60]} is no Jobs", where="submit", remedy=remedy)
        if self._endings is not None:
            self._endings.before_submit(jobs.job_names(), self.client.events)
        return self.client.submit(jobs.ordered_jobs())

    def run(self, jobs: Jobs | None = None, *, timeout: float | None = None, **attributes: Any) -> Run:
        """Submit jobs, wait until all of them have ended, and return what became of their tasks, as an object to look at.

        Args:
            jobs: as `submit`; or `attributes` of one job as `Jobs.add` takes them, `run(exec="./sim", iteration=100)`.
            timeout: seconds after which TimeoutElapsed is raised; the jobs go on.

        Raises as `submit` and `wait4`, and ServiceError when the pilot's folder cannot be seen from here.
        """
        names, run = self.submit_run(jobs, attributes)
        self.wait4(names, timeout)
        return run

    def submit_run(self, jobs: Jobs | None, attributes: Mapping[str, Any]) -> tuple[builtins.list[str], Run]:
        """As `run`, without waiting: the names of the jobs, and their run, which grows."""
        from .runs import Run
        from .task_records import REPORT

        folder = Path(self.where).parent
        if not (folder / connection.FILE_NAME).is_file():
            remedy = "submit() and wait4() do without it; or name the pilot by its folder, Manager(FOLDER)"
            raise ServiceError("what became of tasks is in the pilot's folder, which is not known here", remedy=remedy)
        if not (folder / REPORT).exists():
            remedy = "start it without report_format and report_file, or use submit() and wait4()"
            raise ServiceError("this pilot writes no report from which a run could be read", remedy=remedy)
        if (jobs is None) == (not attributes):
            remedy = "run(Jobs().add(...)) or run(exec='PROGRAM', iteration=10)"
            raise WrongArgumentsError("give either jobs or the attributes of one", where="run", remedy=remedy)
        names = self.submit(Jobs().add(attributes) if jobs is None else jobs)
        return names, Run(folder, jobs=names)

    def list(self) -> dict[str, Any]:
        """Names and states of all jobs: `{name: {status, messages?, inQueue?}}`."""
        jobs: dict[str, Any] = self.client.ask(dict, "listJobs")["jobs"]
        return jobs

    def status(self, names: str | Iterable[str]) -> dict[str, Any]:
        """States of jobs (`JOB`) and iterations (`JOB:ITERATION`), as `{"jobs": {name: {status, data}}}`."""
        return self.client.ask(dict, "jobStatus", {"jobNames": _names(names)})

    def info(self, names: str | Iterable[str], **params: Any) -> dict[str, Any]:
        """Everything known about the named jobs, as `status`; `withChilds=True` adds the iterations."""
        return self.client.ask(dict, "jobInfo", {"jobNames": _names(names), **({"params": params} if params else {})})

    def info_parsed(self, names: str | Iterable[str], **params: Any) -> dict[str, JobInfo]:
        """`info` as JobInfo objects, by name; names without data are left out."""
        infos = self.client.job_infos(_names(names), params)
        return {name: JobInfo.from_reply(info) for name, info in infos.items()}

    def remove(self, names: str | Iterable[str]) -> None:
        """Forget ended jobs, so that their names can be used again. Problems with single jobs are in the log."""
        self._log_errors(self.client.remove(_names(names)).errors)

    def cancel(self, names: str | Iterable[str]) -> None:
        """Cancel jobs or iterations, running ones too. Problems with single jobs are in the log."""
        self._log_errors(self.client.cancel(_names(names)).errors)

    def system_status(self) -> dict[str, Any]:
        return self.client.ask(dict, "status")

    def finish(self) -> None:
        """Ask the manager to end when its work is done, and close the connection."""
        self.client.ask(replies.FinishTime, "finish")
        self.close()

    def cleanup(self) -> None:
        """Close the log file. The connection stays, until `finish` or `close`."""
        self._log.close()

    def close(self) -> None:
        """Close the connection and the log file; the pilot goes on. May be called again."""
        self._channel.close()
        self._log.close()

    # --- waiting --------------------------------------------------------------------------------------------------------

    def wait4(self, names: str | Iterable[str], timeout: float | None = None) -> dict[str, str]:
        """Wait until all named jobs (or iterations) have ended; returns their states.

        Raises:
            TimeoutElapsed: not in `timeout` seconds.
            ConnectionError: a name is unknown, or the pilot is gone.
        """
        wanted = _names(names)
        if not wanted:
            return {}
        states: dict[str, str] = {}
        pending = dict.fromkeys(wanted)
        topics = ("IFI", "JFI") if any(":" in name for name in wanted) else ("JFI",)
        deadline = _deadline(timeout)
        for events in self._looks(topics, timeout, max(_FIRST_LOOK_S, _LOOK_PER_NAME_S * len(wanted))):
            ended = (
                self._ended(pending, deadline)
                if events is None
                else {name: state for name, state in events if name in pending}
            )
            states |= ended
            for name in ended:
                del pending[name]
            if not pending:
                if self._endings is not None:
                    self._endings.returned(wanted)
                return {name: states[name] for name in wanted}
        raise TimeoutElapsed(f"{len(pending)} of {len(states) + len(pending)} jobs have not ended in {timeout:g} s")

    def wait4all(self, timeout_secs: float | None = None) -> None:
        """Wait until nothing is queued or running. Raises TimeoutElapsed, ConnectionError."""
        deadline = _deadline(timeout_secs)
        for _ in self._looks(("NOJ",), timeout_secs):
            if self._all_finished(deadline):
                return
        raise TimeoutElapsed(f"not all jobs have ended in {timeout_secs:g} s")

    def _all_finished(self, deadline: float | None) -> bool:
        if self._endings is None:
            options = {"options": {"allJobsFinished": True}}
            return self.client.ask(replies.AllFinished, "status", options, deadline=deadline).all_finished
        status = self.client.status(deadline=deadline)
        finished = status.jobs.in_schedule + status.jobs.executing == 0
        if finished and status.system.event_seq is not UNSET:
            self._endings.all_returned(status.system.event_seq)
        return finished

    def wait4_any_job_finish(self, timeout_secs: float | None = None) -> tuple[str, str]:
        """The next ending of a job or iteration since this Manager was made; returns (`JOB` or `JOB:ITERATION`, state).

        Each is returned once, also when it happened between two calls, and not at all when `wait4` or `wait4all` has returned
        because of it. With an original service: any from now on.

        Raises:
            ServiceError: this service publishes no events.
            TimeoutElapsed: nothing ended in `timeout_secs` seconds.
        """
        if not self._events:
            raise ServiceError("Service not support publishing status events")
        deadline = _deadline(timeout_secs)

        def ask(after: int) -> replies.EventList:
            return self.client.events(after, deadline)

        for events in self._looks(("JFI", "IFI"), timeout_secs):
            ending = next(iter(events or ()), None) if self._endings is None else self._endings.next(ask)
            if ending is not None:
                return ending
        raise TimeoutElapsed(f"no job has ended in {timeout_secs:g} s")

    @staticmethod
    def is_status_finished(status: str) -> bool:
        """Whether nothing can follow this state."""
        return status in replies.FINAL

    def _looks(
        self, topics: tuple[str, ...], timeout_s: float | None, first_s: float = _FIRST_LOOK_S
    ) -> Generator[Sequence[tuple[str, str]] | None, None, None]:
        """Until the time is over, the moments to look again: endings that were announced, or None: ask for the state."""
        deadline = _deadline(timeout_s)
        pause_s = first_s if self._events else self._poll_delay_s
        with contextlib.ExitStack() as stack:
            subscription = None
            if self._events:
                subscription = stack.enter_context(Subscription(self._channel, self._events, topics))
            yield None
            look_at = time.monotonic() + pause_s
            while True:
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    if now > deadline + _LATE_S:  # we were stopped, and have not looked since
                        yield None
                    return
                if now >= look_at:
                    yield None
                    pause_s = min(self._poll_delay_s, pause_s * 2)
                    look_at = time.monotonic() + pause_s
                    continue
                wait_s = (look_at if deadline is None else min(look_at, deadline)) - now
                if subscription is None:
                    time.sleep(wait_s)
                elif endings := [(event.name, event.state) for event in subscription.events(wait_s)]:
                    self._log.events(endings)
                    yield endings

    def _ended(self, names: Iterable[str], deadline: float | None) -> dict[str, str]:
        """States of those of `names` that have ended. Raises ConnectionError for names that cannot be asked about."""
        ended = {}
        for name, entry in self.client.job_states(names, deadline).items():
            if entry.data is None:
                raise ConnectionError(f"Request failed - {entry.message}", where=name)
            if entry.data.status in replies.FINAL:
                ended[name] = entry.data.status
        return ended

    # --- inside ---------------------------------------------------------------------------------------------------------

    def event_socket(self, *topics: bytes) -> zmq.Socket[bytes]:
        """A subscription for a loop of one's own; it is closed with this connection.

        Raises ServiceError: this service publishes no events.
        """
        if not self._events:
            raise ServiceError("Service not support publishing status events")
        subscriber = self._channel.subscriber(self._events)
        for topic in topics:
            subscriber.setsockopt(zmq.SUBSCRIBE, topic)
        return subscriber

    def _log_errors(self, errors: Mapping[str, str] | None) -> None:
        for name, text in (errors or {}).items():
            self._log.problem(name, text)


def _target(address: str | None) -> connection.ConnectionFile | str:
    """Where to connect to, see `Manager`. The old default address applies only when nothing is named and no pilot is found."""
    if address is None and not os.environ.get(variable_names.CONNECTION):
        address = os.environ.get(variable_names.ADDRESS) or None
    if address is not None and "/" not in address and not os.path.exists(address):
        host, _, port = address.partition(":")
        return f"tcp://{host}:{port or DEFAULT_PORT}"
    try:
        target = connection.discover(address, os.environ, Path.cwd())
    except PilotfishError:
        if address is not None or os.environ.get(variable_names.CONNECTION):
            raise
        return DEFAULT_ADDRESS
    if isinstance(target, str) and target.startswith("tcp://") and ":" not in target.removeprefix("tcp://"):
        return f"{target}:{DEFAULT_PORT}"
    return target


def default_is_served() -> bool:
    """Whether a Manager() without an address would reach a pilot: one that is found, or one at the old default address."""
    if _target(None) != DEFAULT_ADDRESS or os.environ.get(variable_names.ADDRESS):
        return True
    try:
        network.create_connection(("127.0.0.1", int(DEFAULT_PORT)), _LOCAL_ANSWER_S).close()
    except OSError:
        return False
    return True


def _deadline(timeout_s: float | None) -> float | None:
    """Raises WrongArgumentsError for what is no time limit."""
    return None if timeout_s is None else time.monotonic() + as_seconds(timeout_s, "timeout")


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def __getattr__(name: str) -> Any:
    """LocalManager is found here too, as in the old API. Its module builds on this one, so it is imported when asked for."""
    if name != "LocalManager":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".local", __package__).LocalManager
