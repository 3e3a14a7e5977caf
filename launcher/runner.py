"""Carries out what `progress` decides for one submission, on one machine through one context.

The order is always: write down, act, tell. A launcher that dies anywhere finds out from the journal, and from what the jobs
have written on the machine, what it was about to do.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..pilot.model.errors import RefusedError, TransientError
from . import old_record, staging
from .contexts.base import Context, LocalFile, RemoteFile, Transfer, Watch
from .events import Cancelled, Ended, Event, Fetched, Inherited, Intent, NotTaken, Renewed, Submitted, Uploaded
from .journal import Journal
from .machines.base import Machine, MachineBusyError, QueueFullError, SubmitRefusedError
from .progress import Job, Phase, Progress
from .record import Record
from .result import TaskResult
from .script import TASK_TAG
from .task import Task
from .work import Collected, Work

SHORTEST_POLL_S = 0.5
_SLOWER = 1.5


class SubmissionFailedError(RefusedError, RuntimeError):
    """Jobs failed for good; all others were seen to their end, what succeeded is home, the folder on the machine is kept."""

    code = "submission-failed"


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        over: no job is left.
        missing: backward patterns of tasks that succeeded which found nothing: (task's folder, pattern).
    """

    over: bool
    missing: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Tools:
    """What a runner takes from outside: seconds since the epoch, a sleep, where news go, where bytes and tasks are counted."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
    watch: Callable[[str], Watch | None]
    count: Callable[[dict[str, int]], None]


class Runner:
    """One submission; `journal` is open, `progress` knows what it says."""

    def __init__(
        self,
        record: Record,
        work: Work,
        machine: Machine,
        context: Context,
        journal: Journal,
        progress: Progress,
        tools: Tools,
    ) -> None:
        self.record = record
        self.progress = progress
        self._work = work
        self._machine = machine
        self._context = context
        self._journal = journal
        self._tools = tools
        self._missing: list[tuple[str, str]] = []
        self._prepared = False

    # --- before: inputs -------------------------------------------------------------------------------------------------

    def upload(self, known: Mapping[str, str]) -> None:
        """Bring over what is not there yet; `known` are the digests of the last upload.

        Tasks whose inputs have changed since they ended run again, and so do all when a common file has changed.
        """
        common = staging.forward(self.record.description.forward_common_files, self.record.local_work, "")
        own = {name: self._inputs(task) for name, task in self._work.tasks.items()}
        files = staging.merge([common, *own.values()])
        changed = {file.path for file in files if known.get(file.path, file.digest) != file.digest}
        if changed:
            self._renew_changed(changed, common, own)
        folders = sorted({task.task_work_path for task in self._work.tasks.values()})
        moved = self._context.put(self._work.root, files, folders, self._tools.watch("upload"))
        self._note(Uploaded({file.path: file.digest for file in files}))
        if moved.moved:
            self._tools.tell(f"sent {len(moved.moved)} files, {moved.sent_bytes} bytes; {len(moved.same)} were there")

    def _inputs(self, task: Task) -> list[LocalFile]:
        return staging.forward(task.forward_files, self.record.local_work, task.task_work_path)

    def _renew_changed(self, changed: set[str], common: list[LocalFile], own: Mapping[str, list[LocalFile]]) -> None:
        everything = any(file.path in changed for file in common)
        for job in self.progress.jobs.values():
            tasks = tuple(
                name
                for name in job.tasks
                if name in job.results and (everything or any(file.path in changed for file in own[name]))
            )
            if tasks:
                self.renew(job, tasks, f"inputs changed: {', '.join(sorted(changed)[:3])}")

    def renew(self, job: Job, tasks: tuple[str, ...], why: str) -> None:
        """Let these tasks of a job run again."""
        self._context.check(self._work.forgetting(job, tasks), cwd=self._work.root)
        self._note(Renewed(job.hash, tasks, why))
        self._tools.tell(f"{len(tasks)} tasks of job {job.hash[:8]} run again: {why}")

    def inherit(self, root: str, done: Mapping[str, TaskResult]) -> None:
        """Take over the folder of an earlier submission and the results of tasks that are ours too."""
        if root != self._work.root:
            old, new = shlex.quote(root), shlex.quote(self._work.root)
            self._context.check(f"if [ -d {old} ] && [ ! -e {new} ]; then mv {old} {new}; fi; mkdir -p {new}")
        for job in self.progress.jobs.values():
            mine = tuple(done[name] for name in job.tasks if name in done)
            if mine:
                self._note(Inherited(job.hash, mine))
        self._tools.tell(f"{sum(name in done for name in self._work.tasks)} tasks were done by the previous submission")

    # --- the loop -------------------------------------------------------------------------------------------------------

    def run(self, *, check_interval_s: float = 30.0, only_submit: bool = False) -> Outcome:
        """Go on until all jobs are over and what they made is home (or, with `only_submit`, all are handed over).

        Raises ContextLostError when the machine stays away longer than the context waits, and what cannot be mended here.
        Ctrl-C may come at any time.
        """
        pause = SHORTEST_POLL_S
        while True:
            seen = self._state()
            self.step()
            plan = self.progress.plan()
            if plan.over and not plan.fetch:
                return Outcome(True, self._missing)
            if only_submit and not plan.submit and not plan.find:
                return Outcome(False)
            pause = (
                SHORTEST_POLL_S
                if seen != self._state()
                else min(pause * _SLOWER, max(check_interval_s, SHORTEST_POLL_S))
            )
            self._tools.sleep(pause)
            self.look()

    def _state(self) -> list[tuple[Phase, int, int]]:
        return [(job.phase, job.state, job.attempt) for job in self.progress.jobs.values()]

    def step(self) -> None:
        """Do what can be done now."""
        plan = self.progress.plan()
        if plan.cancel:
            self.cancel(plan.cancel, "not needed any more")
            plan = self.progress.plan()
        if plan.submit and not self._prepared:
            self._work.prepare(self._context, self._tools.tell)
            self._prepared = True
        if plan.find:
            self._find(plan.find)
        if plan.collect:
            self._collect(plan.collect)
        new = self.progress.plan().submit
        if new:
            self._write_scripts(new)
        for job in new:
            if not self._submit(job):
                break
        for job in self.progress.plan().fetch:
            self._fetch(job)
        if plan.submit or plan.collect or plan.find:
            self._write_old_record()

    def step_without_submitting(self) -> None:
        """Take in what has ended, and bring it home."""
        plan = self.progress.plan()
        if plan.collect:
            self._collect(plan.collect)
        for job in self.progress.plan().fetch:
            self._fetch(job)

    def look(self) -> None:
        """Ask the batch system about all placed jobs, with one command."""
        ids = [job.id for job in self.progress.placed()]
        if not ids:
            return
        try:
            self.progress.on_listing(self._machine.query(self._context, ids))
        except MachineBusyError as error:
            self._tools.tell(f"the batch system does not answer, asking again later: {error.what}")
        self._look_inside()
        self._tools.count(self.progress.counts())

    def _look_inside(self) -> None:
        """Results of tasks whose job goes on come home as they end."""
        running = [job for job in self.progress.placed() if not job.over]
        found = self._work.partial(self._context, running) if running else {}
        for job in running:
            new = self.progress.on_partial(job, found.get(job.hash, {}))
            if new:
                self.fetch_now(job, only=new)

    def _write_scripts(self, jobs: Iterable[Job]) -> None:
        """The files of all these jobs, in one round trip."""
        texts: dict[str, bytes] = {}
        for job in jobs:
            script = self._machine.script(self._work.to_place(job))
            texts |= {name: text.encode() for name, text in script.items()} | self._work.files(job)
        self._context.write({f"{self._work.root}/{name}": text for name, text in texts.items()})

    def _submit(self, job: Job) -> bool:
        """Hand one job over; False when the batch system takes no more now."""
        self._note(Intent(job.hash, job.attempt))
        try:
            found = self._machine.submit(self._context, self._work.to_place(job))
            self._note(Submitted(job.hash, job.attempt, found))
        except QueueFullError as error:
            self._note(NotTaken(job.hash, job.attempt, str(error), final=False))
            self._tools.tell(f"the batch system takes no job now: {error.what}")
            return False
        except MachineBusyError as error:  # it may have the job: `_find` looks
            self._tools.tell(f"not known whether job {job.hash[:8]} was taken: {error.what}")
            return False
        except SubmitRefusedError as error:
            self._note(NotTaken(job.hash, job.attempt, str(error), final=True))
            self._tools.tell(f"job {job.hash[:8]} was refused: {error.what}")
            return True
        self._tools.tell(f"job {job.hash[:8]} submitted as {job.id}")
        if self.record.description.resources.wait_time:
            self._tools.sleep(self.record.description.resources.wait_time)
        return True

    def _find(self, jobs: Iterable[Job]) -> None:
        """Jobs we may have submitted before we died: their id is on the machine, or they are submitted once more.

        That is safe: of two jobs with the same attempt the first to start claims it, the other does nothing.
        """
        placed = {job.hash: self._work.to_place(job) for job in jobs}
        read = self._context.read([f"{self._work.root}/{each.id_file}" for each in placed.values()])
        for job in jobs:
            found = read.get(f"{self._work.root}/{placed[job.hash].id_file}", b"").decode().strip()
            if found:
                self._note(Submitted(job.hash, job.attempt, found))
                self._tools.tell(f"job {job.hash[:8]} had been submitted as {found}")
            else:
                self._note(NotTaken(job.hash, job.attempt, "not known whether it was submitted", final=False))
        self.progress.full = False

    def _collect(self, jobs: Iterable[Job]) -> None:
        collected = self._work.collect(self._context, list(jobs))
        for job in jobs:
            found = collected[job.hash]
            if self._is_double(job, found):
                continue
            ended = self.progress.judge(job, found.recorded, found.results, found.detail)
            if ended is not None:
                self._note(ended)
                self._tell_end(job, ended)

    def _is_double(self, job: Job, found: Collected) -> bool:
        """Our job ended at once because an earlier submit of the same attempt runs: watch that one."""
        other = found.claimed_by
        if found.recorded or not other or other.partition(".")[0] == job.id.partition(".")[0]:
            return False
        self._note(Submitted(job.hash, job.attempt, other))
        return True

    def _tell_end(self, job: Job, ended: Ended) -> None:
        if not ended.reason:
            self._tools.tell(f"job {job.hash[:8]} ({job.id}) finished")
            return
        code = f", exit code {ended.exit_code}" if ended.exit_code else ""
        what = "is placed again" if job.phase is Phase.NEW else "failed for good"
        self._tools.tell(f"job {job.hash[:8]} ({job.id}) ended: {ended.reason}{code}; it {what}")

    def cancel(self, jobs: Iterable[Job], why: str) -> None:
        """End jobs on the machine and stop waiting for them; what their tasks have done so far counts."""
        jobs = list(jobs)
        self._find([job for job in jobs if job.phase is Phase.INTENDED])
        ids = [job.id for job in jobs if job.phase is Phase.PLACED]
        if ids:
            self._machine.cancel(self._context, ids)
        for job in jobs:
            self._note(Cancelled(job.hash, why))

    # --- after: results -------------------------------------------------------------------------------------------------

    def _fetch(self, job: Job) -> None:
        """Bring home what the job's tasks have made; of tasks that failed their logs, and what there is."""
        self.fetch_now(job)
        self._note(Fetched(job.hash))

    def fetch_now(self, job: Job, *, only: Iterable[str] | None = None, marks: bool = False) -> Transfer:
        """Bring home what is there of a job (or of some of its tasks), ended or not.

        `marks`: leave a file for each pattern that found nothing.
        """
        tasks = [(name, self._work.tasks[name]) for name in (job.tasks if only is None else only)]
        listing = self._context.list_files(self._work.root, {".", *(task.task_work_path for _, task in tasks)})
        wanted: set[str] = set()
        for name, task in tasks:
            paths, missing = self._results_of(name, task, job, listing)
            wanted.update(paths)
            ended_well = name in job.results and job.results[name].exit_code == 0
            if ended_well and only is None and self._context.kind != "LazyLocalContext":
                self._missing += [(task.task_work_path, pattern) for pattern in missing]
            if marks:
                for pattern in missing:
                    folder = self.record.local_work / task.task_work_path
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / staging.failure_mark(pattern)).touch()
        if only is None and not job.succeeded:
            last_words = f"{job.hash}_last_err_file"
            wanted.update(file.path for file in listing if file.path == last_words)
        return self._get(sorted(wanted))

    def _results_of(self, name: str, task: Task, job: Job, listing: list[RemoteFile]) -> tuple[list[str], list[str]]:
        patterns = list(task.backward_files)
        paths, missing = staging.backward(patterns, task.task_work_path, listing)
        if name not in job.results or job.results[name].exit_code != 0:
            logs = [log for log in (task.outlog, task.errlog) if log is not None]
            paths += staging.backward(logs, task.task_work_path, listing)[0]
        return paths, missing

    def fetch_common(self) -> None:
        """Bring home the common results."""
        patterns = self.record.description.backward_common_files
        if not patterns:
            return
        listing = self._context.list_files(self._work.root, ["**"])
        paths, missing = staging.backward(patterns, "", listing)
        self._missing += [(".", pattern) for pattern in missing if self._context.kind != "LazyLocalContext"]
        self._get([path for path in paths if not path.startswith(".")])

    def _get(self, paths: list[str]) -> Transfer:
        if not paths:
            return Transfer((), (), 0)
        tries = 5
        while True:
            try:
                return self._context.get(self._work.root, paths, self.record.local_work, self._tools.watch("download"))
            except TransientError as error:
                tries -= 1
                if not tries:
                    raise
                self._tools.tell(f"download failed, trying again: {error}")
                self._tools.sleep(2.0 ** (5 - tries))

    def clean(self) -> None:
        """Remove what the submission has on the machine; of a project's own folder only what the launcher has put there."""
        if self._context.kind != "LazyLocalContext":
            self._context.remove(self._work.root)
            return
        words = [
            f"{prefix}{shlex.quote(name)}{end}"
            for name in self.progress.jobs
            for prefix, end in ((".", ".*"), ("", "[._]*"))
        ]
        words += [f"{shlex.quote(task.task_work_path)}/{name}{TASK_TAG}" for name, task in self._work.tasks.items()]
        self._context.run(f"rm -rf -- {' '.join(words)} {self.record.hash}.json", cwd=self._work.root)

    # --- notes ----------------------------------------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        self._journal.write(event)
        self.progress.apply(event)

    def _write_old_record(self) -> None:
        """DPDispatcher's record beside the jobs, for people and programs that read it."""
        found: dict[str, Any] = old_record.build(self.record, self._work, self.progress)
        text = json.dumps(found, indent=4).encode()
        self._context.write({f"{self._work.root}/{self.record.hash}.json": text})
