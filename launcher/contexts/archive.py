"""Files as a tar stream, out and in. Of what comes in only regular files that were asked for are taken."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import IO, BinaryIO, Protocol, cast

from . import paths
from .base import LocalFile, TransferError

BLOCK = 1 << 18


class Readable(Protocol):
    """What gives bytes, and at its end none."""

    def read(self, size: int, /) -> bytes: ...


def pack(files: Iterable[LocalFile], stream: IO[bytes], *, compress: bool) -> None:
    """Write the files as a tar stream under their places below the root.

    Raises TransferError when one has become another since it was read last: what arrives must be what was promised.
    """
    with _tar(stream, compress) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode = file.size, file.mode
            try:
                with open(file.source, "rb") as content:
                    entry.mtime = os.fstat(content.fileno()).st_mtime
                    tar.addfile(entry, content)
            except OSError as error:
                raise TransferError(f"changed while it was sent: {error.strerror or error}", where=file.path) from error


@contextmanager
def _tar(stream: IO[bytes], compress: bool) -> Iterator[tarfile.TarFile]:
    with ExitStack() as stack:
        if compress:
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1)))
        yield stack.enter_context(tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT))


def pack_bytes(files: Mapping[str, bytes], mode: int, mtime_s: float, stream: IO[bytes]) -> None:
    with _tar(stream, compress=False) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, mtime_s
            tar.addfile(entry, io.BytesIO(content))


def unpack(
    stream: Readable,
    wanted: Mapping[str, str],
    into: Path,
    done: Callable[[str, int], None],
    failed: Callable[[str, TransferError], None] | None = None,
) -> None:
    """Write the files of a tar stream below `into`, each whole or not at all.

    Args:
        wanted: sha256 by path.
        done: called with path and size after each file.
        failed: called with the path of a file that is not the one that was promised, or cannot be written here; the others
            come. Without it the first of them is raised.

    Raises ForeignPathError for anything that was not asked for, comes twice, or is a link or a device; TransferError when the
    stream ends early.
    """
    left = dict(wanted)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|*") as tar:
            for entry in tar:
                path = _expected(entry, left)
                try:
                    _take(tar, entry, into / path, left.pop(path))
                except TransferError as error:
                    if failed is None:
                        raise
                    failed(path, error)
                else:
                    done(path, entry.size)
    except (tarfile.TarError, EOFError) as error:
        raise TransferError(f"the archive broke off: {error}") from error


def _expected(entry: tarfile.TarInfo, left: Mapping[str, str]) -> str:
    """The path of an entry that we wait for."""
    path = paths.below(entry.name, "an archive")
    if path not in left or entry.issym() or entry.islnk() or (entry.isdev() and not entry.isfifo()):
        what = f"the machine has sent {entry.name!a}, which was not asked for, or is no plain file"
        raise paths.ForeignPathError(what, where="an archive", remedy="it was not written")
    return path


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, digest: str) -> None:
    content = tar.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise TransferError("is no plain file there", where=str(target))
    _keep(content, target, digest, entry.mode & 0o777)


def write_all(file: FileIO, block: bytes) -> None:
    """Without a buffer, so that a full disk is seen here and not when the file is closed."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


class NotWrittenError(TransferError):
    """This machine does not take a file: a full disk, a file where a folder shall be. It is no broken connection."""


@contextmanager
def written(target: Path) -> Iterator[None]:
    """What goes wrong here with this machine's disk is told as that."""
    try:
        yield
    except OSError as error:
        raise NotWrittenError(f"cannot be written here: {error.strerror or error}", where=str(target)) from error


def new_file(target: Path, mode: int) -> tuple[int, str]:
    """An empty file beside `target`, that shall replace it: (descriptor, name).

    Its mode is no wider than that of a file which it replaces, or as the umask has it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    name = str(target.parent / f".pilotfish-{token_hex(8)}")
    before = paths.mode_of(target)
    mode = mode & 0o777 if before is None else mode & before
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    if before is not None:  # that of the user, whatever the umask
        os.fchmod(descriptor, mode)
    return descriptor, name


def move(arrived: Path, target: Path, mode: int) -> None:
    """Put a whole file in its place. Raises NotWrittenError."""
    with written(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = new_file(target, mode)  # for its mode
        try:
            arrived.chmod(os.fstat(descriptor).st_mode & 0o777)
        finally:
            os.close(descriptor)
            os.unlink(name)
        os.replace(arrived, target)


def _keep(content: Readable, target: Path, digest: str, mode: int) -> None:
    with written(target):
        descriptor, name = new_file(target, mode)
    try:
        found = hashlib.sha256()
        with open(descriptor, "wb", buffering=0) as file:
            while block := content.read(BLOCK):
                found.update(block)
                with written(target):
                    write_all(file, block)
        if found.hexdigest() != digest:
            raise TransferError("changed while it was fetched, or was damaged on the way", where=str(target))
        with written(target):
            os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
