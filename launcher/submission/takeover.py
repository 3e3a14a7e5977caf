"""A batch job and a folder belong to one submission, also when the same work is submitted in another form.

Somebody interrupts `submit A.json`, edits the file and submits it again: that is another submission, B, with jobs that A has
placed already. B takes A over: A's folder becomes B's too, and what A's journal tells of the jobs that both have becomes part
of B's journal. From then on A has no jobs and is not listed; `submit A.json` takes over from B in the same way.

The folder keeps its name, by which the jobs that run know it, and gets another, a link: renaming it would lose what a job
writes at that moment. Whoever removes it removes all its names.

The order makes it safe to die anywhere. First comes the link, which harms nobody; then a mark in A's record that names B; it
counts only while B's journal has the event `TookOver`, which is one line and comes last. When B's record is forgotten, A is
told what became of its jobs; it stays unlisted, and `submit A.json` goes on from there.

What is refused: to take over from a submission that has other jobs of its own under way, because a folder cannot belong to
both, and to run a task that is under way with other resources or in another batch system. Submissions that have ended are not
touched; results of equal tasks with equal inputs that are home count.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from secrets import token_hex

from ...pilot.model.errors import JournalError, RefusedError
from ..contexts.base import Context, LocalFile
from ..contexts.shell import Text, relative, sh
from . import store as record
from .adopt import remove_folder
from .batch_job import BatchJob, Phase
from .events import Canceled, Event, Fetched, FolderGone, Inherited, TookOver
from .journal import InUseError, Journal
from .replay import is_beside, replay_record
from .session import Site
from .state import Progress
from .store import Record

_UNDER_WAY = (Phase.INTENDED, Phase.PLACED)

# All are names in the current folder. `{new}` is there already when we take back what had been ours.
_LINK = """\
if [ -d {old} ] && [ ! -e {new} ]; then
  rm -f -- {new}
  ln -s -- "$(basename -- "$(readlink -f -- {old})")" {new} || exit 1
