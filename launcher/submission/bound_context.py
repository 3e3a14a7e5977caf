"""The way to a machine as scripts use it: files and commands in the folder of a submission.

`contexts` has the ways themselves, which know no submission. This is one of them bound to a submission: relative names are
below the submission's folder on the machine. Method names and what they return are those of DPDispatcher's contexts, because
scripts call them on `machine.context`.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

from ..contexts import globs
from ..contexts.base import Context
from ..contexts.registry import build_context
from ..contexts.shell import place, sh, users, word
from ..description.machine import MachineDescription
from . import store
from .own_classes import REACH, OwnWay, overridden
from .owner import Owner

_OURS = __name__.partition(".launcher.")[0]

_AS_LONG_AS_IT_TAKES_S = 7 * 86400.0
_TIMED_OUT = 124
"""Exit code of `timeout`."""
_WAIT_FOR_CALL = "{limit} sh -c 'until [ -e {name}.done ]; do sleep 0.1; done'"
_RUN_CALL = """\
echo $$ >{name}.pid
sh ./{name}.sh >{name}.out 2>{name}.err
echo $? >{name}.code && mv {name}.code {name}.done"""
_END_CALL = """\
for n in 1 2 3 4 5; do [ -s {name}.pid ] && break; sleep 0.2; done
[ -e {name}.done ] || {
  kill -s TERM -- -$(cat {name}.pid) 2>/dev/null
  echo 143 >{name}.code && mv {name}.code {name}.done
}"""


class TaskFiles(Protocol):
    """What a transfer needs of a task."""

    @property
    def task_work_path(self) -> str: ...

    @property
    def forward_files(self) -> Iterable[str]: ...

    @property
    def backward_files(self) -> Iterable[str]: ...


class Files(Protocol):
    """What a transfer needs of a submission; that of a script may be another class than ours."""

    work_base: str

    @property
    def submission_hash(self) -> str: ...

    @property
    def belonging_tasks(self) -> Iterable[TaskFiles]: ...


class Stream:
    """What a command has printed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data

    def readlines(self) -> list[str]:
        return [f"{line}\n" for line in self._data.decode(errors="replace").splitlines()]


