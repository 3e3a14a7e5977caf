"""Where single batch jobs are: what the batch system lists, and what they have written themselves.

The end of a job is written down on its machine before its own files go, so what is read there last counts.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ...pilot.model.errors import JournalError
from ..contexts.base import Context
from ..contexts.paths import printable
from ..description.machine import machine_to_dict
from ..job import ends, script, store
from ..job.single import Phase
from ..job.states import JobState, Listing, Reason, Status
from ..machines.base import BatchSystem, MachineBusyError
from ..machines.registry import build_machine
from . import needs
from .single import SingleJob, write_ends
from .waiting import last_words

_MAY_NEVER_START = (JobState.waiting, JobState.completing, JobState.terminated)
_HANDED_OVER_S = 300.0
"""How long a job may have no id: another program is just submitting it."""


def look_at(jobs: Sequence[SingleJob]) -> list[Status]:
    """Where these jobs are now: one question for all of a machine, and one look at the records of those that have ended.

    `finished` and `terminated` are for good, and the same for all who look; the exit code is that of the command.
    """
    for job in jobs:
        job.refresh()
    for together in by_machine(jobs):
        asked = [job for job in together if not job.record.over and job.record.phase is not Phase.NEW]
        if asked:
            _note(_look_at_one_machine(asked))
    return [job.record.status for job in jobs]


def by_machine(jobs: Iterable[SingleJob]) -> list[list[SingleJob]]:
    """Those of one machine together."""
    machines: dict[str, list[SingleJob]] = {}
    for job in jobs:
        machines.setdefault(json.dumps(machine_to_dict(job.record.machine)), []).append(job)
    return list(machines.values())


def _note(found: Mapping[SingleJob, Status]) -> None:
    steps = [(job.record, _step_to(status)) for job, status in found.items()]
    with suppress(JournalError):  # a full disk here: the end is on the machine, and is noted by whoever looks next
        for job, record in zip(found, store.change_all(steps), strict=True):
            job.record = record
        return
    for job, (record, step) in zip(found, steps, strict=True):
        job.record = step(record)


def _step_to(status: Status) -> store.Step:
    return lambda record: record.ended(status) if status.state.ended else record.seen(status)


def _look_at_one_machine(jobs: Sequence[SingleJob]) -> dict[SingleJob, Status]:
    context, machine = jobs[0].context, build_machine(jobs[0].record.machine.batch_type)
    for job in jobs:
        job.share(context)
    _share_ends(jobs)
    ids = [job.id for job in jobs if job.id or job.find()]
    listed = _listing(machine, context, ids)
    alive = {name for name, status in listed.items() if not status.state.ended and status.state is not JobState.unknown}
    over = [job for job in jobs if job.id not in alive]
    # The end is read last: it is written before the others go.
    read = context.read([path for job in over for path in (*job.record_paths, job.reason_path, job.end_path)])
    known = {job: told for job in over if (told := ends.read(read.get(job.end_path, b""))) is not None}
    new = {job: _judged(job, machine, listed, read) for job in jobs if job not in known}
    silent = [
        job for job in new if not any(path in read for path in job.record_paths) and new[job].state in _MAY_NEVER_START
    ]
    if machine.settle_s:
        new |= _never_began(context, [job for job in silent if new[job].reason == Reason.VANISHED])
    new |= _without_hope(context, machine, [job for job in silent if job.record.after], new)
    new |= _never_to_start(context, machine, new)
    ended = {job: status for job, status in new.items() if status.state.ended}
    ended |= _with_last_words(context, machine, [job for job in silent if job in ended], ended)
    return {**known, **new, **write_ends(context, ended)}


def _listing(machine: BatchSystem, context: Context, ids: Sequence[str]) -> Listing:
    """What the batch system tells; of a batch system that does not answer now the jobs' own records may tell more."""
    try:
        return machine.query(context, ids) if ids else Listing()
    except MachineBusyError as error:
        unknown = Listing({name: Status(JobState.unknown, f"not known now: {error.what}") for name in ids})
        unknown.unclear |= set(ids)
        return unknown


