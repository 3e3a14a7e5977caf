"""Carries out what `progress` decides for one submission, on one machine through one context.

The order is always: write down, act, tell. A launcher that dies anywhere finds out from the journal, and from what the jobs
have written on the machine, what it was about to do. What goes wrong for a while (a file system that does not answer, a
download that breaks) is tried again with the next look, while everything else goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pilot.model.errors import PilotfishError, RefusedError, TransientError
from . import old_record, old_run
from .events import Cancelled, Ended, Intent, NotTaken, Submitted
from .fetching import Fetching
from .machines.base import MachineBusyError, QueueFullError
from .progress import Job, Phase
from .script import TASK_TAG
from .site import Site
from .states import JobState, Reason
from .work import Collected

SHORTEST_POLL_S = 0.5
_SLOWER = 1.5
_TOGETHER = 20
"""Jobs handed over by one command."""
_PATIENCE_S = 600.0
"""So long bringing home is tried again when nothing else is left to be done."""


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


class Runner:
    """Works on one submission until it is over."""

    def __init__(self, site: Site) -> None:
        self.fetching = Fetching(site)
        self.site = site
        self.record, self.progress = site.record, site.progress
        self._work, self._machine, self._context, self._tools = site.work, site.machine, site.context, site.tools
        self._note = site.note
        self._prepared = False
        self._trouble = ""
        self._trouble_since_s = 0.0
        self._running = 0
        self._count_again_s: float | None = None

    # --- the loop -------------------------------------------------------------------------------------------------------

    def run(self, *, check_interval_s: float = 30.0, only_submit: bool = False) -> Outcome:
        """Go on until all jobs are over and what they made is home (or, with `only_submit`, all are handed over).

        Raises ContextLostError when the machine stays away longer than the context waits, and what cannot be mended here.
        Ctrl-C may come at any time.
        """
        pause, seen = SHORTEST_POLL_S, self._state()
        while True:
            try:
                self.step()
                plan = self.progress.plan()
                if plan.over and not plan.fetch:
                    self.fetching.common()
                    return Outcome(True, self.fetching.missing)
                if only_submit and not plan.submit and not plan.find:
                    return Outcome(False)
                self._trouble = ""
            except TransientError as error:
                self._bear(error)
            longest = max(check_interval_s, SHORTEST_POLL_S)
            pause = SHORTEST_POLL_S if seen != self._state() else min(pause * _SLOWER, longest)
            seen = self._state()
            self._tools.sleep(pause)
            try:
                self.look()
            except TransientError as error:
                self._bear(error)

    def _bear(self, error: TransientError) -> None:
        """Tell of trouble once and go on, unless it lasts and nothing but it is left."""
        if not self._trouble:
            self._trouble_since_s = self._tools.clock()
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._tools.tell(f"trying again: {error}")
        if self.progress.plan().over and self._tools.clock() - self._trouble_since_s > _PATIENCE_S:
            raise error

    def _state(self) -> list[tuple[Phase, int, int, bool]]:
        return [(job.phase, job.state, job.attempt, job.fetched) for job in self.progress.jobs.values()]

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
        self._submit(new)
        if plan.submit or plan.collect or plan.find:
            self._write_old_record()
        self.fetching.ended(self.progress.plan().fetch)

    def take_in(self) -> None:
        """Look at what the jobs that have ended came to."""
        plan = self.progress.plan()
        if plan.collect:
            self._collect(plan.collect)

    def step_without_submitting(self) -> None:
        """Take in what has ended, and bring it home."""
        self.take_in()
        self.fetching.ended(self.progress.plan().fetch)

    def look(self) -> None:
        """Ask the batch system about all placed jobs, with one command."""
        ids = [job.id for job in self.progress.placed()]
        listing = self._machine.query(self._context, ids) if ids else {}
        self.progress.on_listing(listing, self._tools.clock())
        if ids:
            self._look_inside()
            counts = self.progress.counts()
            left = counts["tasks"] - counts["done"] - counts["failed"]
            self._tools.count(counts | {"running": min(left, self._count_running())})

    def _look_inside(self) -> None:
        """Results of tasks whose job goes on come home as they end; those that cannot now, when their job has ended."""
        running = [job for job in self.progress.placed() if not job.over]
        found = self._work.partial(self._context, running) if running else {}
        new = {job.hash: self.progress.on_partial(job, found.get(job.hash, {})) for job in running}
        try:
            self.fetching.now({name: tasks for name, tasks in new.items() if tasks})
        except TransientError as error:
            self._tools.tell(f"results are fetched later: {error}")

    def _count_running(self) -> int:
        now_s = self._tools.clock()
        if self._count_again_s is None:
            self._count_again_s = now_s + self._work.count_every_s
        if now_s >= self._count_again_s:
            self._count_again_s = now_s + self._work.count_every_s
            jobs = [job for job in self.progress.placed() if job.state is JobState.running]
            self._running = self._work.running(self._context, jobs)
        return self._running

    def _write_scripts(self, jobs: Iterable[Job]) -> None:
        """The files of all these jobs, in one round trip."""
        texts: dict[str, bytes] = {}
        for job in jobs:
            script = self._machine.script(self._work.to_place(job))
            texts |= {name: text.encode() for name, text in script.items()} | self._work.files(job)
        self._context.write({f"{self._work.root}/{name}": text for name, text in texts.items()})

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Hand jobs over, until the batch system takes no more."""
        wait_s = self.record.description.resources.wait_time
        together = 1 if wait_s else _TOGETHER
        while jobs:
            asked = jobs[:together]
            for job in asked:
                self._note(Intent(job.hash, job.attempt))
            try:
                answers = self._machine.submit_some(self._context, [self._work.to_place(job) for job in asked])
            except MachineBusyError as error:  # it may have some: `_find` looks
                self._tools.tell(f"not known which of {len(asked)} jobs were taken: {error.what}")
                return
            for job in asked[len(answers) :]:
                self._note(NotTaken(job.hash, job.attempt, "not tried", final=False))
            goes_on = [self._take_answer(job, answer) for job, answer in zip(asked, answers, strict=False)]
            if not all(goes_on):
                return
            jobs = jobs[len(answers) :]
            if wait_s:
                self._tools.sleep(wait_s)
        self.progress.full = False

    def _take_answer(self, job: Job, answer: str | PilotfishError) -> bool:
        """Write down what the batch system has said to a job; False when it takes no more now."""
        if isinstance(answer, str):
            self._note(Submitted(job.hash, job.attempt, answer))
            self._tools.tell(f"job {job.hash[:8]} submitted as {job.id}")
        elif isinstance(answer, QueueFullError):
            self._note(NotTaken(job.hash, job.attempt, str(answer), final=False))
            self._tools.tell(f"the batch system takes no job now: {answer.what}")
            return False
        elif isinstance(answer, MachineBusyError):  # it may have the job: `_find` looks
            self._tools.tell(f"not known whether job {job.hash[:8]} was taken: {answer.what}")
            return False
        else:
            self._note(NotTaken(job.hash, job.attempt, str(answer), final=True))
            self._tools.tell(f"job {job.hash[:8]} was refused: {answer.what}")
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
            now_s = self._tools.clock()
            ended = self.progress.judge(job, found.recorded, found.results, found.detail, now_s)
            if ended is not None:
                if ended.reason == Reason.VANISHED:  # it may live on unseen, and two of one job would share its folder
                    self._machine.cancel(self._context, [job.id])
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
        placed = [job for job in jobs if job.phase is Phase.PLACED]
        collected = {}
        if placed:
            self._machine.cancel(self._context, [job.id for job in placed])
            collected = self._work.collect(self._context, placed)
        for job in jobs:
            found = collected[job.hash].results if job.hash in collected else {}
            self._note(Cancelled(job.hash, why, tuple(each for each in found.values() if each.exit_code == 0)))

    def clean(self) -> None:
        """Remove what the submission has on the machine; of a project's own folder only what the launcher has put there."""
        if self._context.kind != "LazyLocalContext":
            self._context.remove(self._work.root)
            old_run.forget_old_names(self._context, self._work.root)
            return
        names = "".join(f"{name}\n" for name in self.progress.jobs).encode()
        command = f'while read -r name; do rm -rf -- ".$name".* "$name"[._]*; done; rm -f -- {self.record.hash}.json'
        self._context.run(command, cwd=self._work.root, stdin=names)
        tags = [f"{task.task_work_path}/{name}{TASK_TAG}" for name, task in self._work.tasks.items()]
        self._context.delete(self._work.root, tags)

    def _write_old_record(self) -> None:
        """DPDispatcher's record beside the jobs, for people and programs that read it."""
        found: dict[str, Any] = old_record.build(self.record, self._work, self.progress)
        text = json.dumps(found, indent=4).encode()
        self._context.write({f"{self._work.root}/{self.record.hash}.json": text})
