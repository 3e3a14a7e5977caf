"""`Manager`: talk to a running pilot. Methods, arguments and return values are those of the old API (spec 19.1)."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pilot.wire import connection
from ..pilot.wire.ownership import ForeignError, check_folder
from .channel import Channel, NoAnswerError
from .endings import Endings
from .errors import (
    ConnectionError,
    InternalError,
    PilotfishError,
    RequestRefusedError,
    ServiceError,
    TimeoutElapsed,
)
from .jobinfo import JobInfo
from .jobs import Jobs
from .subscription import Subscription
from .timestamp import TimeStamp

__all__ = ["Manager", "TimeStamp"]

log = logging.getLogger("pilotfish.api")

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
DEFAULT_PORT = "5555"

_WHERE_TO_LOOK = "there is no pilot in this folder; name the one you mean: --connect FOLDER, or Manager(FOLDER)"
_FINAL = frozenset({"SUCCEED", "FAILED", "CANCELED", "OMITTED"})
_LEAST_ANSWER_S = 1.0
"""What a waiting call gives an answer at least, so that with a limit of 0 it can still tell what has ended."""
_FIRST_LOOK_S = 0.02
_LOOK_PER_NAME_S = 5e-5
"""A subscription takes a moment to reach the manager. Until it has, the state is looked at again after growing pauses."""


class Manager:
    """A pilot that runs already.

    May be used by any thread, and in a process that is forked, which gets a connection of its own.

    Args:
        address: a connection file, an auxiliary folder, a folder with some, or a ZeroMQ address (`[proto://]host[:port]`,
            completed with `tcp` and 5555). Without it: $PILOTFISH_CONNECTION, $QCG_PM_ZMQ_ADDRESS, the newest live pilot of
            the current folder, and at last tcp://127.0.0.1:5555.
        cfg: `poll_delay` (2 s): how often to look at the state when no event comes; `request_timeout` (60 s);
            `connect_timeout` (request_timeout): how long the constructor waits; `wdir` (`.`), `log_file`, `log_level`.

    Raises:
        ConnectionError: nobody answers.
    """

    def __init__(self, address: str | os.PathLike[str] | None = None, cfg: Mapping[str, Any] | None = None) -> None:
        self._cfg = dict(cfg or {})
        address = None if address is None else os.fspath(address)
        self._channel = Channel(_target(address), float(self._cfg.get("request_timeout", 60)))
        self._handler: logging.Handler | None = None
        self._handler = _open_log(self._cfg)
        self._poll_delay_s = float(self._cfg.get("poll_delay", self._cfg.get("default_poll_delay", 2)))
        self.default_poll_delay = self._poll_delay_s
        self.default_pub_timeout = float(self._cfg.get("pub_timeout", 300))
        try:
            timeout = self._cfg.get("connect_timeout")
            status = self._data({"request": "status"}, None if timeout is None else float(timeout))
        except PilotfishError as error:
            self._release()
            found_none = address is None and self._channel.address == DEFAULT_ADDRESS
            remedy = _WHERE_TO_LOOK if found_none else error.remedy
            raise ConnectionError(
                f"Failed to connect to {self._channel.address} - {error.what}", remedy=remedy
            ) from error
        system = status.get("System", {})
        self._events = system.get("StatusPublisher")
        self._endings = Endings(system["EventSeq"]) if "EventSeq" in system else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._channel.address}>"

    # --- requests -------------------------------------------------------------------------------------------------------

    def send_request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send any request; returns the whole reply object. Raises ConnectionError when it is refused."""
        return self._request(dict(request))

    def resources(self) -> dict[str, Any]:
        """`total_nodes`, `total_cores`, `used_cores`, `free_cores`."""
        return self._data({"request": "resourcesInfo"})

    def submit(self, jobs: Jobs) -> list[str]:
        """Submit all jobs of the list, or none; returns their names."""
        names: list[str] = self._data({"request": "submit", "jobs": jobs.ordered_jobs()})["jobs"]
        return names

    def list(self) -> dict[str, Any]:
        """All jobs: name -> `{status, messages?, inQueue?}`."""
        jobs: dict[str, Any] = self._data({"request": "listJobs"})["jobs"]
        return jobs

    def status(self, names: str | Iterable[str]) -> dict[str, Any]:
        """`{jobs: {name: {status, data}}}` of the named jobs or iterations (`JOB:ITERATION`)."""
        return self._data({"request": "jobStatus", "jobNames": _names(names)})

    def info(self, names: str | Iterable[str], **params: Any) -> dict[str, Any]:
        """Like `status` with everything that is known; `withChilds=True` adds the iterations."""
        request: dict[str, Any] = {"request": "jobInfo", "jobNames": _names(names)}
        if params:
            request["params"] = params
        return self._data(request)

    def info_parsed(self, names: str | Iterable[str], **params: Any) -> dict[str, JobInfo]:
        """`info` as JobInfo objects, by name; names without data are left out."""
        jobs = self.info(names, **params)["jobs"]
        return {name: JobInfo.from_job(entry["data"]) for name, entry in jobs.items() if "data" in entry}

    def remove(self, names: str | Iterable[str]) -> None:
        """Forget ended jobs, so that their names can be used again. Problems with single jobs are in the log."""
        self._log_errors(self._data({"request": "removeJob", "jobNames": _names(names)}))

    def cancel(self, names: str | Iterable[str]) -> None:
        """Cancel jobs or iterations, running ones too. Problems with single jobs are in the log."""
        self._log_errors(self._data({"request": "cancelJob", "jobNames": _names(names)}))

    def system_status(self) -> dict[str, Any]:
        return self._data({"request": "status"})

    def finish(self) -> None:
        """Ask the manager to end when its work is done, and let go of it."""
        self._data({"request": "finish"})
        self.cleanup()

    def cleanup(self) -> None:
        """Let go of the connection and of the log file; the pilot goes on."""
        self._release()

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
                return {name: states[name] for name in wanted}
        raise TimeoutElapsed(f"{len(pending)} of {len(states) + len(pending)} jobs have not ended in {timeout:g} s")

    def wait4all(self, timeout_secs: float | None = None) -> None:
        """Wait until nothing is queued or running. Raises TimeoutElapsed, ConnectionError."""
        request = {"request": "status", "options": {"allJobsFinished": True}}
        deadline = _deadline(timeout_secs)
        for _ in self._looks(("NOJ",), timeout_secs):
            if self._data_by(deadline, request).get("AllJobsFinished"):
                return
        raise TimeoutElapsed(f"not all jobs have ended in {timeout_secs:g} s")

    def wait4_any_job_finish(self, timeout_secs: float | None = None) -> tuple[str, str]:
        """The next ending of a job or iteration since this Manager was made; returns (`JOB` or `JOB:ITERATION`, state).

        Each is told once, also when it happened between two calls. With an original service: any from now on.

        Raises:
            ServiceError: this service publishes no events.
            TimeoutElapsed: nothing ended in `timeout_secs` seconds.
        """
        if not self._events:
            raise ServiceError("Service not support publishing status events")
        deadline = _deadline(timeout_secs)

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            return self._data_by(deadline, request)

        for events in self._looks(("JFI", "IFI"), timeout_secs):
            ending = next(iter(events or ()), None) if self._endings is None else self._endings.next(ask)
            if ending is not None:
                return ending
        raise TimeoutElapsed(f"no job has ended in {timeout_secs:g} s")

    @staticmethod
    def is_status_finished(status: str) -> bool:
        """Whether nothing can follow this state."""
        return status in _FINAL

    def _looks(
        self, topics: tuple[str, ...], timeout_s: float | None, first_s: float = _FIRST_LOOK_S
    ) -> Generator[Sequence[tuple[str, str]] | None, None, None]:
        """When to look again, until the time is over: a list of endings that were announced, or None: ask for the state."""
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
                    return
                if now >= look_at:
                    yield None
                    pause_s = min(self._poll_delay_s, pause_s * 2)
                    look_at = time.monotonic() + pause_s
                    continue
                wait_s = (look_at if deadline is None else min(look_at, deadline)) - now
                if subscription is None:
                    time.sleep(wait_s)
                elif found := list(subscription.events(wait_s)):
                    yield [(_event_name(payload), str(payload.get("state"))) for _, payload in found]

    def _ended(self, names: Iterable[str], deadline: float | None) -> dict[str, str]:
        """States of those of `names` that have ended. Raises ConnectionError for names that cannot be asked about."""
        ended = {}
        request = {"request": "jobStatus", "jobNames": _names(names)}
        for name, entry in self._data_by(deadline, request)["jobs"].items():
            if "data" not in entry:
                raise ConnectionError(f"Request failed - {entry.get('message')}", where=name)
            state = entry["data"]["status"]
            if state in _FINAL:
                ended[name] = state
        return ended

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _request(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        log.debug("request %s", message.get("request"))
        reply = self._channel.request(message, timeout_s)
        if reply["code"] != 0:
            detail = reply.get("error") or {}
            raise RequestRefusedError(str(reply.get("message")), **detail)
        return reply

    def _data(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        data = self._request(message, timeout_s).get("data")
        if not isinstance(data, dict):
            raise InternalError("Invalid reply from the service", where=str(message.get("request")))
        return data

    def _data_by(self, deadline: float | None, message: dict[str, Any]) -> dict[str, Any]:
        """For calls with a time limit of their own: that holds also when the pilot is silent. Raises TimeoutElapsed."""
        if deadline is None:
            return self._data(message)
        limit_s = min(self._channel.timeout_s, max(_LEAST_ANSWER_S, deadline - time.monotonic()))
        try:
            return self._data(message, limit_s)
        except NoAnswerError as error:
            if time.monotonic() < deadline:
                raise
            raise TimeoutElapsed(f"{error.what}; {error.remedy}") from error

    def _log_errors(self, data: Mapping[str, Any]) -> None:
        for name, text in data.get("errors", {}).items():
            log.warning("%s: %s", name, text)

    def _release(self) -> None:
        self._channel.close()
        if self._handler is not None:
            log.removeHandler(self._handler)
            self._handler.close()
            self._handler = None


def _target(address: str | None) -> connection.ConnectionFile | str:
    """See `Manager`. Only when nothing is said and nothing found does the old default address apply."""
    if address is None and not os.environ.get(connection.CONNECTION_VARIABLE):
        address = os.environ.get(connection.ADDRESS_VARIABLE) or None
    if address is not None and "/" not in address and not os.path.exists(address):
        host, _, port = address.partition(":")
        return f"tcp://{host}:{port or DEFAULT_PORT}"
    try:
        found = connection.discover(address, os.environ, Path.cwd())
    except PilotfishError:
        if address is not None or os.environ.get(connection.CONNECTION_VARIABLE):
            raise
        return DEFAULT_ADDRESS
    if isinstance(found, str) and found.startswith("tcp://") and ":" not in found.removeprefix("tcp://"):
        return f"{found}:{DEFAULT_PORT}"
    return found


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _event_name(payload: Mapping[str, Any]) -> str:
    job, it = str(payload.get("job")), payload.get("it")
    return job if it is None else f"{job}:{it}"


def _own_log_folder(folder: Path) -> bool:
    """Make it; False when somebody else has: a log in it could be a link to any file of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check_folder(folder)
    except PilotfishError as error:
        return not isinstance(error, ForeignError)  # what is ours may be open to others: the log is no secret
    return True


def _open_log(cfg: Mapping[str, Any]) -> logging.Handler | None:
    """The client's log, `<wdir>/.qcgpjm-client/api.log`; a folder that cannot be written is no reason to fail."""
    path = Path(cfg.get("wdir", ".")) / ".qcgpjm-client" / "api.log"
    try:
        if cfg.get("log_file"):
            path = Path(cfg["log_file"])
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not _own_log_folder(path.parent):
            return None
        handler = logging.FileHandler(path, mode="w", encoding="utf-8", delay=True)
    except OSError:
        return None
    handler.setFormatter(logging.Formatter("%(asctime)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if cfg.get("log_level") == "debug" else logging.INFO)
    return handler
