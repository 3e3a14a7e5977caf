"""Words that fyrd has for states and kinds of queues, and ours."""

from __future__ import annotations

from ...job.states import JobState, Reason, Status

_ALIVE = {
    JobState.unsubmitted: "submitted",
    JobState.running: "running",
    JobState.completing: "completing",
    JobState.unknown: "running",
}


def state_word(found: Status) -> str:
    if found.state is JobState.finished:
        return "completed"
    if found.state.ended:
        return {Reason.CANCELED: "cancelled", Reason.VANISHED: "vanished"}.get(found.reason, "failed")
    return _ALIVE.get(found.state, "pending")
