"""One batch job in a folder of its machine, without a submission around it: what job scripts and single functions stand on.

The script is that of submissions, so an exit code is known on every batch system, and a job that was handed over twice (we
died before we had its id) runs once.
"""

from __future__ import annotations

import json
import posixpath
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import description, result, script
from .contexts.base import Context
from .contexts.build import build_context
from .description import MachineDescription
from .machines.base import JobToPlace
from .machines.names import build_machine
from .resources import Resources
from .states import JobState, Reason, Status
from .task import Task

_LOOKS = 3
"""So often a job must be missing, or without a record, before it counts as ended: files and listings lag behind."""
_KILLED = (Reason.TIME, Reason.MEMORY, Reason.NODE, Reason.CANCELLED, Reason.PREEMPTED)
"""Of these the batch system knows, and the job's own record does not."""


@dataclass(frozen=True)
class Script:
    """What is to be run.

    Attributes:
        command: shell text, run in the job's folder.
        header: directives, instead of those that the resources give.
        before: shell lines that come first, in the same shell as the directives.
        out, err: files for its output; None leaves it to the batch system.
    """

    command: str
    name: str = ""
    header: tuple[str, ...] | None = None
    resources: Resources = field(default_factory=Resources)
    before: tuple[str, ...] = ()
    out: str | None = None
    err: str | None = None


class OneJob:
    """A batch job that can be come back to: `to_dict` and `from_dict` keep it over the end of this program.

    Attributes:
        folder: absolute folder on the machine in which it runs.
        hash: 40 hex digits that name it, and its files, for ever.
        id: the batch system's; empty until it is submitted.
    """

    def __init__(
        self, machine: MachineDescription, folder: str, name: str, id: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.machine, self.folder, self.hash, self.id = machine, folder, name, id
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

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def submit(self, given: Script) -> None:
        """Hand it over. Raises SubmitRefusedError, QueueFullError, MachineBusyError; after the last `find` tells."""
        job = self._job(given)
        texts = {name: text.encode() for name, text in self._batch.script(job).items()}
        self.context.write({posixpath.join(self.folder, name): text for name, text in texts.items()})
        self.id = self._batch.submit(self.context, job)

    def _job(self, given: Script) -> JobToPlace:
        fresh = [f": >{shlex.quote(name)}" for name in (given.out, given.err) if name is not None]
        resources = replace(given.resources, prepend_script=(*given.before, *given.resources.prepend_script, *fresh))
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
        """Where it is now. `finished` and `terminated` are for good; the exit code is that of the command."""
        return look_at([self])[0]

    @property
    def record_path(self) -> str:
        """What the job itself writes when its shell ends."""
        return posixpath.join(self.folder, f"{self.hash}_result.json")

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

    def cancel(self) -> None:
        """End it with all that runs in it."""
        self._batch.cancel(self.context, [self.id])

    def tidy(self) -> None:
        """Remove its own files from the folder; what it has made stays."""
        tasks = shlex.quote(script.tasks_folder(self.hash))
        tag = f"{self.hash}{script.TASK_TAG}"
        self.context.run(f"rm -rf -- {tasks} {tag} .{self.hash}.* {self.hash}[._]*", cwd=self.folder)

    def read(self, name: str) -> bytes | None:
        """The content of a file in its folder."""
        path = posixpath.join(self.folder, name)
        return self.context.read([path]).get(path)

    def to_dict(self) -> dict[str, Any]:
        """Without secrets: a machine with a password in its profile asks for it again, or is given a reference to it."""
        machine = description.machine_to_dict(self.machine)
        return {"machine": machine, "folder": self.folder, "hash": self.hash, "id": self.id}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> OneJob:
        return cls(description.parse_machine(found["machine"]), found["folder"], found["hash"], found["id"])


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
    context = jobs[0].context
    for job in jobs:
        job.share(context)
    listed = build_machine(jobs[0].machine.batch_type).query(context, [job.id for job in jobs])
    over = [job.record_path for job in jobs if job.id not in listed or listed[job.id].state.ended]
    read = context.read(over) if over else {}
    return {job: job.judge(listed.get(job.id), _told(read.get(job.record_path, b""))) for job in jobs}


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
