"""The one flow for services that run jobs and have no shell: an archive goes there, a request starts the job, one returns.

What differs between services is what they are asked and what they answer. A job is asked for once: that it was asked for is
written down before, and while it is not known whether the service has it nobody asks again. When a listing says that a job has
ended what it has made is brought back first, so that everybody who looks at the job's folder finds it there; until that has
worked the job counts as one of which nothing is known.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ...pilot.model.errors import PilotfishError, TransientError
from ..contexts.base import Context, TransferError
from ..contexts.http import ServiceError, ServiceRefusedError, UnsureError
from ..contexts.members import pack_zip
from ..contexts.paths import ForeignPathError, printable
from ..contexts.shell import sh
from ..contexts.staged import SentJob, StagedContext
from ..job import script
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .base import BatchSystem, MachineBusyError, SubmitRefusedError
from .directives import refuse
from .staging import begin, note_refusal, patterns_of, take_back

_NOTHING_FOR = ("account", "qos", "memory", "exclusive", "reservation", "dependency")
_AT_ONCE = 8
"""Requests at the same time."""
_TIMED_OUT = 124
"""Exit code of `timeout`."""
RESULTS_S = 60.0
"""So long the results of a job that has ended well may take to be there."""
_MOST_DAMAGED = 5
"""How often results that arrive damaged are fetched again."""


class Service(BatchSystem):
    """A service for jobs."""

    login_shell = False
    settle_s = 0.0  # what has come back is here
    no_such: ClassVar[tuple[str, ...]] = ()
    """Codes by which it says that it has no such job; status 404 of HTTP says so too."""

    @staticmethod
    def clock() -> float:
        """Seconds since the epoch."""
        return time.time()

    def script(self, job: JobToPlace) -> dict[str, str]:
        refuse(job.resources, self.kind, _NOTHING_FOR)
        return script.render([], job, stages=script.Stages(sh(""), sh("")))

    def outputs(self, job_id: str, job_hash: str) -> tuple[str, ...]:
        return (f"{job_hash}.out",)

    @staticmethod
    def command(job: JobToPlace) -> str:
        """What the service shall run in the folder in which it has unpacked the archive."""
        limit = f"timeout -k 10 {job.resources.walltime_s:g} " if job.resources.walltime_s else ""
        return f"{limit}bash {job.script_name}"

    # --- what differs ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def new_key(self, context: StagedContext, job: JobToPlace) -> str:
        """Where the archive of a job shall lie, if that is ours to say."""

    @abstractmethod
    def send(self, context: StagedContext, sent: SentJob, job: JobToPlace, archive: Path) -> None:
        """Bring the archive there, from where an earlier try has stopped; may be called again."""

    @abstractmethod
    def ask(self, context: StagedContext, sent: SentJob, job: JobToPlace) -> str:
        """Ask for the job; its id. `sent` says when that was done before."""

    @abstractmethod
    def detail(self, context: StagedContext, job_id: str) -> dict[str, Any]:
        """What the service says of a job."""

    @abstractmethod
    def status(self, context: StagedContext, detail: Mapping[str, Any]) -> Status:
        """Where that is. Raises ServiceError for an answer that is none."""

    @abstractmethod
    def end(self, context: StagedContext, job_id: str) -> None:
        """End a job."""

    @abstractmethod
    def fetch(self, context: StagedContext, url: str, target: Path) -> None:
        """Bring results here."""

    @abstractmethod
    def log(self, context: StagedContext, job_id: str, sent: SentJob) -> str:
        """What the job has printed since this was asked last; all of it is kept in the file that `outputs` names."""

    @abstractmethod
    def tells_output(self, context: StagedContext) -> bool:
        """Whether users want to see what jobs print while they run."""

    # --- submitting -----------------------------------------------------------------------------------------------------

    def submit(self, context: Context, job: JobToPlace) -> str:
        way = self._way(context)
        sent = begin(way, job, self.new_key(way, job))
        if sent.id:
            return sent.id
        try:
            self._send(way, sent, job)
            job_id = self.ask(way, sent, job)
        except (ServiceRefusedError, ForeignPathError) as error:
            raise SubmitRefusedError(error.what, where=error.where or self.kind, remedy=error.remedy) from error
        except UnsureError as error:
            raise MachineBusyError(error.what, where=error.where) from error
        except TransientError as error:
            raise MachineBusyError(f"it was not sent: {error.what}", where=error.where) from error
        way.keep_id(sent, job_id)
        sent.path("zip").unlink(missing_ok=True)
        return job_id

    def _send(self, way: StagedContext, sent: SentJob, job: JobToPlace) -> None:
        archive, draft = sent.path("zip"), sent.path("zip.new")
        always = (job.script_name, job.run_name)
        files, folders = way.needed(job.root, patterns_of(job), always)
        pack_zip(files, {*folders, *sent.tasks.values()}, draft)
        same = archive.exists() and filecmp.cmp(archive, draft, shallow=False)
        draft.replace(archive)
        if not same:
            sent.uploaded, sent.upload, sent.parts = False, "", {}
        if not sent.uploaded:
            self.send(way, sent, job, archive)
            sent.uploaded = True
            sent.save()

    # --- asking ---------------------------------------------------------------------------------------------------------

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        way, told = self._way(context), Listing()
        known = {name: way.sent(name) for name in ids}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(lambda name: self._look(way, name, known[name]), ids))
        troubles = [answer for answer in answers if isinstance(answer, PilotfishError)]
        if troubles and len(troubles) == len(ids):
            raise MachineBusyError(troubles[0].what, where=troubles[0].where) from troubles[0]
        for name, answer in zip(ids, answers, strict=True):
            if isinstance(answer, PilotfishError):
                told[name] = Status(JobState.unknown, f"not known now: {answer.what}")
                told.unclear.add(name)
            elif answer is not None:
                told[name] = answer
        return told

    def _look(self, way: StagedContext, job_id: str, sent: SentJob | None) -> Status | PilotfishError | None:
        """Where a job is; None: it is gone. An error: nothing is known of it now."""
        try:
            detail = self.detail(way, job_id)
            status = self.status(way, detail)
            if sent is not None and status.state.ended:
                if sent.limit_s and status.exit_code == _TIMED_OUT:
                    status = Status(JobState.terminated, status.native, Reason.TIME, status.exit_code)
                if not sent.returned:
                    self._bring_back(way, job_id, sent, status, detail.get("resultUrl"))
            elif sent is not None and status.state is JobState.running and self.tells_output(way):
                self._tell_output(way, job_id, sent)
        except ServiceRefusedError as error:
            return None if error.status == 404 or error.said in self.no_such else error
        except TransientError as error:
            return error
        return status

    def _bring_back(self, way: StagedContext, job_id: str, sent: SentJob, status: Status, url: object) -> None:
        """Raises TransientError: try again."""
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            try:
                self._fetch(way, url, sent)
            except ServiceRefusedError as error:
                way.tell(f"results of job {sent.job[:8]} ({job_id}) cannot be had: {error.what}")
            except ForeignPathError as error:
                note_refusal(sent, error.what)
        elif status.state is JobState.finished:
            ended_s = sent.ticket.setdefault("ended_s", self.clock())
            sent.save()
            if self.clock() - ended_s < RESULTS_S:
                raise ServiceError("it has ended, and its results are not there yet", where=self.kind)
        if self.tells_output(way):
            self._tell_output(way, job_id, sent)
        else:
            with suppress(TransientError, ServiceRefusedError):
                self.log(way, job_id, sent)
        sent.returned = True
        sent.save()

    def _fetch(self, way: StagedContext, url: str, sent: SentJob) -> None:
        archive = sent.path("back.zip")
        self.fetch(way, url, archive)
        try:
            take_back(archive, sent)
        except TransferError:
            damaged = int(sent.ticket.get("damaged", 0)) + 1
            sent.ticket["damaged"] = damaged
            sent.save()
            if damaged < _MOST_DAMAGED:
                raise
            note_refusal(sent, f"they have come damaged {damaged} times")
        finally:
            if way.profile.get("keep_backup") and archive.exists():
                backup = way.local_root / "backup"
                backup.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(archive, backup / f"{sent.job}_back.zip")
            archive.unlink(missing_ok=True)

    def _tell_output(self, way: StagedContext, job_id: str, sent: SentJob) -> None:
        with suppress(TransientError, ServiceRefusedError):  # it is told with the next look
            for line in self.log(way, job_id, sent).splitlines():
                way.tell(f"job {sent.job[:8]}: {printable(line)}")

    # --- ending ---------------------------------------------------------------------------------------------------------

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        way = self._way(context)
        for name in ids:
            try:
                self.end(way, name)
            except ServiceRefusedError as error:
                if not self._is_over(way, name):
                    raise MachineBusyError(f"cannot end job {name}: {error.what}", where=self.kind) from error
            except TransientError as error:
                raise MachineBusyError(f"cannot end job {name}: {error.what}", where=self.kind) from error

    def _is_over(self, way: StagedContext, job_id: str) -> bool:
        answer = self._look(way, job_id, None)
        return answer is None or (isinstance(answer, Status) and answer.state.ended)

    def _way(self, context: Context) -> StagedContext:
        assert isinstance(context, StagedContext)
        return context


_STATES: dict[int, tuple[JobState, str]] = {
    0: (JobState.waiting, ""),
    1: (JobState.running, ""),
    2: (JobState.finished, ""),
    3: (JobState.waiting, ""),
    4: (JobState.running, ""),
    5: (JobState.terminated, Reason.PROGRAM),
    6: (JobState.running, ""),
    9: (JobState.waiting, ""),
    -1: (JobState.terminated, Reason.PROGRAM),
}
"""Of both services of Bohrium. Others mean: still there, ask again."""


def status_of(word: int, exit_code: int | None, ignored: bool) -> Status:
    """`ignored`: an end that was not well does not count by itself, only what became of the tasks."""
    state, reason = _STATES.get(word, (JobState.unknown, ""))
    if word == -1 and ignored:
        state, reason = JobState.finished, ""
    return Status(state, str(word), reason, exit_code)


def echoes(told: object, text: str) -> bool:
    """Whether what a service has said of a job has this text in it, in whatever place."""
    return text in json.dumps(told, ensure_ascii=False)
