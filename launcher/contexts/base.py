"""What a way to reach a machine can do. A context knows no batch system and no submission: commands, files, folders.

A new one is a class in a file of its own and a line in `description.schema.CONTEXTS`. It implements the abstract methods; what
the others do with them is right for most. The rules for all of them:

* Paths on the machine may have any spelling: each method takes them through `absolute` first. Names below a folder are relative
  POSIX paths in their one spelling (`paths.below`), also those that it gives, whatever the machine has said.
* Commands are `shell.Text` and run in a POSIX shell; what they give back is their output alone.
* A method may be called from any thread, but from one at a time, and again after an error. What was cut off is done again when
  the connection is back, for as long as the profile says; then ContextLostError.
* Files are there whole or not at all. One file that cannot be had keeps no other away.
* Nothing is opened before it is needed, and `close` gives everything back; a closed context may be used again.
"""

from __future__ import annotations

import os
import posixpath
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from ...pilot.model.errors import LostError, RefusedError, TransientError
from .modes import in_login_shell
from .shell import VARIABLE, Text, place, sh

_Kind = TypeVar("_Kind", bound="Context")


class ContextLostError(LostError):
    """The machine cannot be reached, although it was tried again for as long as the settings say."""


class TransferError(TransientError):
    """Files could not be brought over; what was there before is unharmed."""


class CommandFailedError(RefusedError):
    """A command on the machine ended with another code than 0; `where` is the command."""

    code = "command-failed"


class StartFilesError(RefusedError):
    """The login shell on the machine does not run what it is given."""

    code = "start-files"


@dataclass(frozen=True)
class Done:
    """An ended command: its exit code (128 + signal for a killed one) and its output as text."""

    code: int
    out: str
    err: str


def succeeded(done: Done, where: str) -> str:
    """The output of a command that must have ended well; CommandFailedError with its error text otherwise."""
    if done.code:
        what = f"ended with code {done.code}: {(done.err or done.out).strip()[-500:]}"
        raise CommandFailedError(what, where=where)
    return done.out


@dataclass(frozen=True)
class LocalFile:
    """One file that shall lie at `path`, relative to the submission's folder on the machine.

    Attributes:
        source: the file here (a link is followed).
        path: POSIX path below the root, without `..`.
        digest: sha256 of the content in hex.
        size: bytes.
        mode: permission bits.
    """

    source: Path
    path: str
    digest: str
    size: int
    mode: int


@dataclass(frozen=True)
class RemoteFile:
    """One regular file (links followed) found on the machine, by its POSIX path below the root.

    Attributes:
        folder: it is a folder with nothing in it; only in listings that ask for these.
        closed: it is a folder that cannot be read there; what it holds is not known.
    """

    path: str
    size: int
    mtime_s: float
    folder: bool = False
    closed: bool = False


@dataclass(frozen=True)
class Transfer:
    """What a transfer did: paths that travelled, paths that were the same already, bytes that travelled.

    `lost`: paths that could not be had, with the reason.
    """

    moved: tuple[str, ...]
    same: tuple[str, ...]
    sent_bytes: int
    lost: Mapping[str, str] = field(default_factory=dict)


