"""A submission placed on its machine: from its description to its results, going on wherever an earlier run has stopped.

`Placement` is the submission as its record has it: it can be run, looked at and cancelled, by this program or a later one.
`Opened` is the same while a program works on it: the journal is held, so no other program does, and the machine is connected.
What is decided is decided in state.py, what is done is done by runner.py; here is the order of the whole: inputs are looked for
before anything is touched, others' work on the same tasks is taken over before anything is sent, and the record is forgotten
only when nothing is left on the machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...pilot.model.errors import RefusedError
from ..contexts.base import Context, Watch
from ..contexts.globs import MissingFileError
from ..contexts.paths import printable
from ..contexts.registry import build_context
from ..description import pep723
from ..description.identity import submission_hash
from ..description.schema import DescriptionError
from ..description.submission import SubmissionDescription
from ..machines.base import BatchSystem
from ..machines.registry import build_machine
from . import adopt, dpdispatcher_record, events, store, table, takeover
from .batch_job import ASKED_FOR, BatchJob, Phase
from .journal import Journal
from .own_classes import OwnBatchSystem
from .replay import Sent, build_work, is_beside, new_progress, read_journal, replay, replay_record
from .runner import Outcome, Runner, SubmissionFailedError
from .session import Site, Tools
from .state import Progress
from .store import Record
from .upload import Gathered, Inputs, gather
from .work import Work

log = logging.getLogger(__name__)

_CLEAN = {True: "always", "always": "always", False: "never", "never": "never", "on_success": "on_success"}


def _silent(text: str) -> None:
    pass


def _uncounted(counts: dict[str, int]) -> None:
    pass


def _nothing(direction: str) -> Watch | None:
    return None


@dataclass
class Opened:
    """A submission that is being worked on: everything that is needed for it, open."""

    record: Record
    inputs: Inputs
    runner: Runner
    progress: Progress
    work: Work
    context: Context
    sent: Sent

    def upload(self, gathered: Gathered) -> None:
        """Bring over what is not there yet."""
        noted = self.sent.digests is not None and not self.sent.folder_gone
        self.inputs.upload(self.sent.known, gathered, noted=noted)

    def raise_missing(self) -> None:
        """Raises MissingFileError while a result of a task that has ended well is not home."""
        raise_missing(self.record.hash, self.work, self.progress.missing())

    def forget(self) -> None:
        """Nothing of the submission is left on the machine: remove its record."""
        takeover.release(self.record, self.progress)
        store.forget(self.record)
        copies = pep723.copies(self.record.description.forward_common_files)
        store.remove_unneeded(self.record.local_work / name for name in copies)


def raise_missing(name: str, work: Work, missing: Sequence[events.Missing]) -> None:
    """Raises MissingFileError when a result of a task that has ended well is missing; `name` is the submission's."""
    if not missing:
        return
    what = work.explained(missing[0]) + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
    why = "" if missing[0].why else "the tasks succeeded without making it; "
    remedy = f"{why}nothing was removed. When it is there `pilotfish submissions watch {name[:10]}` fetches it;"
    remedy += f" `pilotfish submissions clean --force {name[:10]}` gives it up"
    raise MissingFileError(what, where=printable(missing[0].pattern), remedy=remedy)


