"""This machine, with a folder of its own for each submission."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from ...pilot.files import write_atomically
from ...pilot.model.errors import TransientError
from ..description.schema import DescriptionError
from .base import NO_FOLDER, NOTHING, Context, Done, LocalFile, RemoteFile, Transfer, TransferError, Watch
from .landing import BLOCK, Landing, NotWrittenError, write_all
from .paths import below, walk
from .shell import LONGEST_LINE, VARIABLE, Text, ahead

_REMOVE_TRIES, _REMOVE_PAUSE_S = 50, 0.1
"""A job that was just cancelled may still be writing its last files."""


class LocalContext(Context):
    """Below `remote_root` on this machine. Inputs are linked, or copied with `symlink: false`.

    A task that writes into a linked input changes the original; linked folders are real folders with linked files, so what
    tasks write beside their inputs stays in the submission's folder.
    """

    kind = "LocalContext"
    local = True

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self._symlink = bool(profile.get("symlink", True))

    def root_for(self, name: str, work_base: str) -> str:
        assert self.remote_root is not None
        return str(Path(self.absolute(self.remote_root), name))

    def fill_in(self, folder: str) -> str:
        filled = VARIABLE.sub(lambda found: os.path.expandvars(found[0]), folder)
        if missing := VARIABLE.search(filled):
            what, remedy = f"{missing[0]} is not set here", "write the path from the root folder (/...)"
            raise DescriptionError(what, where="machine.remote_root", remedy=remedy)
        path = os.path.expanduser(filled)
        if path.startswith("~"):
            raise DescriptionError(f"{folder!r}: there is no such user here", where="machine.remote_root")
        return os.path.abspath(path)

    def run(
        self, command: Text, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        cwd = None if cwd is None else self.absolute(cwd)
        if cwd is not None and not os.path.isdir(cwd):
            return Done(NO_FOLDER, "", f"no folder {cwd}")
        if len(command) > LONGEST_LINE:
            command, head = ahead(command)
            stdin = head + stdin
        process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TransientError(f"not done after {timeout_s:g} s", where=command) from None
        code = process.returncode
        return Done(128 - code if code < 0 else code, out.decode(errors="replace"), err.decode(errors="replace"))

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for path in paths:
            with suppress(OSError):
                found[path] = Path(self.absolute(path)).read_bytes()
        return found

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        for path, content in files.items():
            target = Path(self.absolute(path))
            with _told(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, content, mode=mode, fsync=True)

    def list_files(self, root: str, folders: Iterable[str], *, with_folders: bool = False) -> list[RemoteFile]:
        found: dict[str, RemoteFile] = {}
        for folder in folders:
            for file in _listed_below(Path(root), folder, with_folders):
                found[file.path] = file
        return [found[path] for path in sorted(found)]

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        for folder in ["", *folders]:
            with _told(Path(root, folder)):
                Path(root, folder).mkdir(parents=True, exist_ok=True)
        wanted = [file for file in files if not self._is_there(file, Path(root, file.path))]
        sent, whole = 0, sum(file.size for file in wanted)
        for file in wanted:
            with _told(Path(root, file.path)):
                self._put_one(file, Path(root, file.path))
            sent += file.size
            if watch is not None:
                watch(sent, whole)
        moved = {file.path: None for file in wanted}
        return Transfer(tuple(moved), tuple(file.path for file in files if file.path not in moved), sent)

    def _is_there(self, file: LocalFile, target: Path) -> bool:
        if self._symlink:
            return target.is_symlink() and os.readlink(target) == str(file.source.absolute())
        return not target.is_symlink() and target.is_file() and _sha256(target) == file.digest

    def _put_one(self, file: LocalFile, target: Path) -> None:
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        if self._symlink:
            target.parent.mkdir(parents=True, exist_ok=True)
            link = target.with_name(f".pilotfish-{os.getpid()}.link")  # the name itself may leave no room for more
            link.unlink(missing_ok=True)
            link.symlink_to(file.source.absolute())
            os.replace(link, target)
        else:
            with Landing(target.parent, [target.name]) as landing:
                _fetch(file.source, landing, target.name, file.mode)

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
        wanted = [below(path, "a path to fetch") for path in paths]
        lost = {path: why for path in wanted if (why := _why_lost(Path(root, path)))}
        kept = {path for path in untouched if path not in lost and _is_same(Path(root, path), into / path)}
        lost |= {path: why for path, why in untouched.items() if path not in kept}
        if lost and not partly:
            path, why = next(iter(lost.items()))
            raise TransferError(f"cannot fetch: {why}", where=path)
        moved, same, sent = [], [], 0
        left = [path for path in wanted if path not in lost]
        landing = Landing(into, left)
        whole = 0 if watch is None else sum(_size(Path(root, path)) for path in left if not _is_one(root, path, into))
        problem: TransferError | None = None
        for path in left:
            source, target = Path(root, path), into / path
            try:
                if path in kept or _is_one(root, path, into):
                    same.append(path)
                    continue
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                sent += _fetch(source, landing, path)
            except OSError as error:
                problem = TransferError(f"cannot fetch: {error.strerror}", where=path)
                problem.__cause__ = error
                continue
            except NotWrittenError as error:
                problem = NotWrittenError(f"cannot fetch: {error.what}", where=path)
                problem.__cause__ = error
                continue
            except TransferError as error:
                lost[path] = error.what
                continue
            moved.append(path)
            if watch is not None:
                watch(min(sent, whole), whole)
        if lost and not partly:
            problem = TransferError(lost[(path := next(iter(lost)))], where=path)
        if problem is not None:
            raise problem
        return Transfer(tuple(moved), tuple(same), sent, lost)

    def remove(self, root: str) -> None:
        if os.path.islink(root):  # an older name of a folder that goes on under another
            os.unlink(root)
            return
        for tries_left in reversed(range(_REMOVE_TRIES)):
            try:
                shutil.rmtree(root)
            except FileNotFoundError:  # the folder itself, or a file in it that somebody else was faster to remove
                if not os.path.lexists(root):
                    return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or not tries_left:
                    raise
            else:
                return
            time.sleep(_REMOVE_PAUSE_S)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """What cannot be written, and what to look at first."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            free = os.statvfs(next(each for each in target.parents if each.is_dir()))
            remedy = f"{free.f_bavail * free.f_frsize >> 10} KiB are free there"
            raise TransferError(f"cannot write: {error.strerror}", where=str(target), remedy=remedy) from error
        raise TransferError(f"cannot write: {error.strerror}", where=str(target)) from error


