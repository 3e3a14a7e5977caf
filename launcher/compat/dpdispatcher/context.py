"""DPDispatcher's contexts: files and commands in the folder of a submission, on its machine."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from ...contexts import globs as staging
from ...contexts.base import Context
from ...contexts.registry import build_context
from ...description import parse as description
from ...description.parse import MachineDescription
from ...submission import store as record
from ...submission.single import make_folder

if TYPE_CHECKING:
    from .submission import Submission

_AS_LONG_AS_IT_TAKES_S = 7 * 86400.0


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


class BoundContext:
    """A way to a machine, bound to a submission: relative names are below `remote_root`, where that has its files.

    Opened by the first use. `inner` has what DPDispatcher's contexts lack.
    """

    _kind: ClassVar[str] = "Local"

    def __init__(
        self,
        local_root: str = ".",
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        given = {"local_root": local_root, "remote_root": remote_root, "remote_profile": dict(remote_profile or {})}
        self.values = description.parse_machine({"batch_type": "Shell", "context_type": self._kind, **given, **more})
        self.submission: Submission | None = None
        self._inner: Context | None = None

    @classmethod
    def of(cls, values: MachineDescription) -> BoundContext:
        made = object.__new__(CONTEXTS[values.context_type])
        made.values, made.submission, made._inner = values, None, None
        return made

    @classmethod
    def load_from_dict(cls, context_dict: Mapping[str, Any]) -> BoundContext:
        """Of the keys of a machine; its `batch_type` may be missing."""
        return cls.of(description.parse_machine({"batch_type": "Shell", **context_dict}))

    def with_machine(self, batch_type: str) -> MachineDescription:
        return replace(
            self.values, batch_type=description.parse_machine({**_LEAST, "batch_type": batch_type}).batch_type
        )

    @property
    def inner(self) -> Context:
        if self._inner is None:
            self._inner = build_context(self.values)
        return self._inner

    def bind_submission(self, submission: Submission) -> None:
        self.submission = submission

    @property
    def _bound(self) -> Submission:
        if self.submission is None:
            raise RuntimeError("no submission is bound to this context; call bind_submission first")
        return self.submission

    @property
    def local_root(self) -> str:
        """Absolute folder here: that of the submission's tasks, once one is bound."""
        root = Path(self.values.local_root).expanduser().absolute()
        return str(root if self.submission is None else root / self.submission.work_base)

    @property
    def remote_root(self) -> str:
        """The folder of the submission on the machine; before one is bound, that of all submissions."""
        if self.submission is None:
            return self.values.remote_root or self.local_root
        begun = record.root_of(self.submission.submission_hash)
        return begun or self.inner.root_for(self.submission.submission_hash, self.submission.work_base)

    def get_job_root(self) -> str:
        return self.remote_root

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self.remote_root, name))

    # --- files --------------------------------------------------------------------------------------------------------

    def write_file(self, fname: str, write_str: str) -> None:
        """Write a text, whole or not at all."""
        self.inner.write({self._path(fname): write_str.encode()})

    def read_file(self, fname: str) -> str:
        """Raises FileNotFoundError."""
        path = self._path(fname)
        found = self.inner.read([path])
        if path not in found:
            raise FileNotFoundError(f"no file {path}")
        return found[path].decode()

    def check_file_exists(self, fname: str) -> bool:
        """Whether a regular file is there."""
        return self.inner.run(f"[ -f {shlex.quote(fname)} ]", cwd=self.remote_root).code == 0

    def upload(self, submission: Submission) -> None:
        submission.upload_jobs()

    def download(
        self,
        submission: Submission,
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
        submission.download_jobs(include_failed=True, mark_failure=check_exists and mark_failure, check_exists=True)
        tasks = submission.belonging_tasks
        home = Path(self.local_root)
        if back_error:
            listing = self.inner.list_files(self.remote_root, {".", *(task.values.folder for task in tasks)})
            errors = [file.path for file in listing if fnmatch(PurePosixPath(file.path).name, "error*")]
            self.inner.get(self.remote_root, errors, home)
        wanted = [(task.values.folder, pattern) for task in tasks for pattern in task.backward_files]
        missing = [f"{folder}/{name}" for folder, name in wanted if not staging.is_here(home / folder, name)]
        if missing and not check_exists:
            raise FileNotFoundError(f"cannot find download file {self.remote_root}/{missing[0]}")

    def clean(self) -> None:
        """Remove the folder of the submission."""
        self._bound.clean_jobs()

    # --- commands -----------------------------------------------------------------------------------------------------

    def block_call(self, cmd: str) -> tuple[int, None, Stream, Stream]:
        """Run shell text in the submission's folder; (exit code, None, its output, its errors)."""
        make_folder(self.inner, self.remote_root)
        done = self.inner.run(cmd, cwd=self.remote_root, timeout_s=_AS_LONG_AS_IT_TAKES_S)
        return done.code, None, Stream(done.out.encode()), Stream(done.err.encode())

    def block_checkcall(
        self, cmd: str, asynchronously: bool = False, stderr_whitelist: Iterable[str] | None = None
    ) -> tuple[None, Stream, Stream]:
        """Run shell text that must succeed; (None, its output, its errors). `asynchronously`: without waiting for it.

        What stderr says is no failure, so `stderr_whitelist` has nothing to excuse. Raises RuntimeError.
        """
        if asynchronously:
            cmd = f"nohup sh -c {shlex.quote(cmd)} >/dev/null 2>&1 </dev/null &"
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
        run = f"sh ./{name}.sh >{name}.out 2>{name}.err; echo $? >{name}.code && mv {name}.code {name}.done"
        self.block_checkcall(f"setsid sh -c {shlex.quote(run)} >/dev/null 2>&1 </dev/null &")
        return Call(name)

    def check_finish(self, proc: Call | None = None, *, cmd_pipes: Call | None = None) -> bool:
        """`cmd_pipes`: its name in the manual's SSHContext."""
        proc = _one_call(proc, cmd_pipes)
        return self.check_file_exists(f"{proc.name}.done")

    def get_return(
        self, proc: Call | None = None, *, cmd_pipes: Call | None = None
    ) -> tuple[int, Stream, Stream] | tuple[None, None, None]:
        """(exit code, output, errors) of an ended call, whose files are removed; three times None while it runs."""
        proc = _one_call(proc, cmd_pipes)
        names = [f"{proc.name}.{end}" for end in ("done", "out", "err", "sh")]
        paths = [self._path(name) for name in names]
        found = self.inner.read(paths[:3])
        if paths[0] not in found:
            return None, None, None
        self.inner.delete(self.remote_root, names)
        return int(found[paths[0]]), Stream(found[paths[1]]), Stream(found[paths[2]])

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None


def _one_call(proc: Call | None, cmd_pipes: Call | None) -> Call:
    given = proc if proc is not None else cmd_pipes
    if given is None:
        raise TypeError("expected what call() has returned")
    return given


class LocalContext(BoundContext):
    """A folder of its own on this machine."""


class LazyLocalContext(BoundContext):
    """The project's own folder on this machine."""

    _kind = "LazyLocal"


class SSHContext(BoundContext):
    """Another machine, by SSH."""

    _kind = "SSH"


CONTEXTS: dict[str, type[BoundContext]] = {each.__name__: each for each in (LocalContext, LazyLocalContext, SSHContext)}
_LEAST = {"context_type": "LazyLocal", "local_root": "."}
