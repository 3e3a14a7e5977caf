"""What has to be reported: collected, sent in few frames, kept until it is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .. import clock
from ..loop import Loop, Timer
from ..model.ids import GrantId, JobNo, TaskKey
from ..wire.ends import together
from ..wire.frames import Cause, Finished, Report, Started, Values

_NO_GRANT = GrantId(0)


class ReportBuffer:
    """Reports in the making and on their way. `in_columns`: what nothing distinguishes is said once (wire/ends.py)."""

    def __init__(self, in_columns: bool = False) -> None:
        self._in_columns = in_columns
        self.next_seq = 1
        self.unacknowledged: deque[Report] = deque()
        self.urgent = False
        """Whether what we give back could be used elsewhere: then waiting for more to report costs more than it saves."""
        self._started: list[Started] = []
        self._finished: list[Finished] = []
        self._revoked: list[TaskKey] = []
        self._returned: list[GrantId] = []
        self._values: dict[tuple[JobNo, int], Values] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing new has been noted."""
        return not (self._finished or self._started or self._revoked or self._returned)

    @property
    def first_seq(self) -> int:
        """Number of the oldest report that may have to be sent again."""
        return self.unacknowledged[0].seq if self.unacknowledged else self.next_seq

    def started(self, started: Started) -> None:
        self._started.append(started)

    def finished(self, finished: Finished) -> None:
        self._finished.append(finished)
        self.urgent = self.urgent or finished.returns_grant

    def returned_value(self, key: TaskKey, data: bytes) -> None:
        """What a call has returned or raised; its end follows."""
        job_no, pos, run = key
        values = self._values.get((job_no, run))
        if values is None:
            values = self._values[job_no, run] = Values(job_no, run, [], [])
        values.pos.append(pos)
        values.data.append(data)

    def returned_values(self, values: Values) -> None:
        """The same in columns."""
        known = self._values.setdefault((values.job_no, values.run), values)
        if known is not values:
            known.pos.extend(values.pos)
            known.data.extend(values.data)

    def revoked(self, key: TaskKey) -> None:
        self._revoked.append(key)
        self.urgent = True

    def returned(self, grant_id: GrantId) -> None:
        self._returned.append(grant_id)
        self.urgent = True

    def seal(self) -> Report:
        """Everything noted, as the next report."""
        succeeded, finished = together(self._finished) if self._in_columns else ([], self._finished)
        values = list(self._values.values())
        report = Report(self.next_seq, self._started, finished, self._revoked, self._returned, succeeded, values)
        self._started, self._finished, self._revoked, self._returned, self._values = [], [], [], [], {}
        self.urgent = False
        self.next_seq += 1
        self.unacknowledged.append(report)
        return report

    def acknowledged(self, seq: int) -> None:
        while self.unacknowledged and self.unacknowledged[0].seq <= seq:
            self.unacknowledged.popleft()


class FlushPolicy:
    """When reports leave: at once after a quiet `interval_s`, else together, unless something is urgent."""

    def __init__(
        self, loop: Loop, report_buffer: ReportBuffer, interval_s: float, send: Callable[[Report], None]
    ) -> None:
        self._loop = loop
        self._report_buffer = report_buffer
        self._interval_s = interval_s
        self._send = send
        self._flushed = 0.0
        self._timer: Timer | None = None

    def end_of_turn(self) -> None:
        if self._report_buffer.empty:
            return
        due = self._flushed + self._interval_s
        if self._report_buffer.urgent or self._loop.clock() >= due:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(due, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed = self._loop.clock()
        if not self._report_buffer.empty:
            self._send(self._report_buffer.seal())


def unstarted(
    key: TaskKey, grant_id: GrantId = _NO_GRANT, cause: Cause = Cause.CANCELED, message: str = ""
) -> Finished:
    """The end of an attempt that was never started."""
    now = clock.now()
    return Finished(*key, grant_id, -1, now, now, -1, cause, 0.0, 0, message, returns_grant=False)
