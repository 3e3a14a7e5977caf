"""Carries out what state.py decides for one submission, on one machine through one context.

The order is always: write down, act, report. A launcher that died at any point learns from the journal, and from what the jobs
have written on the machine, what it was about to do. A failure that may pass (a file system that does not answer, a download
that breaks) is retried with the next poll, while everything else continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...pilot.model.errors import PilotfishError, RefusedError, TransientError
from ..contexts.shell import relative, sh
from ..job.script import TASK_TAG
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason
from ..machines.base import MachineBusyError, MaybeTakenError, QueueFullError
from ..machines.dialect import cluster_of, plain
from . import adopt, dpdispatcher_record, waiting
from .batch_job import BatchJob, Phase
from .download import Fetching
from .events import Canceled, Ended, Intent, NotTaken, Submitted
from .session import Site
from .work import Collected

SHORTEST_POLL_S = 0.5
_SLOWER = 1.5
_TOGETHER = 20
"""Jobs handed over by one command."""
_PATIENCE_S = 600.0
"""How long bringing results home is retried when nothing else is left to be done."""


class SubmissionFailedError(RefusedError, RuntimeError):
    """Jobs failed for good.

    All others ran to their end, results of those that succeeded were brought home, the folder on the machine was kept.
    """

    code = "submission-failed"


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        over: no job is left.
        missing: results that are not home although their tasks have ended well: (task's folder, pattern).
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
        self._maybe_taken: set[str] = set()
        """Jobs that the batch system may have, although it has printed no id of theirs."""
        self._last_said = ""
        self._waiting = waiting.Waiting(site)

    # --- the loop -------------------------------------------------------------------------------------------------------

    def run(self, *, check_interval_s: float = 30.0, only_submit: bool = False) -> Outcome:
        """Work until all jobs are over and their results are home (or, with `only_submit`, all jobs are handed over).

        Raises ContextLostError when the machine stays unreachable for longer than the context waits, and what no retry helps.
        Ctrl-C may come at any time.
        """
        self.progress.look_again()
        pause, seen = SHORTEST_POLL_S, self._state()
        while True:
            try:
                self.step()
                plan = self.progress.plan()
                if plan.over and not plan.fetch:
                    self.fetching.common()
                    return Outcome(True, self._missing())
                if only_submit and not plan.submit and all(job.hash in self._maybe_taken for job in plan.find):
                    return Outcome(False)
                well = True
            except TransientError as error:
                self._bear(error)
                well = False
            longest = max(check_interval_s, SHORTEST_POLL_S)
            pause = SHORTEST_POLL_S if seen != self._state() else min(pause * _SLOWER, longest)
            seen = self._state()
            self._tools.sleep(pause)
            try:
                self.look()
                self._trouble = "" if well else self._trouble
            except TransientError as error:
                self._bear(error)

    def _missing(self) -> list[tuple[str, str]]:
        tasks = self._work.tasks
        return [(tasks[each.task].folder if each.task else ".", each.pattern) for each in self.progress.missing()]

    def _bear(self, error: TransientError) -> None:
        """Report a transient error once; give up when it persists and no other work remains."""
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
            if self._machine.login_shell:
                self._context.run_in_login_shell(sh("true"), timeout_s=120)
            self._work.prepare(self._context, self._tools.tell)
            self._prepared = True
        if plan.find:
            self._find(plan.find)
        if plan.collect:
            self._collect(plan.collect)
        new = self._without_living(self.progress.plan().submit)
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
        """Take in what has ended, and bring it home; also what was missing, if it is there now."""
        self.progress.look_again()
        self.take_in()
        self.fetching.ended(self.progress.plan().fetch)

    def look(self) -> None:
        """Ask the batch system about all placed jobs, with one command; when it does not answer, the jobs' own records tell."""
        ids, now_s = [job.id for job in self.progress.placed()], self._tools.clock
        try:
            listing = self._machine.query(self._context, ids) if ids else Listing()
        except MachineBusyError:
            self.progress.on_listing({}, now_s(), unclear=ids)
            self._look_inside()
            raise
        self.progress.on_listing(listing, now_s(), unclear=listing.unclear, doubted=listing.doubted)
        if listing.unclear:
            why = listing[min(listing.unclear)].native
            self._say_once(f"where {len(listing.unclear)} of {len(ids)} jobs are is {why}")
        self._waiting.look()
        if ids:
            self._look_inside()
            counts = self.progress.counts()
            left = counts["tasks"] - counts["done"] - counts["failed"]
            self._tools.count(counts | {"running": min(left, self._count_running())})

    def _say_once(self, text: str) -> None:
        """Tell what would be the same with each look only when it changes."""
        if text != self._last_said:
            self._last_said = text
            self._tools.tell(text)

    def _look_inside(self) -> None:
        """Results of tasks whose job goes on come home as they end; those that cannot now, when their job has ended."""
        running = [job for job in self.progress.placed() if not job.over]
        results = self._work.partial(self._context, running) if running else {}
        new = {job.hash: self.progress.on_partial(job, results.get(job.hash, {})) for job in running}
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

    def _write_scripts(self, jobs: Iterable[BatchJob]) -> None:
        """The files of all these jobs, in one round trip."""
        texts: dict[str, bytes] = {}
        for job in jobs:
            script = self._machine.script(self._work.to_place(job))
            texts |= {name: text.encode() for name, text in script.items()} | self._work.files(job)
        self._context.write({f"{self._work.root}/{name}": text for name, text in texts.items()})

    def _without_living(self, jobs: Sequence[BatchJob]) -> list[BatchJob]:
        """Those of which no earlier attempt, which was cancelled, may still run: two of one job would share its folder."""
        left = [job.left_id for job in jobs if job.left_id]
        listing = self._machine.query(self._context, left) if left else Listing()
        living = {name for name, status in listing.items() if not status.state.ended}
        if living:
            self._say_once(f"jobs that were cancelled have not ended yet: {', '.join(sorted(living)[:5])}")
        return [job for job in jobs if job.left_id not in living]

    def _submit(self, jobs: Sequence[BatchJob]) -> None:
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

    def _take_answer(self, job: BatchJob, answer: str | PilotfishError) -> bool:
        """Write down what the batch system has said to a job; False when it takes no more now."""
        if isinstance(answer, str):
            self._note(Submitted(job.hash, job.attempt, answer))
            self._tools.tell(f"job {job.hash[:8]} submitted as {job.id}")
        elif isinstance(answer, QueueFullError):
            self._note(NotTaken(job.hash, job.attempt, str(answer), final=False))
            self._tools.tell(f"the batch system takes no job now: {answer.what}")
            return False
        elif isinstance(answer, MachineBusyError):  # it may have the job: `_find` looks
            if isinstance(answer, MaybeTakenError):
                self._maybe_taken.add(job.hash)
            self._tools.tell(f"not known whether job {job.hash[:8]} was taken: {answer.what}")
            return False
        else:
            self._note(NotTaken(job.hash, job.attempt, str(answer), final=True))
            self._tools.tell(f"job {job.hash[:8]} was refused: {answer.what}")
        return True

    def _find(self, jobs: Iterable[BatchJob]) -> None:
        """Jobs we may have submitted without getting to know their ids: found on the machine, or submitted once more.

        The latter is safe: of two jobs with the same attempt the first to start claims it, the other does nothing. Where the
        batch system has not said no it is not done all the same: a queue would fill with jobs that do nothing.
        """
        ids = self._ids_of({job.hash: self._work.to_place(job) for job in jobs})
        for job in jobs:
            job_id = ids.get(job.hash)
            if job_id:
                self._maybe_taken.discard(job.hash)
                self._note(Submitted(job.hash, job.attempt, job_id))
                self._tools.tell(f"job {job.hash[:8]} had been submitted as {job_id}")
            elif job.hash not in self._maybe_taken:
                self._note(NotTaken(job.hash, job.attempt, "not known whether it was submitted", final=False))
        self.progress.full = False

    def _ids_of(self, placed: Mapping[str, JobToPlace]) -> dict[str, str]:
        """The batch jobs of these attempts: as the submitting shell has written down, as is listed, as the job itself has."""
        read = self._read({name: job.id_file for name, job in placed.items()})
        left = {name: job for name, job in placed.items() if name not in read}
        if left:
            read |= self._read({name: job.claim_file for name, job in left.items()}) | self._machine.find(
                self._context, list(left.values())
            )
        return read

    def _read(self, names: Mapping[str, str]) -> dict[str, str]:
        """What is in these files below the root, as far as they are there."""
        paths = {f"{self._work.root}/{file}": name for name, file in names.items()}
        read = self._context.read(list(paths))
        contents = {paths[path]: text.decode(errors="replace").strip() for path, text in read.items()}
        return {name: text for name, text in contents.items() if text}

    def _collect(self, jobs: Iterable[BatchJob]) -> None:
        collected = self._work.collect(self._context, list(jobs))
        judged: dict[str, Ended] = {}
        for job in jobs:
            output = collected[job.hash]
            if self._is_double(job, output):
                continue
            now_s = self._tools.clock()
            ended = self.progress.judge(job, output.recorded, output.results, output.detail, now_s, output.reason)
            if ended is not None:
                judged[job.hash] = ended
        silent = [job for job in jobs if job.hash in judged and not collected[job.hash].recorded]
        judged = waiting.explained(self.site, silent, judged)
        unseen: dict[str, Ended] = {}
        for job in [job for job in jobs if job.hash in judged]:
            ended = judged[job.hash]
            listed = job.status is not None and job.status.state.ended
            proven = listed or (job.given_up and not job.unclear)
            if ended.reason and not proven and (job.unclear or ended.reason == Reason.VANISHED):
                unseen[job.hash] = ended
            else:
                self._note(ended)
                self._tell_end(job, ended)
        if unseen:
            self._end_unseen([job for job in jobs if job.hash in unseen], unseen)

    def _end_unseen(self, jobs: Sequence[BatchJob], ends: Mapping[str, Ended]) -> None:
        """Jobs whose end nobody has seen may live on, and two of one job would share its folder.

        They are over when it is seen that they are not there after they were told to end. One that the batch system knows under
        another id is watched instead.
        """
        living = self._machine.find(self._context, [self._work.to_place(job) for job in jobs])
        for job in jobs:
            if living.get(job.hash, job.id) != job.id:
                self._tools.tell(f"job {job.hash[:8]} is {living[job.hash]}, not {job.id}")
                self._note(Submitted(job.hash, job.attempt, living[job.hash]))
        left = [job for job in jobs if job.hash not in living]
        ids = [job.id for job in left]
        if not ids:
            return
        self._machine.cancel(self._context, ids)
        listing = self._machine.query(self._context, ids)
        for job in left:
            status = listing.get(job.id)
            if status is None or status.state.ended:
                self._note(ends[job.hash])
                self._tell_end(job, ends[job.hash])
                continue
            if not job.given_up:
                self._tools.tell(
                    f"job {job.hash[:8]} ({job.id}) seemed to be gone; it is waited for until it really is"
                )
            job.given_up = True

    def _is_double(self, job: BatchJob, output: Collected) -> bool:
        """Our job ended at once because an earlier submit of the same attempt runs: watch that one."""
        other = output.claimed_by
        if output.recorded or not other or plain(other) == plain(job.id):
            return False
        cluster = cluster_of(job.id)
        other = f"{other};{cluster}" if cluster and not cluster_of(other) else other
        self._note(Submitted(job.hash, job.attempt, other))
        return True

    def _tell_end(self, job: BatchJob, ended: Ended) -> None:
        if not ended.reason:
            self._tools.tell(f"job {job.hash[:8]} ({job.id}) finished")
            return
        code = f", exit code {ended.exit_code}" if ended.exit_code else ""
        outcome = "is placed again" if job.phase is Phase.NEW else "failed for good"
        self._tools.tell(f"job {job.hash[:8]} ({job.id}) ended: {ended.reason}{code}; it {outcome}")

    def cancel(self, jobs: Iterable[BatchJob], why: str) -> None:
        """End jobs on the machine and stop waiting for them; what their tasks have done so far counts."""
        jobs = list(jobs)
        self._find([job for job in jobs if job.phase is Phase.INTENDED])
        placed = [job for job in jobs if job.phase is Phase.PLACED]
        collected = {}
        if placed:
            self._machine.cancel(self._context, [job.id for job in placed])
            collected = self._work.collect(self._context, placed)
        for job in jobs:
            results = collected[job.hash].results if job.hash in collected else {}
            self._note(Canceled(job.hash, why, tuple(each for each in results.values() if each.exit_code == 0)))

    def clean(self) -> None:
        """Remove what the submission has on the machine; of a project's own folder only what the launcher has put there."""
        if not self._context.in_place:
            adopt.remove_folder(self._context, self._work.root)
            return
        names = "".join(f"{job}\n" for job in self.progress.jobs).encode()
        record = relative(f"{self.record.hash}.json")
        command = sh('while read -r name; do rm -rf -- ".$name".* "$name"[._]*; done; rm -f -- {record}', record=record)
        self._context.run(command, cwd=self._work.root, stdin=names)
        tags = [task.path(each + TASK_TAG) for each, task in self._work.tasks.items()]
        self._context.delete(self._work.root, tags)

    def _write_old_record(self) -> None:
        """DPDispatcher's record beside the jobs, for people and programs that read it."""
        text = dpdispatcher_record.text(self.record, self._work, self.progress)
        self._context.write({f"{self._work.root}/{self.record.hash}.json": text})
