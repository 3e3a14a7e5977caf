"""Classes of somebody's own, derived from Machine or from a context, in the place of ours.

What such a class overrides is called, in the terms that DPDispatcher has for it; all else is done as for the class that it is
derived from. A job looks to its methods like one of the submission (`PlacedJob`), and `super().do_submit(job)` and the like
do what they do without that class.

Another program has no such class. Where a class changes how jobs are handed over, asked about or reached, others must leave the
submission alone: a job that they cannot see would be placed again. That is noted beside its record (`Placement.opened`).
"""

from __future__ import annotations

import inspect
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..contexts.base import NOTHING, Context, Done, LocalFile, RemoteFile, Transfer, Watch
from ..contexts.shell import Text, place, sh
from ..description.job_state import JobState
from ..description.resources import Resources
from ..description.task import Task
from ..job.script import RAN_PART
from ..job.spec import JobToPlace
from ..job.states import Listing, Status
from ..machines.base import BatchSystem, MachineBusyError, SubmitRefusedError

SCRIPT = frozenset(
    {
        "gen_script",
        "gen_script_header",
        "gen_script_custom_flags_lines",
        "gen_script_env",
        "gen_script_command",
        "gen_script_run_command",
        "gen_script_end",
    }
)
ACCESS = frozenset({"do_submit", "check_status", "kill"})
REACH = frozenset({"block_call", "block_checkcall", "read_file", "write_file", "upload", "download", "clean"})
"""Methods of a context."""


def overridden(kind: type, base: type, names: Iterable[str]) -> frozenset[str]:
    """Which of these methods of `base` the class has its own of."""
    return frozenset(name for name in names if _raw(kind, name) is not _raw(base, name))


def _raw(kind: type, name: str) -> object:
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)


@dataclass
class PlacedJob:
    """One job as the methods of a machine see it while a submission is being placed.

    Attributes:
        to_place: the job as it is rendered; None of one that was placed by an earlier run.
        submit: hands it over as the class above does it.
    """

    job_hash: str
    job_task_list: list[Task]
    resources: Resources
    fail_count: int = 0
    job_id: str = ""
    job_state: JobState | None = None
    machine: Any = None
    to_place: JobToPlace | None = None
    submit: Callable[[], str] = field(default=lambda: "", repr=False)
    ask: Callable[[], JobState] = field(default=lambda: JobState.unknown, repr=False)
    end: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def script_file_name(self) -> str:
        return f".{self.job_hash}.sub"


class OwnMachine(Protocol):
    """The methods of a Machine that may be overridden."""

    def gen_script(self, job: Any) -> str: ...
    def gen_script_command(self, job: Any) -> str: ...
    def do_submit(self, job: Any) -> str: ...
    def check_status(self, job: Any) -> JobState: ...
    def kill(self, job: Any) -> None: ...


class OwnBatchSystem(BatchSystem):
    """The batch system as a class derived from Machine has it; `base` is that of the class above."""

    def __init__(self, machine: OwnMachine, base: BatchSystem, own: frozenset[str]) -> None:
        self._machine, self._base, self._own = machine, base, own
        self._jobs: dict[str, JobToPlace] = {}
        """Those that were handed over by this program, by id."""
        for name in ("kind", "aliases", "keys", "variables", "commands", "helpful_commands", "queue_check", "views"):
            setattr(self, name, getattr(base, name))
        self.script_suffix, self.settle_s = base.script_suffix, base.settle_s  # type: ignore[misc]

    @property
    def is_only_script(self) -> bool:
        return not self._own & ACCESS

    def script(self, job: JobToPlace) -> dict[str, str]:
        if not self._own & SCRIPT:
            return self._base.script(job)
        view = self._view(job)
        run_part, mark = self._machine.gen_script_command(view), f"{RAN_PART}={job.hash}\n"
        run_part = run_part if mark in run_part else f"{run_part.rstrip()}\nwait\n{mark}"
        return {job.script_name: self._machine.gen_script(view), job.run_name: run_part}

    def submit(self, context: Context, job: JobToPlace) -> str:
        if "do_submit" not in self._own:
            return self._base.submit(context, job)
        view = self._view(job)
        view.submit = lambda: self._base.submit(context, job)
        try:
            job_id = str(self._machine.do_submit(view) or "")
        except RuntimeError as error:
            raise SubmitRefusedError(str(error), where=type(self._machine).__name__) from error
        if not job_id:
            raise MachineBusyError("do_submit gave no id", where=type(self._machine).__name__)
        self._jobs[job_id] = job
        context.write({f"{job.root}/{job.id_file}": job_id.encode()})
        return job_id

    def submit_some(self, context: Context, jobs: Sequence[JobToPlace]) -> list[Any]:
        return (
            self._base.submit_some(context, jobs)
            if "do_submit" not in self._own
            else super().submit_some(context, jobs)
        )

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        if "check_status" not in self._own:
            return self._base.query(context, ids)
        found = Listing()
        for name in ids:
            view = self._of_id(name)
            view.ask = lambda name=name: self._asked(context, name)  # type: ignore[misc]
            state = JobState(self._machine.check_status(view))
            found[name] = Status(state, f"{type(self._machine).__name__}: {state.name}")
            if state in (JobState.unknown, JobState.unsubmitted):
                found[name] = Status(JobState.unknown, "not known now")
                found.unclear.add(name)
        return found

    def _asked(self, context: Context, name: str) -> JobState:
        """As the class above tells it; one that is gone has ended, and its own record tells how."""
        told = self._base.query(context, [name])
        return told[name].state if name in told else JobState.terminated

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        if "kill" not in self._own:
            self._base.cancel(context, ids)
            return
        for name in ids:
            view = self._of_id(name)
            view.end = lambda name=name: self._base.cancel(context, [name])  # type: ignore[misc]
            self._machine.kill(view)

    def find(self, context: Context, jobs: Sequence[JobToPlace]) -> dict[str, str]:
        return {} if "do_submit" in self._own else self._base.find(context, jobs)

    def reasons(self, context: Context, ids: Sequence[str]) -> dict[str, Status]:
        return {} if "check_status" in self._own else self._base.reasons(context, ids)

    def outputs(self, job_id: str, job_hash: str) -> tuple[str, ...]:
        return () if "do_submit" in self._own else self._base.outputs(job_id, job_hash)

    def _view(self, job: JobToPlace, job_id: str = "") -> PlacedJob:
        tasks = list(job.tasks)
        return PlacedJob(job.hash, tasks, job.resources, job.attempt, job_id, machine=self._machine, to_place=job)

    def _of_id(self, job_id: str) -> PlacedJob:
        if job_id in self._jobs:
            return self._view(self._jobs[job_id], job_id)
        context: Any = getattr(self._machine, "context", None)
        known = getattr(context.submission, "belonging_jobs", ()) if context is not None else ()
        for job in known:
            if job.job_id == job_id:
                return PlacedJob(job.job_hash, list(job.job_task_list), job.resources, job.fail_count, job_id)
        return PlacedJob("", [], Resources(), job_id=job_id, machine=self._machine)