def _share_ends(jobs: Sequence[SingleJob]) -> None:
    """Ask the machine once where ends are kept, not for each job."""
    known: dict[str, ends.Folder] = {}
    for job in jobs:
        if job.folder in known:
            job.keep_end_in(known[job.folder])
        known[job.folder] = job.ends_folder


def _judged(job: SingleJob, machine: BatchSystem, listed: Listing, read: Mapping[str, bytes]) -> Status:
    now_s = job.clock()
    if not job.id:
        return _without_id(job, now_s)
    record = job.own_status(read)
    reason = script.told_reason(read.get(job.reason_path, b""))
    if reason:
        record = replace(record or Status(JobState.terminated), state=JobState.terminated, reason=reason)
    told = listed.get(job.id)
    if told is not None and told.state is JobState.unknown and record is not None:
        told = None  # the batch system tells nothing of it now, but its own record does
    return job.sighting.judge(told, record, now_s, machine.settle_s, doubted=job.id in listed.doubted)


def _without_id(job: SingleJob, now_s: float) -> Status:
    """Of a job that nobody has an id for: it is just being submitted, or the program died that should have done it."""
    job.sighting.is_missing(now_s)
    if now_s - (job.record.submitted_s or job.sighting.since_s) < _HANDED_OVER_S:
        return Status(JobState.unsubmitted)
    return Status(JobState.terminated, reason=Reason.LAUNCH)


def _never_began(context: Context, jobs: Sequence[SingleJob]) -> dict[SingleJob, Status]:
    """Of these jobs, of which nothing is known any more, those that somebody has taken out of the queue."""
    paths = {job: posixpath.join(job.folder, f".{job.hash}.0.claim") for job in jobs}
    read = context.read(list(paths.values())) if paths else {}
    return {job: Status(JobState.terminated, reason=Reason.CANCELED) for job in paths if paths[job] not in read}


def _never_to_start(
    context: Context, machine: BatchSystem, found: Mapping[SingleJob, Status]
) -> dict[SingleJob, Status]:
    """Those that the batch system has said for a while can never start: they are taken out of the queue."""
    lost = {
        job: Status(JobState.terminated, reason=f"{Reason.NEVER}: {printable(status.why)}")
        for job, status in found.items()
        if job.sighting.is_hopeless(status)
    }
    if lost:
        machine.cancel(context, [job.id for job in lost])
    return lost


def _with_last_words(
    context: Context, machine: BatchSystem, silent: Sequence[SingleJob], ended: Mapping[SingleJob, Status]
) -> dict[SingleJob, Status]:
    """The ends of jobs that have left no record, with the last words of their scripts, before these are tidied away."""
    found: dict[SingleJob, Status] = {}
    for folder in {job.folder for job in silent if ended[job].reason}:
        there = {job.hash: job for job in silent if job.folder == folder and job.id}
        words = last_words(context, folder, {name: machine.outputs(job.id, name) for name, job in there.items()})
        found |= {there[name]: replace(ended[there[name]], why=printable(text[-200:])) for name, text in words.items()}
    return found


def _without_hope(
    context: Context, machine: BatchSystem, jobs: Sequence[SingleJob], found: Mapping[SingleJob, Status]
) -> dict[SingleJob, Status]:
    """Those of these jobs that can never start, or never could, because a job that they need has not ended well."""
    known = needs.outcomes(context, machine, [need for job in jobs for need in job.record.after])
    lost: dict[SingleJob, Status] = {}
    for job in jobs:
        which = next((need for need in job.record.after if not known.get(need, True)), None)
        if which is not None:
            lost[job] = Status(JobState.terminated, reason=f"{Reason.DEPENDENCY}: job {which.id}")
    waiting = [job.id for job in lost if not found[job].state.ended]
    if waiting:
        machine.cancel(context, waiting)
    return lost


def living_beside(job: SingleJob, at_least: int = 0) -> int:
    """How many jobs of this user, made by whatever program, are in the same batch system and not over.

    The batch system is only asked when at least so many may be: fewer than that are counted as they were seen last.
    """
    others = [SingleJob(record) for record in store.all_records() if not record.over and record.hash != job.hash]
    beside = [each for each in others if each.is_beside(job)]
    if len(beside) < at_least:
        return len(beside)
    for each in beside:
        each.share(job.context)
    return sum(not status.state.ended for status in look_at(beside))
