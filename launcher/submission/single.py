"""One batch job in a folder of its machine, without a submission around it: what job scripts and single functions stand on.

The script is that of submissions, so an exit code is known on every batch system, and a job that was handed over twice (we
died before we had its id) runs once. How it ended is written down once, for all programs that look (`ends`).
"""

from __future__ import annotations

import json
import posixpath
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..contexts.base import Context
from ..contexts.registry import build_context
from ..description import parse as description
from ..description.parse import MachineDescription
from ..description.resources import Resources
from ..description.task import Task
from ..job import ends, script
from ..job import record as result
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from ..machines.base import Machine, MachineBusyError
from ..machines.registry import build_machine
from . import needs
from .needs import Needed

_LOOKS = 3
"""So often a job must be missing, or without a record, before it counts as ended: files and listings lag behind."""
_KILLED = (Reason.TIME, Reason.MEMORY, Reason.NODE, Reason.CANCELLED, Reason.PREEMPTED)
"""Of these the batch system knows, and the job's own record does not."""
_MAY_NEVER_START = (JobState.waiting, JobState.completing, JobState.terminated)
_HANDED_OVER_S = 300.0
"""So long a job may have no id: another program is just submitting it."""


@dataclass(frozen=True)
class Script:
    """What is to be run.

    Attributes:
        command: shell text, run in the job's folder.
        header: directives, instead of those that the resources give.
        before: shell lines that come first, in the same shell as the directives.
        out, err: files for its output; None leaves it to the batch system.
        after: jobs that must have ended well, or this one does not run.
    """

    command: str
    name: str = ""
    header: tuple[str, ...] | None = None
    resources: Resources = field(default_factory=Resources)
    before: tuple[str, ...] = ()
    out: str | None = None
    err: str | None = None
    after: tuple[Needed, ...] = ()


