"""What happens to a submission, as it is written down: the launcher's state is what these say, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..job.record import TaskResult


@dataclass(frozen=True)
class Uploaded:
    """Inputs are on the machine: digests by path below the root; None while some are on their way."""

    digests: Mapping[str, str] | None


@dataclass(frozen=True)
class Intent:
    """A job is about to be submitted: from here on the batch system may have it."""

    job: str
    attempt: int


@dataclass(frozen=True)
class Submitted:
    """The batch system has the job under this id."""

    job: str
    attempt: int
    id: str


@dataclass(frozen=True)
class NotTaken:
    """The batch system did not take the job: for good (`final`), or this time (`why` says more)."""

    job: str
    attempt: int
    why: str
    final: bool


@dataclass(frozen=True)
class Ended:
    """An attempt is over. `reason` is empty when all tasks ended well.

    `counts`: it counts against the retries; `again`: the job is placed once more. Exit code, times (seconds since the epoch)
    and nodes are the batch system's, where it tells them.
    """

    job: str
    attempt: int
    reason: str
    detail: str
    exit_code: int | None
    counts: bool
    again: bool
    tasks: tuple[TaskResult, ...]
    start_s: float | None = None
    end_s: float | None = None
    nodes: str = ""


@dataclass(frozen=True)
class Missing:
    """A result that is not home: of the task with this hash, or a common one (empty).

    Attributes:
        pattern: what found nothing, or the file that could not be had.
        why: the reason, when the file is there.
    """

    task: str
    pattern: str
    why: str = ""


@dataclass(frozen=True)
class Fetched:
    """The job's results are home, but for those that are missing: they are looked for again by the next run."""

    job: str
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class CommonFetched:
    """The common results are home, but for those that are missing."""

    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Canceled:
    """Nobody waits for the job any more; what its tasks had done until then counts."""

    job: str
    why: str
    tasks: tuple[TaskResult, ...] = ()


@dataclass(frozen=True)
class Renewed:
    """These tasks of the job run again, with all retries."""

    job: str
    tasks: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Inherited:
    """Results of an earlier submission with the same tasks count for this job."""

    job: str
    tasks: tuple[TaskResult, ...]


@dataclass(frozen=True)
class TookOver:
    """Another submission is continued as part of this one.

    Attributes:
        other: its id.
        token: by which its record knows this event.
        digests: of those of our inputs that it has sent.
        jobs: the hashes of the jobs that are ours now.
        events: what has happened to them so far.
    """

    other: str
    token: str
    digests: Mapping[str, str] | None
    jobs: tuple[str, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class FolderGone:
    """The submission's folder on the machine has been removed, with all inputs in it."""


Event = (
    Inherited
    | Uploaded
    | Intent
    | Submitted
    | NotTaken
    | Ended
    | Fetched
    | CommonFetched
    | Canceled
    | Renewed
    | TookOver
    | FolderGone
)

_WRITTEN: dict[type[Any], str] = {Canceled: "Cancelled"}
"""Kinds that journals call otherwise."""

_KINDS: dict[str, type[Any]] = {
    _WRITTEN.get(kind, kind.__name__): kind
    for kind in (
        Uploaded,
        Intent,
        Submitted,
        NotTaken,
        Ended,
        Fetched,
        CommonFetched,
        Canceled,
        Renewed,
        Inherited,
        TookOver,
        FolderGone,
    )
}


def to_dict(event: Event) -> dict[str, Any]:
    fields = asdict(event)
    if isinstance(event, TookOver):
        fields["events"] = [to_dict(each) for each in event.events]
    return {"event": _WRITTEN.get(type(event), type(event).__name__), **fields}


def from_dict(found: Mapping[str, Any]) -> Event:
    """Raises KeyError or TypeError for what is no event."""
    fields = {name: value for name, value in found.items() if name not in ("event", "time_s")}
    if "tasks" in fields:
        as_results = _KINDS[found["event"]] in (Ended, Inherited, Canceled)
        fields["tasks"] = tuple(TaskResult(**each) if as_results else each for each in fields["tasks"])
    if "missing" in fields:
        fields["missing"] = tuple(Missing(**each) for each in fields["missing"])
    if found["event"] == TookOver.__name__:
        fields["jobs"] = tuple(fields["jobs"])
        fields["events"] = tuple(from_dict(each) for each in fields["events"])
    event: Event = _KINDS[found["event"]](**fields)
    return event
