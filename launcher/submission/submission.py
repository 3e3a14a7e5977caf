"""One submission from its description to its results: what `pilotfish submit` and the Python classes stand on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...pilot.model.errors import RefusedError
from ..contexts.base import Context, Watch
from ..contexts.globs import MissingFileError
from ..contexts.paths import printable
from ..contexts.registry import build_context
from ..description.identity import submission_hash, task_hash
from ..description.parse import MachineDescription, SubmissionDescription
from ..description.schema import DescriptionError
from ..machines.registry import build_machine
from . import adopt as old_run
from . import events, takeover
from . import store as record
from . import table as results
from .journal import Journal
from .pilot_jobs import PilotWork
from .plain_jobs import PlainWork, Work
from .runner import Outcome, Runner, SubmissionFailedError
from .session import Site, Tools
from .state import Job, Phase, PilotProgress, Progress
from .store import Record
from .upload import Gathered, Inputs, gather

CLEAN = {True: "always", "always": "always", False: "never", "never": "never", "on_success": "on_success"}


ASKED_FOR = "asked for"


def _silent(text: str) -> None:
    pass


def _uncounted(counts: dict[str, int]) -> None:
    pass


def _nothing(what: str) -> Watch | None:
    return None


@dataclass
class Placement:
    """A submission with everything opened that is needed to work on it."""

    record: Record
    inputs: Inputs
    runner: Runner
    progress: Progress
    work: Work
    context: Context
    digests: Mapping[str, str] | None
    known: Mapping[str, str] | None
    """As `digests`, with those of inputs that submissions which were taken over have sent."""
    took_over: bool
    """Another submission was taken over since the last upload."""
    folder_gone: bool
    """Inputs have to be sent again."""

    def upload(self, gathered: Gathered) -> None:
        """Bring over what is not there yet."""
        noted = self.digests is not None and not self.folder_gone
        self.inputs.upload(self.known, gathered, noted=noted)

    def raise_missing(self) -> None:
        """Raises MissingFileError while a result of a task that has ended well is not home."""
        raise_missing(self.record.hash, self.work, self.progress.missing())


def raise_missing(name: str, work: Work, missing: Sequence[events.Missing]) -> None:
    """Raises MissingFileError when a result of a task that has ended well is missing; `name` is the submission's."""
    if not missing:
        return
    what = work.explained(missing[0]) + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
    why = "" if missing[0].why else "the tasks succeeded without making it; "
    remedy = f"{why}nothing was removed. When it is there `pilotfish submissions watch {name[:10]}` fetches it;"
    remedy += f" `pilotfish submissions clean --force {name[:10]}` gives it up"
    raise MissingFileError(what, where=printable(missing[0].pattern), remedy=remedy)