@dataclass(frozen=True)
class Call:
    """A command that was started by `call`; its files in the submission's folder begin with `name`."""

    name: str
    context: BoundContext

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. Raises TimeoutError after `timeout` seconds."""
        limit = sh("") if timeout is None else sh("timeout {seconds}", seconds=timeout)
        code, _, _, err = self.context.block_call(sh(_WAIT_FOR_CALL, limit=limit, name=word(self.name)))
        if code == _TIMED_OUT and timeout is not None:
            raise TimeoutError(f"the command has not ended within {timeout:g} s")
        if code:
            raise RuntimeError(err.read().decode(errors="replace"))
        return int(self.context.read_file(f"{self.name}.done"))


class BoundContext:
    """A way to a machine, bound to a submission. Opened by the first use.

    Methods that a derived class overrides are called when a submission is placed (`own_classes.OwnWay`).

    Attributes:
        description: the machine; its batch system does not matter here.
        submission: whose folder is meant; None until one is bound.
    """

    subclasses_dict: ClassVar[dict[str, type[BoundContext]]] = {}
    """Classes of somebody's own, by name: what `context_type` may say in their program."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__module__.startswith(_OURS):
            BoundContext.subclasses_dict[cls.__name__] = cls

    def __init__(self, description: MachineDescription) -> None:
        self.description = description
        self.submission: Files | None = None
        self._inner: Context | None = None
        self._local_root = self._remote_root = ""
        """What a program has assigned; a submission that is placed has its own folders."""
        self.is_transferring = self.is_commanded = False
        """One of its own methods is just called for a submission that is being placed: to bring files, to run a command."""

    @contextmanager
    def called(self, *, command: bool = False) -> Iterator[None]:
        """Meanwhile its own methods do what they would without a submission that keeps a record."""
        before = self.is_transferring, self.is_commanded
        self.is_transferring, self.is_commanded = not command, command
        try:
            yield
        finally:
            self.is_transferring, self.is_commanded = before

    @property
    def way(self) -> Context | None:
        """How a submission that is placed reaches the machine, where that is a class of somebody's own."""
        own = overridden(type(self), BoundContext, REACH)
        return OwnWay(self, self.inner, own) if own else None

    def __getstate__(self) -> dict[str, object]:
        """A connection is not pickled; another one is opened where it is needed."""
        return {**vars(self), "_inner": None}

    @property
    def context_type(self) -> str:
        return self.description.context_type

    @property
    def remote_profile(self) -> dict[str, Any]:
        return dict(self.description.profile)

    @property
    def inner(self) -> Context:
        """The way itself."""
        if self._inner is None:
            self._inner = build_context(self.description)
        return self._inner

    def bind_submission(self, submission: Files) -> None:
        self.submission = submission

    @property
    def local_root(self) -> str:
        """Absolute folder here: that of the submission's tasks, once one is bound."""
        if self._local_root:
            return self._local_root
        root = Path(self.description.local_root).expanduser().absolute()
        return str(root if self.submission is None else root / self.submission.work_base)

    @local_root.setter
    def local_root(self, folder: str) -> None:
        self._local_root = folder

    @property
    def remote_root(self) -> str:
        """The folder of the submission on the machine; before one is bound, that of all submissions."""
        if self._remote_root:
            return self._remote_root
        if self.submission is None:
            return self.description.remote_root or self.local_root
        name = self.submission.submission_hash
        return store.root_of(name) or self.inner.root_for(name, self.submission.work_base)

    @remote_root.setter
    def remote_root(self, folder: str) -> None:
        self._remote_root = folder

    def get_job_root(self) -> str:
        return self.remote_root

    def _path(self, name: str) -> str:
        return self.inner.absolute(str(PurePosixPath(self.remote_root, name)))

    # --- files --------------------------------------------------------------------------------------------------------

    def write_file(self, fname: str, write_str: str) -> None:
        """Write a text, whole or not at all."""
        self.inner.write({self._path(fname): write_str.encode()})

    def read_file(self, fname: str) -> str:
        """Raises FileNotFoundError."""
        path = self._path(fname)
        contents = self.inner.read([path])
        if path not in contents:
            raise FileNotFoundError(f"no file {path}")
        return contents[path].decode()

    def check_file_exists(self, fname: str) -> bool:
        """Whether a regular file is there."""
        return self.inner.run(sh("[ -f {file} ]", file=place(self._path(fname)))).code == 0

    def upload(self, submission: Files) -> None:
        """Bring over what tasks need. Raises FileNotFoundError."""
        self.bind_submission(submission)
        if isinstance(submission, Owner) and not self.is_transferring:  # it keeps a record of what was sent
            submission.upload_jobs()
            return
        work = Path(self.local_root)
        patterns = [(list(getattr(submission, "forward_common_files", ())), "")]
        patterns += [(list(task.forward_files), _folder(task)) for task in submission.belonging_tasks]
        folders = {folder for _, folder in patterns if folder}
        for names, folder in patterns:
            folders.update(globs.forward_folders(names, work, folder))
        files = globs.merge([globs.forward(names, work, folder) for names, folder in patterns])
        self.inner.make_folder(self.remote_root)
        self.inner.put(self.remote_root, files, sorted(folders))

    def download(
        self,
        submission: Files,
        check_exists: bool = False,
        mark_failure: bool = True,
        back_error: bool = False,
    ) -> None:
        """Bring home what the tasks have made.

        Args:
            check_exists: results that are missing are no error; with `mark_failure` an empty file is left for each.
            back_error: also bring `error*` of all tasks' folders.

        Raises FileNotFoundError.
        """
        self.bind_submission(submission)
        tasks = list(submission.belonging_tasks)
        marks = check_exists and mark_failure
        if isinstance(submission, Owner) and not self.is_transferring:
            submission.download_jobs(include_failed=True, mark_failure=marks, check_exists=True)
        else:
            self._download(tasks, list(getattr(submission, "backward_common_files", ())), marks=marks)
        home = Path(self.local_root)
        if back_error:
            listing = self.inner.list_files(self.remote_root, {".", *(_folder(task) for task in tasks)})
            errors = [file.path for file in listing if fnmatch(PurePosixPath(file.path).name, "error*")]
            self.inner.get(self.remote_root, errors, home)
        wanted = [(_folder(task), pattern) for task in tasks for pattern in task.backward_files]
        missing = [f"{folder}/{name}" for folder, name in wanted if not globs.is_here(home / folder, name)]
        if missing and not check_exists:
            raise FileNotFoundError(f"cannot find download file {self.remote_root}/{missing[0]}")

    def _download(self, tasks: Collection[TaskFiles], common: Collection[str], *, marks: bool) -> None:
        """What there is of these tasks' results; `marks`: a file for each pattern that finds nothing."""
        home, listing = Path(self.local_root), self.inner.list_files(self.remote_root, {"**"})
        patterns = [(common, "."), *((list(task.backward_files), _folder(task)) for task in tasks)]
        paths: set[str] = set()
        for names, folder in patterns:
            prefix = "" if folder == "." else folder
            below = [file for file in listing if not prefix or file.path.startswith(f"{prefix}/")]
            files, missing = globs.backward(names, folder, below)
            paths.update(files)
            for pattern in missing if marks else ():
                (home / folder).mkdir(parents=True, exist_ok=True)
                (home / folder / globs.failure_mark(pattern)).touch()
        self.inner.get(self.remote_root, sorted(paths), home)

    def clean(self) -> None:
        """Remove the folder of the submission."""
        if self.submission is None:
            raise RuntimeError("no submission is bound to this context; call bind_submission first")
        if isinstance(self.submission, Owner) and not self.is_transferring:
            self.submission.clean_jobs()
        elif not self.inner.in_place:  # there it is the project's own folder
            self.inner.remove(self.remote_root)

    # --- commands -----------------------------------------------------------------------------------------------------

    def block_call(self, cmd: str) -> tuple[int, None, Stream, Stream]:
        """Run shell text in the submission's folder; (exit code, None, its output, its errors)."""
        folder = None if self.is_commanded else self.inner.make_folder(self.remote_root)
        done = self.inner.run(users(cmd), cwd=folder, timeout_s=_AS_LONG_AS_IT_TAKES_S)
        return done.code, None, Stream(done.out.encode()), Stream(done.err.encode())

    def block_checkcall(
        self, cmd: str, asynchronously: bool = False, stderr_whitelist: Iterable[str] | None = None
    ) -> tuple[None, Stream, Stream]:
        """Run shell text that must succeed; (None, its output, its errors). `asynchronously`: without waiting for it.

        What stderr says is no failure, so `stderr_whitelist` has nothing to excuse. Raises RuntimeError.
        """
        if asynchronously:
            cmd = sh("nohup sh -c {command} >/dev/null 2>&1 </dev/null &", command=word(cmd))
        code, _, out, err = self.block_call(cmd)
        if code:
            whose = "" if self.submission is None else f" with job: {self.submission.submission_hash}"
            text = err.read().decode(errors="replace")
            raise RuntimeError(f"Get error code {code} in calling {cmd}{whose} . message: {text}")
        return None, out, err

    def call(self, cmd: str) -> Call:
        """Start shell text in the submission's folder; it goes on when we are gone."""
        name = f".call-{secrets.token_hex(6)}"
        self.write_file(f"{name}.sh", f"{cmd}\n")
        run = sh(_RUN_CALL, name=word(name))
        self.block_checkcall(sh("setsid sh -c {command} >/dev/null 2>&1 </dev/null &", command=word(run)))
        return Call(name, self)

    def check_finish(self, proc: Call | None = None, *, cmd_pipes: Call | None = None) -> bool:
        """`cmd_pipes`: its name in the manual's SSHContext."""
        call = _one_call(proc, cmd_pipes)
        return self.check_file_exists(f"{call.name}.done")

    def get_return(
        self, proc: Call | None = None, *, cmd_pipes: Call | None = None
    ) -> tuple[int, Stream, Stream] | tuple[None, None, None]:
        """(exit code, output, errors) of an ended call, whose files are removed; three times None while it runs."""
        call = _one_call(proc, cmd_pipes)
        names = [f"{call.name}.{end}" for end in ("done", "out", "err", "sh", "pid")]
        paths = [self._path(name) for name in names]
        contents = self.inner.read(paths[:3])
        if paths[0] not in contents:
            return None, None, None
        self.inner.delete(self.remote_root, names)
        return int(contents[paths[0]]), Stream(contents[paths[1]]), Stream(contents[paths[2]])

    def kill(self, proc: Call | None = None, *, cmd_pipes: Call | None = None) -> None:
        """End a call with all that it has started; nothing happens when it has ended. Its code is that of SIGTERM then."""
        self.block_checkcall(sh(_END_CALL, name=word(_one_call(proc, cmd_pipes).name)))

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None


def _folder(task: TaskFiles) -> str:
    return posixpath.normpath(task.task_work_path)


def _one_call(proc: Call | None, cmd_pipes: Call | None) -> Call:
    call = proc if proc is not None else cmd_pipes
    if call is None:
        raise TypeError("expected what call() has returned")
    return call
