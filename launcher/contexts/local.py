"""This machine, with a folder of its own for each submission."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from ...pilot.model.errors import TransientError
from ..description.schema import DescriptionError
from . import archive
from .base import NOTHING, Context, Done, LocalFile, RemoteFile, Transfer, TransferError, Watch
from .paths import below, walk
from .shell import VARIABLE

NO_FOLDER = 73
"""Exit code of a command whose folder is missing (EX_CANTCREAT)."""

_REMOVE_TRIES, _REMOVE_PAUSE_S = 50, 0.1
"""A job that was just cancelled may still be writing its last files."""


class LocalContext(Context):
    """Below `remote_root` on this machine. Inputs are linked, or copied with `symlink: false`.

    A task that writes into a linked input changes the original; linked folders are real folders with linked files, so what
    tasks write beside their inputs stays in the submission's folder.
    """

    kind = "LocalContext"

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self._symlink = bool(profile.get("symlink", True))

    @property
    def local(self) -> bool:
        return True

    def root_for(self, name: str, work_base: str) -> str:
        assert self.remote_root is not None
        root = VARIABLE.sub(lambda found: os.path.expandvars(found[0]), self.remote_root)
        if missing := VARIABLE.search(root):
            what, remedy = f"{missing[0]} is not set here", "write the path from the root folder (/...)"
            raise DescriptionError(what, where="machine.remote_root", remedy=remedy)
        return str(Path(root).expanduser().absolute() / name)

    def run(
        self, command: str, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        if cwd is not None and not os.path.isdir(cwd):
            return Done(NO_FOLDER, "", f"no folder {cwd}")
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
                found[path] = Path(path).read_bytes()
        return found

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        for path, content in files.items():
            _place(Path(path), mode, content=content)

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
            Path(root, folder).mkdir(parents=True, exist_ok=True)
        moved, same, sent, whole = [], [], 0, sum(file.size for file in files)
        for file in files:
            target = Path(root, file.path)
            if self._is_there(file, target):
                same.append(file.path)
            else:
                self._put_one(file, target)
                moved.append(file.path)
                sent += file.size
            if watch is not None:
                watch(sent, whole)
        return Transfer(tuple(moved), tuple(same), sent)

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
            _place(target, file.mode, source=file.source)

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
        problem: TransferError | None = None
        for path in (each for each in wanted if each not in lost):
            source, target = Path(root, path), into / path
            try:
                if path in kept or (target.exists() and os.path.samefile(source, target)):
                    same.append(path)
                    continue
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                sent += _fetch(source, target)
            except OSError as error:
                problem = TransferError(f"cannot fetch: {error.strerror}", where=path)
                problem.__cause__ = error
                continue
            moved.append(path)
            if watch is not None:
                watch(sent, sent)
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


def _fetch(source: Path, target: Path) -> int:
    """Copy a file whole or not at all; its size. A pipe that has taken its place is not waited for."""
    with open(source, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as content:
        stat = os.fstat(content.fileno())
        if not S_ISREG(stat.st_mode):
            raise OSError(EINVAL, "is no plain file any more")
        descriptor, name = archive.new_file(target, stat.st_mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    return stat.st_size


def _place(target: Path, mode: int, *, content: bytes | None = None, source: Path | None = None) -> None:
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".pilotfish-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if source is not None:
                with open(source, "rb") as original:
                    shutil.copyfileobj(original, file, 1 << 20)
            else:
                file.write(content or b"")
            file.flush()
            os.fchmod(file.fileno(), mode)
            if content is not None:  # records and scripts; of files the original still exists
                os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


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