class Submission:
    """Tasks, a machine and resources.

    Args:
        description: what is to be run.
        tell: called with one line of news at a time.
        count: called with the numbers of tasks that are done, running, failed and in all, from time to time.
        watch: called with `upload` or `download`; what it returns is called with bytes done and bytes in all.
    """

    def __init__(
        self,
        description: SubmissionDescription,
        *,
        tell: Callable[[str], None] = _silent,
        watch: Callable[[str], Watch | None] = _nothing,
        count: Callable[[dict[str, int]], None] = _uncounted,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        machine = description.machine
        local_root = Path(machine.local_root).expanduser().absolute()
        self.description = replace(description, machine=replace(machine, local_root=str(local_root)))
        self.local_work = local_root / description.work_base
        self.hash = submission_hash(self.description, str(self.local_work))
        self.last: Progress | None = None
        """The jobs as the last run left them; their record may be gone by now."""
        self._tools = Tools(clock, sleep, tell, watch, count)

    @classmethod
    def of(cls, found: Record, **options: object) -> Submission:
        """The submission of a record; its id is the record's."""
        made = cls(found.description, **options)  # type: ignore[arg-type]
        made.hash, made.local_work = found.hash, found.local_work
        return made

    # --- running --------------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        detach: bool = False,
        clean: bool | str = True,
        check_interval_s: float = 30.0,
        retry_failed: bool = False,
        only_watch: bool = False,
    ) -> Outcome:
        """Place the jobs, wait for them, bring home what they make; go on where an earlier run has stopped.

        Args:
            detach: return when all jobs are handed over; a later run (or `pilotfish submissions watch`) goes on.
            clean: remove the folder on the machine: "always" (True) or "on_success", which are the same here because a
                submission that failed is always kept, or "never" (False).
            check_interval_s: longest time between two looks at the batch system.
            retry_failed: place jobs again that have failed for good, and tasks again whose results are missing.
            only_watch: bring to its end what was begun: cancelled jobs stay cancelled, inputs are not looked at again.

        Raises:
            SubmissionFailedError: jobs failed for good.
            MissingFileError: an input, or a result of a task that succeeded, is not there.
            ContextLostError: the machine could not be reached again.
        """
        strategy = _strategy(clean)
        gathered = None if only_watch else self.gather()
        with self.opened(take_back=not only_watch) as opened:
            if gathered is None and (opened.digests is None or opened.folder_gone):
                gathered = self.gather()
            previous = self.description.previous_submission_hash if opened.digests is None else None
            if previous:
                self._inherit(opened, previous)
            if gathered is not None:
                self._take_over(opened, gathered, retry_failed)
            if retry_failed:
                self._renew(opened, Phase.FAILED)
            if not only_watch:
                self._renew(opened, Phase.CANCELLED)
            if gathered is not None:
                self._upload(opened, gathered)
            if previous:  # not before: a run that dies in between inherits once more
                _forget_other(previous, self.hash)
            outcome = opened.runner.run(check_interval_s=check_interval_s, only_submit=detach)
            if not outcome.over:
                return outcome
            results.write(self.local_work, opened.work, opened.progress)
            self._raise_failures(opened)
            if strategy != "never":
                opened.runner.clean()
                self.forget(opened)
        return outcome

    def forget(self, opened: Placement) -> None:
        """Nothing of the submission is left on the machine: remove its record."""
        takeover.release(opened.record, opened.progress, type(self))
        record.forget(opened.record)

    def _take_over(self, opened: Placement, gathered: Gathered, retry_failed: bool) -> None:
        """Go on with what other submissions from here, or DPDispatcher, have begun of our jobs."""
        if self.description.pilot is not None:
            return
        site = opened.runner.site
        before = opened.took_over or opened.digests is not None
        inputs = gathered.by_task()
        for event in takeover.take_over(site, type(self), inputs, before=before, retry_failed=retry_failed):
            opened.known = {**(opened.known or {}), **(event.digests or {})}
        if opened.digests is None:
            old_run.take_over(site)

    def _inherit(self, opened: Placement, previous: str) -> None:
        """Take over what tasks of an earlier submission (with other resources, say) have done: their results and its folder.

        Raises UnknownSubmissionError without its record, DescriptionError when it is elsewhere or still has living jobs.
        """
        if previous not in record.names() and old_run.inherit(opened.runner.site, previous):
            return
        before = Submission.of(record.find(previous))
        theirs = before.peek()
        if not before.is_beside(opened.record):
            what = "the previous submission was on another machine, or of other folders"
            raise DescriptionError(what, where="previous_submission_hash")
        if theirs.placed():
            remedy = f"`pilotfish submissions cancel {previous[:10]}` first, or watch it"
            raise DescriptionError(
                "the previous submission has living jobs", where="previous_submission_hash", remedy=remedy
            )
        done = {name: r for job in theirs.jobs.values() for name, r in job.results.items() if r.exit_code == 0}
        opened.inputs.inherit(before.work(opened.context, connected=True).root, done)

    def gather(self) -> Gathered:
        """All inputs as they are here; asks no machine. Raises MissingFileError for what is not there, the folder included."""
        self.work(self.context())  # says what is wrong with the tasks themselves
        return gather(self.description, self.local_work)

    def _upload(self, opened: Placement, gathered: Gathered) -> None:
        opened.upload(gathered)
        if opened.known is not None and all(job.phase is Phase.DONE for job in opened.progress.jobs.values()):
            done = opened.progress.counts()["done"]
            self._tools.tell(f"all {done} tasks have ended before and their inputs are the same: nothing to run")

    def _renew(self, opened: Placement, phase: Phase) -> None:
        """Place jobs again that failed for good or whose results are missing, or that somebody cancelled.

        Not those that were not needed any more.
        """
        for job in opened.progress.jobs.values():
            missing = {each.task for each in job.missing} if phase is Phase.FAILED else set()
            if missing or (job.phase is phase and (phase is Phase.FAILED or job.detail == ASKED_FOR)):
                bad = (n for n in job.tasks if n in missing or n not in job.results or job.results[n].exit_code != 0)
                opened.inputs.renew(job, tuple(bad), ASKED_FOR)

    def _raise_failures(self, opened: Placement) -> None:
        failed = [job for job in opened.progress.jobs.values() if job.phase is Phase.FAILED]
        if failed:
            lines = [f"{len(failed)} of {len(opened.progress.jobs)} jobs failed for good"]
            lines += [_explained(job, opened.work) for job in failed[:5]]
            lines += [opened.work.explained(each) for each in opened.progress.missing()[:5]]
            remedy = f"their files are kept in {opened.work.root}; `pilotfish submit --retry-failed` places them again"
            raise SubmissionFailedError("\n".join(lines), where=self.hash, remedy=remedy)
        opened.raise_missing()

    # --- parts ----------------------------------------------------------------------------------------------------------

    def scripts(self) -> dict[str, str]:
        """What would be handed to the batch system, by name: nothing is connected, written or submitted."""
        context = self.context()
        machine, work = build_machine(self.description.machine.batch_type), self.work(context)
        found: dict[str, str] = {}
        for job in self.new_progress(work).jobs.values():
            found |= machine.script(work.to_place(job))
            found |= {name: text.decode() for name, text in work.files(job).items()}
        return found

    def context(self) -> Context:
        return build_context(self.description.machine)

    def work(self, context: Context, *, connected: bool = False) -> Work:
        """The batch jobs. Where the folder on the machine really is only the machine knows, should it be given as `~/...`."""
        # Once begun it stays where it is: a relative root or a variable may mean another place by now.
        root = record.root_of(self.hash) or context.root_for(self.hash, self.description.work_base)
        root = context.absolute(root) if connected else root
        if self.description.pilot is not None:
            return PilotWork(self.description, root)
        return PlainWork(self.description, root)

    def new_progress(self, work: Work) -> Progress:
        resources, settle_s = self.description.resources, build_machine(self.description.machine.batch_type).settle_s
        if self.description.pilot is not None:
            return PilotProgress(
                work.jobs(),
                max_allocations=self.description.pilot.max_allocations,
                ratio_unfinished=resources.ratio_unfinished,
                settle_s=settle_s,
            )
        return Progress(
            work.jobs(),
            retry_count=self.description.machine.retry_count,
            max_jobs=resources.max_jobs,
            ratio_unfinished=resources.ratio_unfinished,
            settle_s=settle_s,
        )

    @contextmanager
    def opened(self, *, take_back: bool = False) -> Iterator[Placement]:
        """The submission with its journal held and read, ready to be worked on.

        Raises RefusedError when it has become part of another one, unless `take_back`.
        """
        successor = record.successor(self.hash)
        if successor is not None and not take_back:
            what = f"it has become part of submission {successor[:10]}"
            raise RefusedError(what, where=self.hash, remedy="work on that one")
        with self.context() as context:
            context.tell = self._tools.tell
            work = self.work(context, connected=True)
            found = self._record(work.root)
            progress = self.new_progress(work)
            with Journal(found.journal, self._tools.clock) as journal:
                happened = journal.open()
                digests, known, took_over, folder_gone = _replayed(happened, progress)
                machine = build_machine(self.description.machine.batch_type)
                self.last = progress
                runner = Runner(Site(found, work, machine, context, journal, progress, self._tools))
                inputs = Inputs(runner.site, runner.cancel)
                try:
                    yield Placement(
                        found, inputs, runner, progress, work, context, digests, known, took_over, folder_gone
                    )
                finally:
                    if not happened and found.journal.exists() and not found.journal.stat().st_size:
                        record.forget(found)  # nothing has been begun

    def _record(self, root: str) -> Record:
        folder = record.home() / self.hash
        known = folder / "submission.json"
        if known.exists():
            return replace(record.load(self.hash), description=self.description)
        made = Record(self.hash, folder, self.description, self.local_work, root, self._tools.clock())
        record.save(made)
        return made

    def cancel(self) -> int:
        """End all jobs that are not over; how many there were."""
        with self.opened() as opened:
            living = [job for job in opened.progress.jobs.values() if not job.phase.final]
            opened.runner.cancel(living, ASKED_FOR)
            return len(living)

    def peek(self) -> Progress:
        """What is known without asking the machine: reads the journal, holds nothing."""
        progress = self.new_progress(self.work(self.context()))
        journal = record.home() / self.hash / "journal"
        if journal.exists():
            from .journal import read

            _replayed(read(journal.read_bytes(), str(journal))[0], progress)
        return progress

    # --- for those who look at it beside another one --------------------------------------------------------------------

    @property
    def record_folder(self) -> Path:
        return record.home() / self.hash

    def as_record(self) -> Record:
        return record.load(self.hash)

    def tasks(self) -> set[str]:
        """The hashes of its tasks."""
        return {task_hash(task) for task in self.description.tasks}

    def is_beside(self, other: Record) -> bool:
        """Whether it has the same folder here, and its own beside that one's on the same machine."""
        same_machine = _is_same_machine(self.description.machine, other.description.machine)
        folders = [PurePosixPath(root).parent for root in (self.as_record().root, other.root)]
        return self.local_work == other.local_work and same_machine and folders[0] == folders[1]

    def replayed(self, happened: Iterable[events.Event]) -> tuple[Progress, Mapping[str, str] | None]:
        """(its jobs, the digests of its inputs) after these events."""
        progress = self.new_progress(self.work(self.context()))
        return progress, _replayed(happened, progress)[1]