class OwnWay(Context):
    """The way to a machine as a class derived from a context has it; `inner` is that of the class above."""

    kind = "own"

    def __init__(self, bound: Any, inner: Context, own: frozenset[str]) -> None:
        super().__init__(inner.local_root, inner.remote_root, inner.profile)
        self._bound, self._inner, self._own = bound, inner, own
        self.kind, self.local, self.in_place = inner.kind, inner.local, inner.in_place  # type: ignore[misc]

    def root_for(self, name: str, work_base: str) -> str:
        return self._inner.root_for(name, work_base)

    def absolute(self, path: str) -> str:
        return self._inner.absolute(path)

    def run(
        self, command: Text, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        if "block_call" not in self._own or stdin:
            return self._inner.run(command, cwd=cwd, stdin=stdin, timeout_s=timeout_s, once=once)
        if cwd is not None:
            command = sh("cd {folder} || exit 73\n{command}", folder=place(self.absolute(cwd)), command=command)
        with self._bound.called(command=True):
            code, _, out, err = self._bound.block_call(command)
        return Done(int(code), out.read().decode(errors="replace"), err.read().decode(errors="replace"))

    def _name(self, path: str) -> str:
        """Below the submission's folder, as the methods of a context have it."""
        return posixpath.relpath(self.absolute(path), self.absolute(self._bound.remote_root))

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        if "read_file" not in self._own:
            return self._inner.read(paths)
        found = {}
        for path in paths:
            try:
                found[path] = self._bound.read_file(self._name(path)).encode()
            except OSError:
                continue
        return found

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        if "write_file" not in self._own:
            self._inner.write(files, mode)
            return
        for path, content in files.items():
            self._bound.write_file(self._name(path), content.decode())

    def list_files(self, root: str, folders: Iterable[str], *, with_folders: bool = False) -> list[RemoteFile]:
        return self._inner.list_files(root, folders, with_folders=with_folders)

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        if "upload" not in self._own or self._bound.submission is None or self._bound.is_transferring:
            return self._inner.put(root, files, folders, watch)
        with self._bound.called():
            self._bound.upload(self._bound.submission)
        return Transfer(tuple(file.path for file in files), (), sum(file.size for file in files))

    def get(
        self,
        root: str,
        paths: Sequence[str],
        into: Path,
        watch: Watch | None = None,
        *,
        partly: bool = False,
        untouched: Mapping[str, str] = NOTHING,
    ) -> Transfer:
        if "download" not in self._own or self._bound.submission is None or self._bound.is_transferring:
            return self._inner.get(root, paths, into, watch, partly=partly, untouched=untouched)
        with self._bound.called():
            known = inspect.signature(self._bound.download).parameters
            options = {"check_exists": True, "mark_failure": False}  # jobs may still be running
            self._bound.download(
                self._bound.submission, **{name: value for name, value in options.items() if name in known}
            )
        lost = {path: "download() has not brought it" for path in paths if not (into / path).exists()}
        return Transfer(tuple(path for path in paths if path not in lost), (), 0, lost)

    def remove(self, root: str) -> None:
        if "clean" not in self._own or self._bound.submission is None or self._bound.is_transferring:
            self._inner.remove(root)
            return
        with self._bound.called():
            self._bound.clean()

    def close(self) -> None:
        self._inner.close()