def _listed_below(root: Path, folder: str, with_folders: bool) -> Iterator[RemoteFile]:
    here = os.path.normpath(folder) == "."
    top = root if here or folder == "**" else root / folder
    if not top.is_dir():
        return
    for at, folders, names in walk(top):
        entries = [*names, *(folders if with_folders else ())]
        for entry in entries:
            with suppress(OSError):  # it may go while we look
                if listed := _listed(root, at / entry):
                    yield listed
        if here:
            return


def _listed(root: Path, path: Path) -> RemoteFile | None:
    """A regular file, an empty folder, or one that cannot be read."""
    stat = path.stat()
    name = path.relative_to(root).as_posix()
    if S_ISREG(stat.st_mode):
        return RemoteFile(name, stat.st_size, stat.st_mtime)
    if not S_ISDIR(stat.st_mode):
        return None
    closed = not os.access(path, os.R_OK | os.X_OK, effective_ids=True)
    return RemoteFile(name, 0, stat.st_mtime, True, closed) if closed or not os.listdir(path) else None


def _why_lost(source: Path) -> str:
    """Why a file cannot be fetched; empty when it can."""
    try:
        if not S_ISREG(source.stat().st_mode):
            return "is no plain file there"
        os.close(os.open(source, os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return "is not there any more"
    except OSError as error:
        return f"cannot be read there: {(error.strerror or str(error)).lower()}"
    return ""


def _is_one(root: str, path: str, into: Path) -> bool:
    """Whether a result is where it shall be: it was linked there as an input."""
    target = into / path
    return target.exists() and os.path.samefile(Path(root, path), target)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _fetch(source: Path, landing: Landing, name: str, mode: int | None = None) -> int:
    """Copy a file whole or not at all; its size. A pipe that has taken its place is not waited for.

    `mode`: exactly that; else as results come home.
    """
    with open(source, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as content:
        stat = os.fstat(content.fileno())
        if not S_ISREG(stat.st_mode):
            raise OSError(EINVAL, "is no plain file any more")
        with landing.draft(name, stat.st_mode if mode is None else mode, exact=mode is not None) as file:
            while block := content.read(BLOCK):
                write_all(file, block)
            os.utime(file.fileno(), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return stat.st_size


def _is_same(one: Path, other: Path) -> bool:
    try:
        return other.is_file() and (os.path.samefile(one, other) or _sha256(one) == _sha256(other))
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
        return found.hexdigest()