def _is_same_machine(one: MachineDescription, other: MachineDescription) -> bool:
    """Who logs in without a name does so with the name that the other has; one host may be many, by their ports."""
    names = [machine.profile.get("username") for machine in (one, other)]
    places = [
        (machine.context_type, machine.profile.get("hostname"), machine.profile.get("port") or 22)
        for machine in (one, other)
    ]
    return places[0] == places[1] and (None in names or names[0] == names[1])


def _forget_other(beginning: str, own: str) -> None:
    if beginning not in record.names():  # one of DPDispatcher
        return
    found = record.find(beginning)
    if found.hash != own:
        record.forget(found)


def _replayed(
    happened: Iterable[events.Event], progress: Progress
) -> tuple[Mapping[str, str] | None, Mapping[str, str] | None, bool, bool]:
    """Bring progress up to date; the last four members of a Placement."""
    digests: Mapping[str, str] | None = None
    known: Mapping[str, str] | None = None
    took_over = folder_gone = False
    for event in happened:
        if isinstance(event, events.Uploaded):
            digests, known, took_over, folder_gone = event.digests, event.digests, False, False
        elif isinstance(event, events.TookOver):
            digests, known, took_over = None, {**(known or {}), **(event.digests or {})}, True
        elif isinstance(event, events.FolderGone):
            folder_gone = True
        progress.apply(event)
    progress.full = False
    return digests, known, took_over, folder_gone


def _strategy(clean: bool | str) -> str:
    if clean not in CLEAN:
        options = "True, 'always', False, 'never', 'on_success'"
        raise DescriptionError(f"Unknown clean strategy {clean!r}. Valid options: {options}", where="clean")
    return CLEAN[clean]


def _explained(job: Job, work: Work) -> str:
    """Why a job failed, in a line or a few."""
    lines = [f"job {job.hash} ({job.id or 'never submitted'}) failed {job.failures + job.innocent} times: {job.reason}"]
    bad = [name for name in job.tasks if name in job.results and job.results[name].exit_code != 0]
    lines += [
        f"  task in {work.tasks[name].task_work_path}: exit code {job.results[name].exit_code}" for name in bad[:5]
    ]
    if job.detail:
        lines += [f"  {line}" for line in job.detail.splitlines()[-10:]]
    return "\n".join(lines)
