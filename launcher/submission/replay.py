"""What a submission's record and journal say: its work, how far that has come, and which inputs are on the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..description.machine import MachineDescription
from ..description.submission import SubmissionDescription
from ..machines.registry import build_machine
from . import events, journal
from .events import Event
from .pilot_jobs import PilotWork
from .plain_jobs import PlainWork
from .service_jobs import ServiceWork
from .state import PilotProgress, Progress, ServiceProgress
from .store import Record
from .work import Work


@dataclass(frozen=True)
class Sent:
    """The inputs on the machine.

    Attributes:
        digests: by path, as they were sent last; None when that has not come to its end, or was done by another submission.
        known: the same with those that submissions which were taken over have sent.
        took_over: another submission was taken over since the last upload.
        folder_gone: inputs have to be sent again.
    """

    digests: Mapping[str, str] | None = None
    known: Mapping[str, str] | None = None
    took_over: bool = False
    folder_gone: bool = False


def build_work(description: SubmissionDescription, root: str) -> Work:
    """The batch jobs of a submission whose folder on the machine is `root`. Raises DescriptionError."""
    if description.pilot is None:
        return PlainWork(description, root)
    return ServiceWork(description, root) if description.pilot.service else PilotWork(description, root)


def new_progress(description: SubmissionDescription, work: Work) -> Progress:
    """Nothing has happened yet."""
    resources, settle_s = description.resources, build_machine(description.machine.batch_type).settle_s
    if description.pilot is not None and description.pilot.service:
        return ServiceProgress(work.jobs(), settle_s=settle_s)
    if description.pilot is not None:
        return PilotProgress(
            work.jobs(),
            max_allocations=description.pilot.max_allocations,
            ratio_unfinished=resources.ratio_unfinished,
            settle_s=settle_s,
        )
    return Progress(
        work.jobs(),
        retry_count=description.machine.retry_count,
        max_jobs=resources.max_jobs,
        ratio_unfinished=resources.ratio_unfinished,
        settle_s=settle_s,
    )


def replay(happened: Iterable[Event], progress: Progress) -> Sent:
    """Bring progress up to date."""
    sent = Sent()
    for event in happened:
        if isinstance(event, events.Uploaded):
            sent = Sent(event.digests, event.digests)
        elif isinstance(event, events.TookOver):
            sent = Sent(None, {**(sent.known or {}), **(event.digests or {})}, True, sent.folder_gone)
        elif isinstance(event, events.FolderGone):
            sent = Sent(sent.digests, sent.known, sent.took_over, True)
        progress.apply(event)
    progress.full = False
    return sent


def replay_record(record: Record, happened: Iterable[Event]) -> tuple[Progress, Sent]:
    """What the journal of a recorded submission says of its jobs and inputs."""
    progress = new_progress(record.description, build_work(record.description, record.root))
    return progress, replay(happened, progress)


def read_journal(record: Record) -> list[Event]:
    """All that has happened so far; nobody is kept from writing meanwhile. Raises JournalError."""
    try:
        content = record.journal.read_bytes()
    except FileNotFoundError:
        return []
    return journal.read(content, str(record.journal))[0]


def is_beside(one: Record, other: Record) -> bool:
    """Whether both have the same folder here, and theirs beside each other on the same machine."""
    folders = [PurePosixPath(record.root).parent for record in (one, other)]
    same_machine = _is_same_machine(one.description.machine, other.description.machine)
    return one.local_work == other.local_work and same_machine and folders[0] == folders[1]


def _is_same_machine(one: MachineDescription, other: MachineDescription) -> bool:
    """Who logs in without a name does so with the name that the other has; one host may be many, by their ports."""
    users = [machine.profile.get("username") for machine in (one, other)]
    places = [
        (machine.context_type, machine.profile.get("hostname"), machine.profile.get("port") or 22)
        for machine in (one, other)
    ]
    return places[0] == places[1] and (None in users or users[0] == users[1])
