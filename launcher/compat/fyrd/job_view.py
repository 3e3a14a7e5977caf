"""Where a job of fyrd is, in fyrd's words: read from the job's record, and kept nowhere else."""

from __future__ import annotations

from datetime import datetime, timedelta

from ...job.states import Status
from ...submission.single import SingleJob
from .local_pilot import LocalJob
from .words import BAD, GOOD, state_word


class JobView:
    """The part of a `Job` that only tells."""

    name: str
    qtype: str
    _place: SingleJob | LocalJob | None

    @property
    def place(self) -> SingleJob | LocalJob | None:
        """The job itself, of which this is a view; None before there is any file of it."""
        return self._place

    @property
    def id(self) -> str | None:
        return (self._place.id or None) if self._place is not None else None

    @property
    def submitted(self) -> bool:
        return self._place is not None and self._place.submitted

    @property
    def state(self) -> str:
        return state_word(self._status) if self.submitted else "Not_Submitted"

    @property
    def _status(self) -> Status:
        assert self._place is not None
        return self._place.status

    @property
    def _end(self) -> Status | None:
        return self._status if self.submitted and self._status.state.ended else None

    @property
    def reason(self) -> str:
        return "" if self._end is None or self.state not in BAD else self._end.reason or self._end.native

    @property
    def exitcode(self) -> int | None:
        return None if self._end is None else self._end.exit_code

    @property
    def start(self) -> datetime | None:
        return None if self._end is None else _time(self._end.start_s)

    @property
    def end(self) -> datetime | None:
        return None if self._end is None else _time(self._end.end_s)

    @property
    def runtime(self) -> timedelta | None:
        return None if self.start is None or self.end is None else self.end - self.start

    @property
    def submit_time(self) -> datetime | None:
        return _time(self._place.submitted_s) if self._place is not None else None

    @property
    def done(self) -> bool:
        return self.state in (*GOOD, *BAD)

    @property
    def running(self) -> bool:
        return self.state == "running"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds)
