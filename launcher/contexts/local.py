"""This machine, with a folder of its own for each submission."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...pilot.model.errors import TransientError
from .base import Context, Done, LocalFile, RemoteFile, Transfer, TransferError, Watch

NO_FOLDER = 73
"""Exit code of a command whose folder is missing (EX_CANTCREAT)."""


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
        return str(Path(self.remote_root).expanduser().absolute() / name)

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

    def list_files(self, root: str, folders: Iterable[str]) -> list[RemoteFile]:
        found: dict[str, RemoteFile] = {}
        for folder in folders:
            for file in _files_below(Path(root), folder):
                with suppress(OSError):  # it may go while we look
                    stat = file.stat()
                    path = file.relative_to(root).as_posix()
                    found[path] = RemoteFile(path, stat.st_size, stat.st_mtime)
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
            link = target.with_name(f".{target.name}.{os.getpid()}.link")
            link.unlink(missing_ok=True)
            link.symlink_to(file.source.absolute())
            os.replace(link, target)
        else:
            _place(target, file.mode, source=file.source)

    def get(self, root: str, paths: Sequence[str], into: Path, watch: Watch | None = None) -> Transfer:
        moved, same, sent = [], [], 0
        for path in paths:
            source, target = Path(root, path), into / path
            if target.exists() and os.path.samefile(source, target):
                same.append(path)
                continue
            try:
                mode, size = source.stat().st_mode & 0o777, source.stat().st_size
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                _place(target, mode, source=source)
            except OSError as error:
                raise TransferError(f"cannot fetch: {error.strerror}", where=path) from error
            moved.append(path)
            sent += size
            if watch is not None:
                watch(sent, sent)
        return Transfer(tuple(moved), tuple(same), sent)

    def remove(self, root: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(root)


def _files_below(root: Path, folder: str) -> Iterator[Path]:
    if os.path.normpath(folder) == ".":
        with suppress(OSError):
            yield from (entry for entry in sorted(root.iterdir()) if entry.is_file())
        return
    for at, folders, names in os.walk(root if folder == "**" else root / folder, followlinks=True):
        folders.sort()
        yield from (file for name in sorted(names) if (file := Path(at, name)).is_file())


def _place(target: Path, mode: int, *, content: bytes | None = None, source: Path | None = None) -> None:
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
        return found.hexdigest()