class OneJob:
    """A batch job that can be come back to: `to_dict` and `from_dict` keep it over the end of this program.

    Attributes:
        folder: absolute folder on the machine in which it runs.
        hash: 40 hex digits that name it, and its files, for ever.
        id: the batch system's; empty until it is submitted.
        after: jobs that must have ended well before it starts.
    """

    def __init__(
        self,
        machine: MachineDescription,
        folder: str,
        name: str,
        id: str = "",
        clock: Callable[[], float] = time.time,
        ends_folder: ends.Folder | None = None,
    ) -> None:
        self.machine, self.folder, self.hash, self.id = machine, folder, name, id
        self.after: tuple[Needed, ...] = ()
        self._ends = ends_folder
        self._batch = build_machine(machine.batch_type)
        self._context: Context | None = None
        self._clock = clock
        self._missed, self._missed_since_s = 0, 0.0

    @property
    def context(self) -> Context:
        if self._context is None:
            self._context = build_context(self.machine)
        return self._context

    def share(self, context: Context) -> None:
        """Use this way to the machine, unless there is one already."""
        self._context = self._context or context

    @property
    def ends_folder(self) -> ends.Folder:
        if self._ends is None:
            self._ends = ends.folder_on(self.context, self.folder)
        return self._ends

    def keep_end_in(self, folder: ends.Folder) -> None:
        """Where its end is written down, unless it is known already."""
        self._ends = self._ends or folder

    @property
    def settles(self) -> bool:
        """Whether its files may come to light after its end."""
        return self._batch.settle_s > 0

    @property
    def end_path(self) -> str:
        """Where its end is written down, for good."""
        return self.ends_folder.of(self.hash)

    def is_beside(self, other: OneJob) -> bool:
        """Whether both are jobs of the same batch system."""
        mine, theirs = self.machine, other.machine
        place = [(each.batch_type, each.profile.get("hostname"), each.profile.get("port")) for each in (mine, theirs)]
        return place[0] == place[1]

    @property
    def needed(self) -> Needed:
        """This job, for one that depends on it."""
        return needs.of(self.id, self.folder, self.hash, self.ends_folder)

    def known(self, ids: Sequence[str]) -> list[Needed]:
        """Jobs on this machine by their ids, with what we know of those that are ours."""
        return needs.by_ids(self.context, self.ends_folder, self.machine.batch_type, ids)

    def outcomes(self, needed: Sequence[Needed]) -> dict[Needed, bool]:
        """Of those of these jobs that are known to be over: whether they have ended well."""
        return needs.outcomes(self.context, self._batch, needed)

    def note_id(self) -> None:
        """Let others depend on it by its id, in this program or another."""
        kept = self.ends_folder
        needs.note_id(self.context, kept, self.machine.batch_type, self.id, self.folder, self.hash)

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def submit(self, given: Script) -> None:
        """Hand it over. Raises SubmitRefusedError, QueueFullError, MachineBusyError; after the last `find` tells."""
        self.after = given.after
        self._ends = self.ends_folder  # for all who come back to it
        job = self._job(given)
        texts = {name: text.encode() for name, text in self._batch.script(job).items()}
        self.context.write({posixpath.join(self.folder, name): text for name, text in texts.items()})
        self.id = self._batch.submit(self.context, job)

    def _job(self, given: Script) -> JobToPlace:
        fresh = [f": >{shlex.quote(name)}" for name in (given.out, given.err) if name is not None]
        before = [
            *given.before,
            *needs.check(given.after, self.folder, self.hash),
            *given.resources.prepend_script,
            *fresh,
        ]
        resources = replace(given.resources, prepend_script=before)
        template = None
        if given.header is not None:
            template = "\n".join(given.header).replace("{", "{{").replace("}", "}}")
        return JobToPlace(
            hash=self.hash,
            name=given.name,
            tasks=(Task(given.command, ".", outlog=given.out, errlog=given.err),),
            hashes=(self.hash,),
            resources=resources,
            root=self.folder,
            template=template,
        )

    def find(self) -> bool:
        """Whether the machine has the job under an id that we did not get to know."""
        path = posixpath.join(self.folder, f".{self.hash}.0.id")
        self.id = self.context.read([path]).get(path, b"").decode(errors="replace").strip()
        return bool(self.id)

    def look(self) -> Status:
        """Where it is now. `finished` and `terminated` are for good, and the same for all who look.

        The exit code is that of the command.
        """
        return look_at([self])[0]

    @property
    def record_path(self) -> str:
        """What the job itself writes when its shell ends."""
        return posixpath.join(self.folder, f"{self.hash}_result.json")

    @property
    def reason_path(self) -> str:
        """Where the job says why it ends badly, when it is not for its command."""
        return posixpath.join(self.folder, script.reason_file(self.hash))

    def judge(self, listed: Status | None, record: Status | None) -> Status:
        """Where it is, from what the batch system tells and from its own record, if there are any."""
        if listed is not None and not listed.state.ended:
            self._missed = 0
            return listed
        killed = listed is not None and listed.reason in _KILLED
        if record is not None:
            return replace(record, reason=listed.reason) if listed is not None and killed and record.reason else record
        self._missed_since_s = self._missed_since_s if self._missed else self._clock()
        self._missed += 1
        settled = self._missed >= _LOOKS and self._clock() - self._missed_since_s >= self._batch.settle_s
        if listed is not None and settled and listed.state is JobState.finished:
            return listed
        if listed is not None and (killed or settled):
            return replace(listed, state=JobState.terminated, reason=listed.reason or Reason.VANISHED)
        return Status(JobState.terminated, reason=Reason.VANISHED) if settled else Status(JobState.completing)

    def without_id(self) -> Status:
        """Of a job that nobody has an id for: it is just being submitted, or the program died that should have done it."""
        self._missed_since_s = self._missed_since_s if self._missed else self._clock()
        self._missed += 1
        if self._clock() - self._missed_since_s < _HANDED_OVER_S:
            return Status(JobState.unsubmitted)
        return Status(JobState.terminated, reason=Reason.LAUNCH)

    def cancel(self) -> Status:
        """End it with all that runs in it; how it ended, which is well when it was over before. Raises MachineBusyError."""
        if not self.id and not self.find():
            what = "another program is just submitting it, or has died before it did"
            raise MachineBusyError(what, where=self.folder, remedy="try again in a moment")
        self._batch.cancel(self.context, [self.id])
        record = _told(self.context.read([self.record_path]).get(self.record_path, b""))
        if record is None or record.state is not JobState.finished:
            code = None if record is None else record.exit_code
            record = Status(JobState.terminated, reason=Reason.CANCELLED, exit_code=code)
        return _write_ends(self.context, {self: record})[self]

    @property
    def tidying(self) -> str:
        """Shell text that removes its own files from the folder; what it has made stays."""
        tag = f"{self.hash}{script.TASK_TAG}"
        names = f"{shlex.quote(script.tasks_folder(self.hash))} {tag} .{self.hash}.* {self.hash}[._]*"
        return f"cd -- {shlex.quote(self.folder)} && rm -rf -- {names}"

    def claim_epilogue(self) -> bool:
        """Whether we are the first of all programs to run what follows its end. Raises TransientError."""
        return ends.claim(self.context, f"{self.end_path.removesuffix('.json')}.epilogue")

    def forget(self) -> None:
        """Remove what is kept of its end: nobody else will be able to tell it."""
        ends.forget(self.context, self.end_path)

    def read(self, name: str) -> bytes | None:
        """The content of a file in its folder."""
        path = posixpath.join(self.folder, name)
        return self.context.read([path]).get(path)

    def to_dict(self) -> dict[str, Any]:
        """Without secrets: a machine with a password in its profile asks for it again, or is given a reference to it."""
        machine = description.machine_to_dict(self.machine)
        kept = None if self._ends is None else [self._ends.path, self._ends.host]
        after = [asdict(each) for each in self.after]
        return {
            "machine": machine,
            "folder": self.folder,
            "hash": self.hash,
            "id": self.id,
            "ends": kept,
            "after": after,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> OneJob:
        kept = found.get("ends")
        folder = None if kept is None else ends.Folder(*kept)
        machine = description.parse_machine(found["machine"])
        made = cls(machine, found["folder"], found["hash"], found["id"], ends_folder=folder)
        made.after = tuple(Needed(**each) for each in found.get("after", ()))
        return made


def look_at(jobs: Sequence[OneJob]) -> list[Status]:
    """Where these jobs are now: one question for all of a machine, and one look at the records of those that have ended."""
    machines: dict[str, list[OneJob]] = {}
    for job in jobs:
        machines.setdefault(json.dumps(description.machine_to_dict(job.machine)), []).append(job)
    found: dict[OneJob, Status] = {}
    for together in machines.values():
        found |= _look_at_one_machine(together)
    return [found[job] for job in jobs]


def _look_at_one_machine(jobs: Sequence[OneJob]) -> dict[OneJob, Status]:
    context, machine = jobs[0].context, build_machine(jobs[0].machine.batch_type)
    for job in jobs:
        job.share(context)
    _share_ends(jobs)
    ids = [job.id for job in jobs if job.id or job.find()]
    listed = machine.query(context, ids) if ids else Listing()
    alive = {name for name, status in listed.items() if not status.state.ended and status.state is not JobState.unknown}
    over = [job for job in jobs if job.id not in alive]
    # The end is read last: it is written before the others go.
    read = context.read([path for job in over for path in (job.record_path, job.reason_path, job.end_path)])
    known = {job: told for job in over if (told := ends.read(read.get(job.end_path, b""))) is not None}
    new = {job: _judged(job, listed, read) for job in jobs if job not in known}
    silent = [job for job in new if job.record_path not in read and new[job].state in _MAY_NEVER_START]
    new |= _never_began(context, [job for job in silent if new[job].reason == Reason.VANISHED])
    new |= _without_hope(context, machine, [job for job in silent if job.after], new)
    ended = {job: status for job, status in new.items() if status.state.ended}
    return {**known, **new, **_write_ends(context, ended)}


def _share_ends(jobs: Sequence[OneJob]) -> None:
    """Ask the machine once where ends are kept, not for each job."""
    known: dict[str, ends.Folder] = {}
    for job in jobs:
        if job.folder in known:
            job.keep_end_in(known[job.folder])
        known[job.folder] = job.ends_folder


def _judged(job: OneJob, listed: Mapping[str, Status], read: Mapping[str, bytes]) -> Status:
    if not job.id:
        return job.without_id()
    record = _told(read.get(job.record_path, b""))
    reason = script.told_reason(read.get(job.reason_path, b""))
    if reason:
        record = replace(record or Status(JobState.terminated), state=JobState.terminated, reason=reason)
    told = listed.get(job.id)
    if told is not None and told.state is JobState.unknown and record is not None:
        told = None  # the batch system tells nothing of it now, but its own record does
    return job.judge(told, record)


def _never_began(context: Context, jobs: Sequence[OneJob]) -> dict[OneJob, Status]:
    """Of these jobs, of which nothing is known any more, those that somebody has taken out of the queue."""
    paths = {job: posixpath.join(job.folder, f".{job.hash}.0.claim") for job in jobs if job.settles}
    read = context.read(list(paths.values())) if paths else {}
    return {job: Status(JobState.terminated, reason=Reason.CANCELLED) for job in paths if paths[job] not in read}


def _without_hope(
    context: Context, machine: Machine, jobs: Sequence[OneJob], found: Mapping[OneJob, Status]
) -> dict[OneJob, Status]:
    """Those of these jobs that can never start, or never could, because a job that they need has not ended well."""
    known = needs.outcomes(context, machine, [need for job in jobs for need in job.after])
    lost: dict[OneJob, Status] = {}
    for job in jobs:
        which = next((need for need in job.after if not known.get(need, True)), None)
        if which is not None:
            lost[job] = Status(JobState.terminated, reason=f"{Reason.DEPENDENCY}: job {which.id}")
    waiting = [job.id for job in lost if not found[job].state.ended]
    if waiting:
        machine.cancel(context, waiting)
    return lost


def _write_ends(context: Context, ended: Mapping[OneJob, Status]) -> dict[OneJob, Status]:
    """What all agree on from now."""
    if not ended:
        return {}
    kept = ends.write(context, [(job.end_path, job.hash, status, job.tidying) for job, status in ended.items()])
    return {job: kept[job.hash] for job in ended}


def _told(text: bytes) -> Status | None:
    """What a job's record says; None when there is none yet."""
    found = result.parse(text)
    if found is None:
        return None
    code = found.tasks[0].exit_code if found.tasks else found.exit_code or 1
    state, reason = (JobState.terminated, Reason.PROGRAM) if code else (JobState.finished, "")
    if not found.tasks and found.exit_code > 128:
        reason = Reason.CANCELLED
    return Status(state, "", reason, code, found.start_s, found.end_s, found.node)


def make_folder(context: Context, folder: str) -> str:
    """Make a folder on a machine; its absolute path. `~` is the home there, a relative one is below it (or the current one)."""
    folder = context.absolute(folder)
    quoted = f'"$HOME"/{shlex.quote(folder[2:])}' if folder.startswith("~/") else shlex.quote(folder)
    quoted = '"$HOME"' if folder == "~" else quoted
    return context.check(f"mkdir -p -- {quoted} && cd -- {quoted} && pwd").strip()
