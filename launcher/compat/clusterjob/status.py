"""Where a job script is, as numbers: below 0 it is not over, above 0 it is over and did not end well."""

from __future__ import annotations

from ...job.states import JobState, Reason, Status

PENDING, RUNNING, COMPLETED, CANCELLED, FAILED = range(-2, 3)
STATUS_CODES = [PENDING, RUNNING, COMPLETED, CANCELLED, FAILED]
str_status = dict(zip(STATUS_CODES, ("PENDING", "RUNNING", "COMPLETED", "CANCELLED", "FAILED"), strict=True))


def code_of(status: Status) -> int:
    """The number of what is known of a job."""
    if status.state is JobState.finished:
        return COMPLETED
    if status.state.ended:
        return CANCELLED if status.reason == Reason.CANCELED else FAILED
    return PENDING if status.state in (JobState.waiting, JobState.unsubmitted) else RUNNING


_STATUS = {
    PENDING: Status(JobState.waiting),
    RUNNING: Status(JobState.running),
    COMPLETED: Status(JobState.finished),
    CANCELLED: Status(JobState.terminated, reason=Reason.CANCELED),
    FAILED: Status(JobState.terminated, reason=Reason.PROGRAM),
}


def status_of(code: int | None) -> Status:
    """The other way round; None, which says nothing, is `unknown`. Raises KeyError for what is no code."""
    return Status(JobState.unknown, "not known now") if code is None else _STATUS[code]
