"""Events as bytes: one frame, `TOPIC {json}`. The old system's topics and our own EVT beside them."""

from __future__ import annotations

import msgspec

from ..model.states import State
from . import codec

JOB_STATE, JOB_FINISHED = b"JST", b"JFI"
TASK_STATE, TASK_FINISHED = b"IST", b"IFI"
NO_JOBS = b"NOJ"
EVENT = b"EVT"
TOPICS = (JOB_STATE, JOB_FINISHED, TASK_STATE, TASK_FINISHED, NO_JOBS, EVENT)

IDLE = "IDLE"
"""State in the EVT event that stands beside NOJ; it has no job."""


class Event(msgspec.Struct, omit_defaults=True, frozen=True):
    """Payload of EVT, and element of the answer to an `events` request.

    `seq` counts up by 1, so a gap can be seen. `time` is in seconds since the epoch. `job` is "" only for IDLE; `it` is
    None for a state of the job itself; `exit_code` is None unless a task has ended. Members without a value are left out.
    """

    seq: int
    time: float
    manager: str
    state: str
    job: str = ""
    it: int | None = None
    exit_code: int | None = None
    message: str = ""

    @property
    def name(self) -> str:
        """`JOB`, or `JOB:ITERATION` for a task of a job with iterations."""
        return self.job if self.it is None else f"{self.job}:{self.it}"


class OldEvent(msgspec.Struct, omit_defaults=True, frozen=True):
    """Payload of the old system's topics; NOJ has only the manager."""

    manager: str
    job: str = ""
    state: str = ""
    it: int | None = None

    @property
    def name(self) -> str:
        return self.job if self.it is None else f"{self.job}:{self.it}"


def encode_event(event: Event) -> bytes:
    return EVENT + b" " + codec.encode(event)


def decode_event(frame: bytes) -> Event:
    """The way back, for clients. Raises msgspec.DecodeError for anything that is not an EVT frame."""
    topic, _, payload = frame.partition(b" ")
    if topic != EVENT:
        raise msgspec.DecodeError(f"not an event: {frame[:20]!r}")
    return codec.load(payload, Event)


def decode_old_event(frame: bytes) -> OldEvent:
    """The same for the old system's topics, as an original service sends them too."""
    return codec.load(frame.partition(b" ")[2], OldEvent)


def encode_state(topic: bytes, manager: str, job: str, it: int | None, state: State) -> bytes:
    return topic + b" " + codec.encode(OldEvent(manager, job, state.name, it))


def encode_no_jobs(manager: str) -> bytes:
    return NO_JOBS + b" " + codec.encode(OldEvent(manager))
