"""Requests to one pilot and their typed answers; what `Manager` and the client commands stand on.

Our own code asks for the type that it needs (`pilot/wire/replies.py`). Where the old API promises a dictionary, `Manager` asks
for `dict`, so that users get what was sent, whichever service sent it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..pilot.wire import codec, replies, reply_bytes
from ..pilot.wire.demand import Demand
from ..pilot.wire.overview import USUAL, Overview
from .channel import Channel, NoAnswerError
from .clientlog import ClientLog
from .errors import InternalError, RequestRefusedError, TimeoutElapsed

T = TypeVar("T")

_LEAST_ANSWER_S = 1.0
"""What a waiting call gives an answer at least, so that with a limit of 0 it can still report what has ended."""


class Client:
    """May be used by any thread, as its channel."""

    def __init__(self, channel: Channel, log: ClientLog) -> None:
        self._channel = channel
        self._log = log

    def another(self) -> Client:
        """One with a connection of its own, for a thread that waits long for its replies."""
        return Client(self._channel.another(), self._log)

    def notice_when_replaced(self) -> None:
        """A request that waits is given up as soon as the manager has been killed here, or another one has its place."""
        self._channel.notice_when_replaced()

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()

    def send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send any request; returns the whole reply object.

        Raises:
            RequestRefusedError: the service refuses it.
            NoAnswerError, ConnectionError, InternalError: as `Channel.request`.
        """
        reply, _ = self._exchange(request, None)
        whole: dict[str, Any] = codec.load(reply, dict[str, Any])
        return whole

    def ask(
        self,
        kind: type[T],
        request: str,
        members: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        deadline: float | None = None,
    ) -> T:
        """The data of the reply to a request with these members, as `kind`.

        `deadline` (monotonic clock) is that of a call with a time limit of its own, which holds also when the pilot is silent.

        Raises:
            TimeoutElapsed: no answer, and the deadline has passed.
            RequestRefusedError, NoAnswerError, ConnectionError, InternalError: as `send`.
        """
        if deadline is not None:
            timeout_s = min(self._channel.timeout_s, max(_LEAST_ANSWER_S, deadline - time.monotonic()))
        try:
            _, received = self._exchange({"request": request, **(members or {})}, timeout_s)
        except NoAnswerError as error:
            if deadline is None or time.monotonic() < deadline:
                raise
            raise TimeoutElapsed(f"{error.what}; {error.remedy}") from error
        try:
            return reply_bytes.data_of(received, kind)
        except msgspec.DecodeError as error:
            raise InternalError(f"Invalid reply from the service: {error}", where=request) from error

    def _exchange(self, request: Mapping[str, Any], timeout_s: float | None) -> tuple[bytes, reply_bytes.Received]:
        self._log.request(request)
        reply = self._channel.request(request, timeout_s)
        self._log.reply(reply)
        try:
            received = reply_bytes.receive(reply)
        except msgspec.DecodeError as error:
            raise InternalError(f"Invalid reply from the service: {error}") from error
        if received.code != 0:
            detail = received.error or replies.ErrorDetail()
            self._log.refused(str(received.message))
            raise RequestRefusedError(str(received.message), code=detail.code, where=detail.where, remedy=detail.remedy)
        return reply, received

    # --- what is asked more than once -----------------------------------------------------------------------------------

    def status(self, *, timeout_s: float | None = None, deadline: float | None = None) -> replies.Status:
        return self.ask(replies.Status, "status", timeout_s=timeout_s, deadline=deadline)

    def task_counts(self) -> replies.TaskCounts:
        return self.status().tasks

    def jobs(self) -> dict[str, replies.ListedJob]:
        """All jobs by name, in order of submission."""
        return self.ask(replies.JobList, "listJobs").jobs

    def job_infos(self, names: Sequence[str], params: Mapping[str, bool] | None = None) -> dict[str, replies.JobInfo]:
        """What is known of jobs and tasks, by name; names without data are left out."""
        entries = self.job_entries(names, params)
        return {name: entry.data for name, entry in entries.items() if entry.data is not None}

    def job_entries(
        self, names: Sequence[str], params: Mapping[str, bool] | None = None
    ) -> dict[str, replies.Entry[replies.JobInfo]]:
        members = {"jobNames": names, "params": params} if params else {"jobNames": names}
        return self.ask(replies.Entries[replies.JobInfo], "jobInfo", members).jobs

    def job_states(
        self, names: Iterable[str], deadline: float | None = None
    ) -> dict[str, replies.Entry[replies.JobStatus]]:
        members = {"jobNames": list(names)}
        return self.ask(replies.Entries[replies.JobStatus], "jobStatus", members, deadline=deadline).jobs

    def events(self, after: int, deadline: float | None = None) -> replies.EventList:
        return self.ask(replies.EventList, "events", {"after": after}, deadline=deadline)

    def overview(self, limit: int = USUAL, match: str = "") -> Overview:
        """What the pilot does now; each list has at most `limit` entries."""
        return self.ask(Overview, "overview", {"params": {"limit": limit, "match": match}})

    def demand(self, *, nodes_may_come: bool = False) -> Demand:
        """What waits for nodes, and what the nodes do. `nodes_may_come`: work that fits on none is to wait for others."""
        return self.ask(Demand, "demand", {"params": {"nodesMayCome": nodes_may_come}})

    def release(self, allocation: str) -> int:
        """Let the nodes of this allocation end what runs there and leave; returns how many are here."""
        return self.ask(replies.Released, "release", {"allocation": allocation}).nodes

    def submit(self, jobs: Sequence[Mapping[str, Any]]) -> list[str]:
        """All of these descriptions, or none; returns their names."""
        return self.ask(replies.Submitted, "submit", {"jobs": jobs}).jobs

    def cancel(self, names: Iterable[str]) -> replies.Canceled:
        return self.ask(replies.Canceled, "cancelJob", {"jobNames": list(names)})

    def remove(self, names: Iterable[str]) -> replies.Removed:
        return self.ask(replies.Removed, "removeJob", {"jobNames": list(names)})

    def finish(self, *, delay_s: float = 0, kill: bool = False) -> replies.FinishTime:
        """Ask the pilot to end: when its work is done, or now with `kill`."""
        options = {"delay": delay_s, "kill": kill} if kill else {"delay": delay_s}
        return self.ask(replies.FinishTime, "finish", {"options": options})