class Tunnel:
    """A way to a port that the machine can reach; `address` is HOST:PORT to connect to from here, until `close`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def close(self) -> None:
        """End it and all connections through it; safe to call twice."""

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy` is what to do when it is not well; a finding that does not matter much is a warning."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    warning: bool = False


NO_FOLDER = 73
"""Exit code of a command whose folder is missing (EX_CANTCREAT)."""
NOTHING: Mapping[str, str] = MappingProxyType({})
Watch = Callable[[int, int], None]
"""Called during a transfer with bytes done and bytes in all."""


class Context(ABC):
    """A way to reach one machine. Opened by the first use, closed by `close`; safe to close twice.

    Every method may raise ContextLostError.
    """

    kind: ClassVar[str]
    """The class name of DPDispatcher, e.g. `SSHContext`."""
    local: ClassVar[bool] = False
    """Whether the machine is this one: its files can be opened here by the same path, and programs are the same."""
    in_place: ClassVar[bool] = False
    """Whether work is done in the folder of the tasks themselves: nothing is brought over, and nothing of theirs removed."""
    staged: ClassVar[bool] = False
    """Whether jobs run where no command of ours does, and see other files than these: their batch system brings them what
    they need, and back what they have made. Commands and files here are those of a folder that stands for theirs."""

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        self.local_root = local_root
        self.remote_root = remote_root
        self.profile = profile
        self.removes_in_background = False
        """Removing a folder is not waited for, where the machine is another one (`clean_asynchronously`)."""
        self.tell: Callable[[str], None] = lambda text: None
        """For what the user should know although nothing has failed."""
        self.noise = ""
        """What start files on the machine print besides the answer to a command; it is left out of that."""

    @abstractmethod
    def root_for(self, name: str, work_base: str) -> str:
        """The folder on the machine of the submission `name` (a hash); it need not be there yet."""

    def absolute(self, path: str) -> str:
        """The path from the machine's root folder; may have to ask the machine.

        `~`, `~somebody` and a variable as its first part are filled in, in `remote_root` variables as any part; whatever else
        is there is a name. A relative path is below `fill_in(".")`. Raises DescriptionError for what is no folder there.
        """
        root = (self.remote_root or "").rstrip("/")
        if root and (path == root or path.startswith(f"{root}/")) and (root[0] != "/" or VARIABLE.search(root)):
            return posixpath.normpath(f"{self.fill_in(root)}/{path[len(root) :]}")
        if path.startswith("/"):
            return path
        first, _, rest = path.partition("/")
        if first[:1] != "~" and not VARIABLE.fullmatch(first):
            first, rest = ".", path
        return posixpath.normpath(f"{self.fill_in(first)}/{rest}")

    def fill_in(self, folder: str) -> str:
        """The absolute path of a folder in which `~` and variables as whole parts mean something; here: where nothing does.

        `.` is the home folder there; where the machine is this one, the current folder. Raises DescriptionError.
        """
        return posixpath.normpath(f"/{folder}")

    @abstractmethod
    def run(
        self, command: Text, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        """Run shell text on the machine and wait. A missing `cwd` gives code NO_FOLDER and the command is not run.

        After a broken connection it is run again, unless `once`. Raises TransientError when it takes longer than
        `timeout_s`, or with `once` when the connection broke: then it may have been run, or not. StartFilesError when the
        login shell there does not run it.
        """

    def run_in_login_shell(
        self, ours: Text, *, before: Iterable[str] = (), cwd: str | None = None, timeout_s: float = 60.0
    ) -> Done:
        """Run lines of ours in a shell as job scripts have it, after these lines of a user, whatever those set.

        Raises what `run` does, StartFilesError also when the profile does not let the shell come to these lines.
        """
        begun = f"@{secrets.token_hex(8)}@"
        done = self.run(in_login_shell(ours, begun, before), cwd=cwd, timeout_s=timeout_s)
        _, mark, out = done.out.partition(f"{begun}\n")
        if not mark and cwd is not None and done.code == NO_FOLDER:
            return done
        if not mark:
            lines = ", or a line of prepend_script," if before else ""
            words = f": {told}" if (told := done.err.strip()[-300:]) else ""
            raise StartFilesError(
                f"your login profile (.bash_profile, .profile){lines} replaces or ends the shell{words}",
                where="bash -l",
                remedy="job scripts run in one. Let it do so only in terminals: case $- in *i*) exec ... ;; esac",
            )
        return Done(done.code, out, done.err)

    @abstractmethod
    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents of those files that are there, in one round trip."""

    @abstractmethod
    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        """Write files, each whole or not at all (temporary name, fsync, rename); missing folders are made."""

    @abstractmethod
    def list_files(self, root: str, folders: Iterable[str], *, with_folders: bool = False) -> list[RemoteFile]:
        """All files below these folders of `root`, in one round trip: `.` is the root itself, not recursive, `**` everything.

        Folders that are missing are skipped. `with_folders`: also those that are empty, and those that cannot be read.
        Raises ForeignPathError when the machine names something outside.
        """

    @abstractmethod
    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        """Bring files to the machine below `root` and make `folders`; what is there with the same content is not sent again.

        Content is checked after the transfer; an interrupted one is continued by the next call.
        """

    @abstractmethod
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
        """Bring files from below `root` into the folder `into`, each whole or not at all; links become what they point to.

        A file that replaces another gets no wider mode than that had; a new one is subject to the umask.

        Args:
            partly: files that are gone, cannot be read, change all the time or are none keep no other away: they are in
                `Transfer.lost`. Otherwise the first of them is a TransferError, and nothing comes.
            untouched: paths that must not be written here, with the reason; lost, unless the same is here already.

        Raises TransferError when something cannot be written here (all others have come then), ForeignPathError for a path
        that leads out of `into`.
        """

    @abstractmethod
    def remove(self, root: str) -> None:
        """Remove a submission's folder with all it holds; nothing happens when it is gone already."""

    def check(self, command: Text, *, cwd: str | None = None, timeout_s: float = 60.0) -> str:
        """The output of a command that must succeed; CommandFailedError with its error text otherwise."""
        return succeeded(self.run(command, cwd=cwd, timeout_s=timeout_s), f"{self.kind}: {command}")

    def examine(self) -> Iterator[Finding]:
        """For `pilotfish doctor`: what only this way has to be looked at. Does not raise for what it finds."""
        return iter(())

    def tunnel(self, host: str, port: int) -> Tunnel:
        """A way to a port by its name on the machine; where nothing lies between, the port itself.

        Raises RefusedError when the machine does not connect to it.
        """
        return Tunnel(f"{host}:{port}")

    def delete(self, root: str, paths: Iterable[str]) -> None:
        """Remove files below `root`; those that are gone already do not matter."""
        names = b"".join(os.fsencode(f"./{path}") + b"\0" for path in paths)
        if names:
            self.run(sh("xargs -0 -r rm -f --"), cwd=root, stdin=names, timeout_s=600)

    def make_folder(self, folder: str) -> str:
        """Make a folder; its absolute path."""
        path = posixpath.normpath(self.absolute(folder))
        self.check(sh("mkdir -p -- {path}", path=place(path)))
        return path

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what is held (connections, processes)."""

    def __enter__(self: _Kind) -> _Kind:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()
