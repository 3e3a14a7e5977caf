"""What a way to reach a machine can do. A context knows no batch system and no submission: commands, files, folders."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from ...pilot.model.errors import LostError, RefusedError, TransientError

_Kind = TypeVar("_Kind", bound="Context")


class ContextLostError(LostError):
    """The machine cannot be reached, although it was tried again for as long as the settings say."""


class TransferError(TransientError):
    """Files could not be brought over; what was there before is unharmed."""


class CommandFailedError(RefusedError):
    """A command on the machine ended with another code than 0; `where` is the command."""

    code = "command-failed"


@dataclass(frozen=True)
class Done:
    """An ended command: its exit code (128 + signal for a killed one) and its output as text."""

    code: int
    out: str
    err: str


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


NOTHING: Mapping[str, str] = MappingProxyType({})
Watch = Callable[[int, int], None]
"""Called during a transfer with bytes done and bytes in all."""


class Context(ABC):
    """A way to reach one machine. Opened by the first use, closed by `close`; safe to close twice.

    Every method may raise ContextLostError. Paths on the machine are absolute POSIX paths.
    """

    kind: ClassVar[str]
    """The class name of DPDispatcher, e.g. `SSHContext`."""

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

    @property
    def local(self) -> bool:
        """Whether the machine's files can be opened here by the same path."""
        return False

    @abstractmethod
    def root_for(self, name: str, work_base: str) -> str:
        """The folder on the machine of the submission `name` (a hash); it need not be there yet."""

    def absolute(self, path: str) -> str:
        """The path from the machine's root folder, with its home folder and variables filled in; may have to ask the machine.

        Raises DescriptionError for what is no folder there.
        """
        return path

    @abstractmethod
    def run(
        self, command: str, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        """Run shell text on the machine and wait. A missing `cwd` gives code 73 and the command is not run.

        After a broken connection it is run again, unless `once`. Raises TransientError when it takes longer than
        `timeout_s`, or with `once` when the connection broke: then it may have been run, or not.
        """

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

    def check(self, command: str, *, cwd: str | None = None, timeout_s: float = 60.0) -> str:
        """The output of a command that must succeed; CommandFailedError with its error text otherwise."""
        done = self.run(command, cwd=cwd, timeout_s=timeout_s)
        if done.code:
            what = f"ended with code {done.code}: {(done.err or done.out).strip()[-500:]}"
            raise CommandFailedError(what, where=f"{self.kind}: {command}")
        return done.out

    def tunnel(self, host: str, port: int) -> Tunnel:
        """A way to a port by its name on the machine; where nothing lies between, the port itself.

        Raises RefusedError when the machine does not connect to it.
        """
        return Tunnel(f"{host}:{port}")

    def delete(self, root: str, paths: Iterable[str]) -> None:
        """Remove files below `root`; those that are gone already do not matter."""
        names = b"".join(os.fsencode(f"./{path}") + b"\0" for path in paths)
        if names:
            self.run("xargs -0 -r rm -f --", cwd=root, stdin=names, timeout_s=600)

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what is held (connections, processes)."""

    def __enter__(self: _Kind) -> _Kind:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()
