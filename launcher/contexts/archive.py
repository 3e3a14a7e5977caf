"""Files as a tar stream, out and in. Of what comes in only regular files that were asked for are taken."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

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


def unpack(stream: Readable, wanted: Mapping[str, str], into: Path, done: Callable[[str, int], None]) -> None:
    """Write the files of a tar stream below `into`, each whole or not at all.

    Args:
        wanted: sha256 by path; anything else in the stream is an error.
        done: called with path and size after each file.

    Raises TransferError when a file is not the one that was promised, or the stream ends early.
    """
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|*") as tar:
            for entry in tar:
                path = os.path.normpath(entry.name)
                if path not in wanted or not entry.isreg():
                    raise TransferError("was not asked for, or is no plain file", where=entry.name)
                content = tar.extractfile(entry)
                assert content is not None
                _keep(content, into / path, wanted[path], entry.mode & 0o777)
                done(path, entry.size)
    except (tarfile.TarError, EOFError) as error:
        raise TransferError(f"the archive broke off: {error}") from error


def write_all(file: FileIO, block: bytes) -> None:
    """Without a buffer, so that a full disk is seen here and not when the file is closed."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def written(target: Path) -> Iterator[None]:
    """What goes wrong here with this machine's disk is told as that: it is no broken connection."""
    try:
        yield
    except OSError as error:
        raise TransferError(f"cannot be written here: {error.strerror or error}", where=str(target)) from error


def _keep(content: Readable, target: Path, digest: str, mode: int) -> None:
    with written(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        found = hashlib.sha256()
        with open(descriptor, "wb", buffering=0) as file:
            while block := content.read(BLOCK):
                found.update(block)
                with written(target):
                    write_all(file, block)
            os.fchmod(file.fileno(), mode)
        if found.hexdigest() != digest:
            raise TransferError("changed while it was fetched, or was damaged on the way", where=str(target))
        with written(target):
            os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