fi
[ ! -e {new} ] || rm -f -- {new}/{old}.json"""
_UNLINK = "if [ -L {old} ]; then rm -f -- {new}; fi"
_CLEAR = 'while read -r name; do rm -rf -- ".$name".* "$name"[._]*; done'
# What is there is only the other's from now on.
_PART = """\
if [ -L {new} ]; then rm -f -- {new}
elif [ -L {old} ] && [ {old} -ef {new} ]; then rm -f -- {old} && mv -- {new} {old}; fi"""


@dataclass(frozen=True)
class _Earlier:
    """Another submission, whose journal is held.

    Attributes:
        jobs: what became of its jobs, by hash.
        digests: of its inputs, as far as they had arrived.
    """

    record: Record
    journal: Journal
    events: Sequence[Event]
    progress: Progress
    digests: Mapping[str, str] | None

    @property
    def jobs(self) -> Mapping[str, BatchJob]:
        return self.progress.jobs


def take_over(
    site: Site,
    files: Mapping[str, Sequence[LocalFile]],
    *,
    before: bool,
    retry_failed: bool = False,
) -> list[TookOver]:
    """Take over what other submissions from here have of the jobs that we are going to place.

    To be called when all inputs are known to be there, before anything is uploaded. Raises RefusedError.

    Args:
        files: the inputs of each task, common ones included.
        before: we have a folder on the machine, or have taken one over.
        retry_failed: jobs that failed for good are going to be placed again.
    """
    took: list[TookOver] = []
    successor = record.successor(site.record.hash)
    if successor is not None:
        took = _take_from(site, [successor], files, lambda job: True, again=True)
        record.set_successor(site.record, None)
        before = True

    def is_wanted(job: BatchJob) -> bool:
        return _is_fresh(job) or job.phase is Phase.CANCELED or (retry_failed and job.phase is Phase.FAILED)

    if not before and not site.context.in_place:
        _run_on(site.context, _UNLINK, site.work.root, site.work.root)  # we may have died after we had made it
    others = [name for name in record.names() if name != site.record.hash]
    return took + _take_from(site, others, files, is_wanted)


def release(own: Record, progress: Progress) -> None:
    """Our record is going to be forgotten, and our folder has been removed: tell the submissions that we had taken over."""
    for name in record.taken_over_by(own.hash):
        try:
            theirs = record.load(name)
        except JournalError:
            continue
        with Journal(theirs.journal) as journal:
            known, _ = replay_record(theirs, journal.open())
            _tell(journal, known, progress)
        if all(job.phase.final for job in known.jobs.values()) and any(
            job.phase is Phase.CANCELED for job in known.jobs.values()
        ):
            release(theirs, known)
            record.forget(theirs)
        else:
            record.set_successor(theirs, record.NOBODY)


def _tell(journal: Journal, known: Progress, progress: Progress) -> None:
    happened: list[Event] = []
    for job in known.jobs.values():
        ours = progress.jobs.get(job.hash)
        if ours is None:
            continue
        done = tuple(result for result in ours.results.values() if result.exit_code == 0)
        if ours.phase is Phase.DONE:
            happened += [Inherited(job.hash, done), Fetched(job.hash)]
        else:
            happened.append(Canceled(job.hash, "its folder was removed", done))
    happened.append(FolderGone())
    journal.write(*happened)
    for event in happened:
        known.apply(event)


# --- one other submission -----------------------------------------------------------------------------------------------------


def _take_from(
    site: Site,
    names: Iterable[str],
    files: Mapping[str, Sequence[LocalFile]],
    is_wanted: Callable[[BatchJob], bool],
    again: bool = False,
) -> list[TookOver]:
    """From all of these or from none.

    `again`: our own record says that it was taken over by that one, so what it knows counts more than what we do.
    """
    with ExitStack() as stack:
        found = [_held(site, name, is_wanted, stack) for name in names]
        transfers = [_Transfer(site, earlier, files, is_wanted, again) for earlier in found if earlier is not None]
        needed = [transfer for transfer in transfers if transfer.is_needed()]
        if needed and not again and not site.context.in_place:
            places = 0 if site.context.run(sh("true"), cwd=site.work.root).code == 0 else 1
            if len(needed) > places:
                raise needed[-1].refusal("and others as part of another")
        others = [transfer for transfer in transfers if transfer not in needed]
        return [event for transfer in (*needed, *others) for event in transfer.carry_out()]


def _held(site: Site, name: str, is_wanted: Callable[[BatchJob], bool], stack: ExitStack) -> _Earlier | None:
    """That submission, held until the stack is left; None when it has nothing to do with the jobs that are wanted."""
    try:
        theirs = record.load(name)
    except JournalError:
        return None
    if theirs.description.pilot is not None or not is_beside(theirs, site.record):
        return None
    tasks = {task for job in site.progress.jobs.values() if is_wanted(job) for task in job.tasks}
    if tasks.isdisjoint(task.task_hash for task in theirs.description.tasks):
        return None
    journal = stack.enter_context(Journal(theirs.journal))
    try:
        events = journal.open()
    except InUseError as error:
        what = "another launcher works on a submission with the same tasks"
        remedy = f"wait for it, or `pilotfish submissions cancel {name[:10]}`"
        raise RefusedError(what, where=name, remedy=remedy) from error
    progress, sent = replay_record(theirs, events)
    return _Earlier(theirs, journal, events, progress, sent.digests)


class _Transfer:
    """What we take from one earlier submission."""

    def __init__(
        self,
        site: Site,
        earlier: _Earlier,
        files: Mapping[str, Sequence[LocalFile]],
        is_wanted: Callable[[BatchJob], bool],
        again: bool,
    ) -> None:
        self._site = site
        self._earlier = earlier
        self._files = files
        self._again = again
        self._is_wanted = is_wanted
        wanted = {name for name, job in site.progress.jobs.items() if is_wanted(job)}
        self._shared = [job for name, job in earlier.jobs.items() if name in wanted]
        self._others = [job for name, job in earlier.jobs.items() if name not in wanted]

    def is_needed(self) -> bool:
        """Whether its folder has to become ours. Raises RefusedError when that cannot be."""
        own = {task for job in self._site.progress.jobs.values() if self._is_wanted(job) for task in job.tasks}
        for job in self._others:  # a task must not run beside itself
            if job.phase in _UNDER_WAY and any(name in own and name not in job.results for name in job.tasks):
                raise self._refusal([job], "with other resources or another group_size")
        theirs = self._earlier.record.description.machine.batch_type
        running = [job for job in self._shared if job.phase in _UNDER_WAY]
        if running and theirs != self._site.record.description.machine.batch_type:  # which knows nothing of their ids
            raise self._refusal(running, f"which has another batch system ({theirs})")
        needed = [job for job in self._shared if _needs_folder(job)]
        if needed and any(_needs_folder(job) for job in self._others):
            raise self._refusal(needed, "which has other jobs under way")
        if self._again and not self._site.context.in_place:
            self._check_parting()
        return bool(needed)

    def _check_parting(self) -> None:
        """The folder may be theirs by a link to ours: it stays as it is while they need it and we are not over.

        Raises RefusedError.
        """
        running = [job for job in self._others if job.phase in _UNDER_WAY]
        if running:  # they know the folder by its path
            raise self._refusal(running, "in the folder of this one")
        owed = [job for job in self._others if _needs_folder(job)]
        if owed and not all(self._is_home(job) for job in self._shared):
            name = self._earlier.record.hash[:10]
            what = f"results of submission {name} that are not home are in the folder of this one"
            remedy = f"`pilotfish submissions watch {name}` brings them home, `clean --force {name}` gives them up"
            raise RefusedError(what, where=self._earlier.record.hash, remedy=remedy)

    def refusal(self, why: str) -> RefusedError:
        return self._refusal([job for job in self._shared if _needs_folder(job)], why)

    def _refusal(self, jobs: Sequence[BatchJob], why: str) -> RefusedError:
        name = self._earlier.record.hash[:10]
        return RefusedError(
            f"job {jobs[0].hash[:8]} is under way as part of submission {name}, {why}",
            where=self._earlier.record.hash,
            remedy=f"`pilotfish submissions watch {name}` brings it to its end, `cancel {name}` ends it",
        )

    def carry_out(self) -> list[TookOver]:
        jobs = self._site.progress.jobs
        self._shared = [
            job for job in self._shared if self._is_wanted(jobs[job.hash])
        ]  # not taken from another just now
        if all(self._is_home(job) for job in self._shared) and self._shared:
            self._inherit()
        elif any(_needs_folder(job) for job in self._others):
            self._leave_the_rest()
        else:
            return [self._take_all()]
        return []

    def _is_home(self, job: BatchJob) -> bool:
        return job.phase is Phase.DONE and job.is_home and self._has_same_inputs(job)

    def _has_same_inputs(self, job: BatchJob) -> bool:
        known = self._earlier.digests
        if known is None:
            return False
        return all(known.get(file.path) == file.digest for name in job.tasks for file in self._files[name])

    def _inherit(self) -> None:
        """Results of jobs that have ended there and are home count here too; nothing changes there."""
        if self._again:
            _run_on(self._site.context, _PART, self._earlier.record.root, self._site.work.root)
        for job in self._shared:
            done = tuple(job.results[name] for name in job.tasks if name in job.results)
            self._note(Inherited(job.hash, done), Fetched(job.hash))
        self._tell_of("results that are home count")

    def _leave_the_rest(self) -> None:
        """The earlier submission goes on with its other jobs, but no more with those that are ours now."""
        for job in self._shared:
            if self._is_home(job):
                self._note(Inherited(job.hash, tuple(job.results.values())), Fetched(job.hash))
            elif not job.phase.final:
                self._earlier.journal.write(Canceled(job.hash, f"is part of submission {self._site.record.hash[:10]}"))

    def _take_all(self) -> TookOver:
        site, root = self._site, self._earlier.record.root
        shares = root != site.work.root and not site.context.in_place
        if shares and not self._again and site.context.run(sh("true"), cwd=site.work.root).code == 0:
            remove_folder(site.context, root)  # `is_needed` was False: nothing in it is needed
            shares = False
        names = {job.hash for job in self._shared}
        wanted = {file.path for files in self._files.values() for file in files}
        digests = {path: digest for path, digest in (self._earlier.digests or {}).items() if path in wanted}
        known = None if self._earlier.digests is None else digests
        token, history = token_hex(8), _history(self._earlier.events, names)
        event = TookOver(self._earlier.record.hash, token, known, tuple(sorted(names)), history)
        if shares:
            _run_on(site.context, _LINK, root, site.work.root)
            if not self._again:
                self._clear([job for name, job in site.progress.jobs.items() if name not in names and _is_fresh(job)])
        record.set_successor(self._earlier.record, site.record.hash, token)
        self._note(event)
        living = sum(job.phase in _UNDER_WAY for job in self._shared)
        left = sum(not job.phase.final for job in self._others)
        rest = f"; {left} jobs of it are not ours and are not begun until it is submitted again" if left else ""
        self._tell_of(f"it is continued here: {len(names)} jobs, of which {living} may still run{rest}")
        return event

    def _clear(self, jobs: Sequence[BatchJob]) -> None:
        """An older form of ours may have had these jobs in that folder, and cancelled them; for us they are new."""
        context, root = self._site.context, self._site.work.root
        if not jobs or context.run(sh("true"), cwd=root).code:
            return
        for job in jobs:
            self._site.work.forget(context, job, job.tasks)
        context.run(sh(_CLEAR), cwd=root, stdin="".join(f"{job.hash}\n" for job in jobs).encode())

    def _note(self, *happened: Event) -> None:
        for event in happened:
            self._site.note(event)
        self._site.progress.full = False

    def _tell_of(self, what: str) -> None:
        self._site.tools.tell(f"submission {self._earlier.record.hash[:10]} has the same tasks: {what}")


def _is_fresh(job: BatchJob) -> bool:
    return job.phase is Phase.NEW and not (job.attempt or job.failures or job.results)


def _needs_folder(job: BatchJob) -> bool:
    """Whether something of it is in the submission's folder and nowhere else: it runs there, or its results are there."""
    if job.phase in _UNDER_WAY:
        return True
    if job.phase is Phase.NEW:
        return bool(job.attempt)
    return not job.is_home and (job.phase is not Phase.CANCELED or bool(job.results))


def _history(events: Iterable[Event], names: Collection[str]) -> tuple[Event, ...]:
    """All that has happened to these jobs, what others have handed on included."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, TookOver):
            found = [each for each in found if _job_of(each) not in event.jobs]
            found += [each for each in event.events if _job_of(each) in names]
        elif _job_of(event) in names:
            found.append(event)
    return tuple(found)


def _job_of(event: Event) -> str:
    return str(getattr(event, "job", ""))


def _name(path: str) -> Text:
    return relative(posixpath.basename(os.path.normpath(path)))


def _run_on(context: Context, command: str, old: str, new: str) -> None:
    """Both are in the same folder."""
    where = posixpath.dirname(new)
    if context.run(sh("true"), cwd=where).code:
        return  # nothing of it has got as far as the machine
    if context.run(sh(command, old=_name(old), new=_name(new)), cwd=where).code:
        what = f"cannot go on in {old}: it cannot get the name {new}"
        raise RefusedError(what, where=old, remedy="remove or rename one of these folders")