class Placement:
    """A submission and its record.

    Args:
        description: what is to be run.
        tell: called with one line of news at a time.
        count: called with the numbers of tasks that are done, running, failed and in all, from time to time.
        watch: called with `upload` or `download`; what it returns is called with bytes done and bytes in all.
        batch, way: the batch system and the way to it, where they are classes of somebody's own.
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
        batch: BatchSystem | None = None,
        way: Context | None = None,
    ) -> None:
        machine = description.machine
        local_root = Path(machine.local_root).expanduser().absolute()
        self.description = replace(description, machine=replace(machine, local_root=str(local_root)))
        self.local_work = local_root / description.work_base
        self.hash = submission_hash(self.description, str(self.local_work))
        self.last: Progress | None = None
        """The jobs as the last run left them; their record may be gone by now."""
        self._tools = Tools(clock, sleep, tell, watch, count)
        self._batch, self._way = batch, way

    @classmethod
    def of(cls, record: Record, **options: Any) -> Placement:
        """The submission of a record; its id is the record's."""
        placement = cls(record.description, **options)
        placement.hash, placement.local_work = record.hash, record.local_work
        return placement

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
        if not check_interval_s >= 0:
            raise DescriptionError(
                f"{check_interval_s:g} is no time to wait", where="check_interval", remedy="write 0 or more"
            )
        gathered = None if only_watch else self.gather()
        with self.opened(take_back=not only_watch) as opened:
            if gathered is None and (opened.sent.digests is None or opened.sent.folder_gone):
                gathered = self.gather()
            previous = self.description.previous_submission_hash if opened.sent.digests is None else None
            if previous:
                self._inherit(opened, previous)
            if gathered is not None:
                self._take_over(opened, gathered, retry_failed)
            if retry_failed:
                self._renew(opened, Phase.FAILED)
            if not only_watch:
                self._renew(opened, Phase.CANCELED)
            if gathered is not None:
                self._upload(opened, gathered)
            if previous:  # not before: a run that dies in between inherits once more
                _forget_other(previous, self.hash)
            outcome = opened.runner.run(check_interval_s=check_interval_s, only_submit=detach)
            if not outcome.over:
                return outcome
            table.write(self.local_work, opened.work, opened.progress)
            self._raise_failures(opened)
            if strategy != "never":
                opened.runner.clean()
                opened.forget()
        return outcome

    def _take_over(self, opened: Opened, gathered: Gathered, retry_failed: bool) -> None:
        """Go on with what other submissions from here, or DPDispatcher, have begun of our jobs."""
        if self.description.pilot is not None:
            return
        site = opened.runner.site
        had_folder = opened.sent.took_over or opened.sent.digests is not None
        digests = opened.sent.known
        for event in takeover.take_over(site, gathered.by_task(), before=had_folder, retry_failed=retry_failed):
            digests = {**(digests or {}), **(event.digests or {})}
        opened.sent = replace(opened.sent, known=digests)
        if opened.sent.digests is None:
            adopt.take_over(site)

    def _inherit(self, opened: Opened, previous: str) -> None:
        """Take over what tasks of an earlier submission (with other resources, say) have done: their results and its folder.

        Raises UnknownSubmissionError without its record, DescriptionError when it is elsewhere or still has living jobs.
        """
        if previous not in store.names() and adopt.inherit(opened.runner.site, previous):
            return
        before = store.find(previous)
        if not is_beside(before, opened.record):
            what = "the previous submission was on another machine, or of other folders"
            raise DescriptionError(what, where="previous_submission_hash")
        theirs, _ = replay_record(before, read_journal(before))
        if theirs.placed():
            remedy = f"`pilotfish submissions cancel {previous[:10]}` first, or watch it"
            raise DescriptionError(
                "the previous submission has living jobs", where="previous_submission_hash", remedy=remedy
            )
        done = {name: r for job in theirs.jobs.values() for name, r in job.results.items() if r.exit_code == 0}
        opened.inputs.inherit(opened.context.absolute(before.root), done)

    def gather(self) -> Gathered:
        """All inputs as they are here; asks no machine. Raises MissingFileError for what is not there, the folder included."""
        work = self.work(self.context())  # says what is wrong with the tasks themselves
        if len(work.tasks) < len(self.description.tasks):
            count = len(self.description.tasks) - len(work.tasks)
            log.warning("%s of %s tasks are equal to others and run once", count, len(self.description.tasks))
        for name in self.description.resources.unexpanded():
            log.warning(
                "resources.envs.%s: is set as it is written; write `export` in prepend_script to expand it", name
            )
        return gather(self.description, self.local_work)

    def _upload(self, opened: Opened, gathered: Gathered) -> None:
        opened.upload(gathered)
        if opened.sent.known is not None and all(job.phase is Phase.DONE for job in opened.progress.jobs.values()):
            done = opened.progress.counts()["done"]
            self._tools.tell(f"all {done} tasks have ended before and their inputs are the same: nothing to run")

    def _renew(self, opened: Opened, phase: Phase) -> None:
        """Place jobs again that failed for good or whose results are missing, or that somebody cancelled.

        Not those that were not needed any more.
        """
        for job in opened.progress.jobs.values():
            missing = {each.task for each in job.missing} if phase is Phase.FAILED else set()
            if missing or (job.phase is phase and (phase is Phase.FAILED or job.detail == ASKED_FOR)):
                bad = (n for n in job.tasks if n in missing or n not in job.results or job.results[n].exit_code != 0)
                opened.inputs.renew(job, tuple(bad), ASKED_FOR)

    def _raise_failures(self, opened: Opened) -> None:
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
        machine, work = self._system(), self.work(self.context())
        texts: dict[str, str] = {}
        for job in new_progress(self.description, work).jobs.values():
            texts |= machine.script(work.to_place(job))
            texts |= {name: text.decode() for name, text in work.files(job).items()}
        return texts

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        """(hash, hashes of tasks) of all jobs."""
        return self.work(self.context()).jobs()

    @property
    def root(self) -> str:
        """Its folder on the machine, as far as that is known here."""
        return self.work(self.context()).root

    @property
    def is_recorded(self) -> bool:
        """Whether it was begun, and is not over."""
        return (store.home() / self.hash / "submission.json").exists()

    def context(self) -> Context:
        return self._way or build_context(self.description.machine)

    def _system(self) -> BatchSystem:
        return self._batch or build_machine(self.description.machine.batch_type)

    def work(self, context: Context, *, connected: bool = False) -> Work:
        """The batch jobs. Where the folder on the machine really is only the machine knows, should it be given as `~/...`."""
        # Once begun it stays where it is: a relative root or a variable may mean another place by now.
        root = store.root_of(self.hash) or context.root_for(self.hash, self.description.work_base)
        root = context.absolute(root) if connected else root
        return build_work(self.description, root)

    @contextmanager
    def opened(self, *, take_back: bool = False) -> Iterator[Opened]:
        """The submission with its journal held and read, ready to be worked on.

        Raises RefusedError when it has become part of another one, unless `take_back`.
        """
        successor = store.successor(self.hash)
        if successor is not None and not take_back:
            what = f"it has become part of submission {successor[:10]}"
            raise RefusedError(what, where=self.hash, remedy="work on that one")
        with self.context() as context:
            context.tell = self._tools.tell
            work = self.work(context, connected=True)
            record = self._record(work.root)
            progress = new_progress(self.description, work)
            with Journal(record.journal, self._tools.clock) as journal:
                happened = journal.open()
                sent = replay(happened, progress)
                machine = self._system()
                self._leave_to_its_program(record)
                self.last = progress
                runner = Runner(Site(record, work, machine, context, journal, progress, self._tools))
                try:
                    yield Opened(record, Inputs(runner.site, runner.cancel), runner, progress, work, context, sent)
                finally:
                    if not happened and record.journal.exists() and not record.journal.stat().st_size:
                        store.forget(record)  # nothing has been begun

    def _leave_to_its_program(self, record: Record) -> None:
        """Raises RefusedError for a submission that needs classes of another program; notes where this is one."""
        note = record.folder / "own-class"
        is_own = self._way is not None or (isinstance(self._batch, OwnBatchSystem) and not self._batch.is_only_script)
        if is_own:
            note.touch()
        elif note.exists():
            what = "its machine or context is a class of the program that made it"
            raise RefusedError(what, where=f"submission {self.hash[:10]}", remedy="run that program again: it goes on")

    def _record(self, root: str) -> Record:
        folder = store.home() / self.hash
        if (folder / "submission.json").exists():
            return replace(store.load(self.hash), description=self.description)
        record = self._unsaved(root)
        store.save(record)
        return record

    def _unsaved(self, root: str) -> Record:
        folder = store.home() / self.hash
        return Record(self.hash, folder, self.description, self.local_work, root, self._tools.clock())

    def cancel(self) -> int:
        """End all jobs that are not over; how many there were."""
        with self.opened() as opened:
            living = [job for job in opened.progress.jobs.values() if not job.phase.final]
            opened.runner.cancel(living, ASKED_FOR)
            return len(living)

    def peek(self) -> Progress:
        """What is known without asking the machine: reads the journal, holds nothing."""
        work = self.work(self.context())
        progress = new_progress(self.description, work)
        replay(read_journal(self._unsaved(work.root)), progress)
        return progress

    def write_old_record(self) -> None:
        """Write DPDispatcher's record into the submission's folder on the machine."""
        with self.context() as context:
            work = self.work(context)
            text = dpdispatcher_record.text(self._unsaved(work.root), work, self.peek())
            context.write({f"{work.root}/{self.hash}.json": text})


def _forget_other(beginning: str, own: str) -> None:
    if beginning not in store.names():  # one of DPDispatcher
        return
    earlier = store.find(beginning)
    if earlier.hash != own:
        store.forget(earlier)


def _strategy(clean: bool | str) -> str:
    if clean not in _CLEAN:
        options = "True, 'always', False, 'never', 'on_success'"
        raise DescriptionError(f"Unknown clean strategy {clean!r}. Valid options: {options}", where="clean")
    return _CLEAN[clean]


def _explained(job: BatchJob, work: Work) -> str:
    """Why a job failed, in a line or a few."""
    lines = [f"job {job.hash} ({job.id or 'never submitted'}) failed {job.failures + job.innocent} times: {job.reason}"]
    bad = [name for name in job.tasks if name in job.results and job.results[name].exit_code != 0]
    lines += [
        f"  task in {work.tasks[name].task_work_path}: exit code {job.results[name].exit_code}" for name in bad[:5]
    ]
    if job.detail:
        lines += [f"  {line}" for line in job.detail.splitlines()[-10:]]
    return "\n".join(lines)
