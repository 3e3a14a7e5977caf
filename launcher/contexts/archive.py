"""Files as a tar stream, out and in. Of what comes in only regular files that were asked for are taken."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import IO, BinaryIO, Protocol, cast

from . import paths
from .base import LocalFile, TransferError
from .landing import BLOCK, Landing, set_time, write_all, written


class Readable(Protocol):
    """What gives bytes, and at its end none."""

    def read(self, size: int, /) -> bytes: ...


def pack(files: Iterable[LocalFile], stream: IO[bytes], *, compress: bool, folders: Iterable[str] = ()) -> None:
    """Write the files as a tar stream under their places below the root, and these folders.

    Raises TransferError when one has become another since it was read last: what arrives must be what was promised.
    """
    with _tar(stream, compress) as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
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
    landing: Landing,
    done: Callable[[str, int], None],
    failed: Callable[[str, TransferError], None] | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write the files of a tar stream, each whole or not at all.

    Args:
        wanted: sha256 by path.
        sizes: bytes by path, where they are known: a file has no more.
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
                    _take(tar, entry, landing, path, left.pop(path), sizes.get(path))
                except TransferError as error:
                    if failed is None:
                        raise
                    failed(path, error)
                else:
                    done(path, entry.size)
    except paths.ForeignPathError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # numbers in headers may be anything
        raise TransferError(f"the archive broke off: {error}") from error


def _expected(entry: tarfile.TarInfo, left: Mapping[str, str]) -> str:
    """The path of an entry that we wait for."""
    path = paths.below(entry.name, "an archive")
    if path not in left or entry.issym() or entry.islnk() or (entry.isdev() and not entry.isfifo()):
        what = f"the machine has sent {entry.name!a}, which was not asked for, or is no plain file"
        raise paths.ForeignPathError(what, where="an archive", remedy="it was not written")
    return path


def _take(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, landing: Landing, path: str, digest: str, most: int | None
) -> None:
    content = tar.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise TransferError("is no plain file there", where=path)
    changed = TransferError("changed while it was fetched, or was damaged on the way", where=path)
    if most is not None and entry.size > most:  # a hole may be of any size, and would be written for ever
        raise changed
    with landing.draft(path, entry.mode) as file:
        found = hashlib.sha256()
        while block := content.read(BLOCK):
            found.update(block)
            with written(landing.into / path):
                write_all(file, block)
        if found.hexdigest() != digest:
            raise changed
        set_time(file.fileno(), float(entry.mtime))
