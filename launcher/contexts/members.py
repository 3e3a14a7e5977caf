"""Archives of results whose content nobody has listed before: zip and compressed tar, through the gate for foreign names.

What was asked for are patterns. Whatever else is in the archive is left there; a name that leads out, a wanted link or device,
or a name that comes twice is refused before anything is written, for both kinds alike.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import globs, paths
from .base import LocalFile, RemoteFile, TransferError
from .landing import BLOCK, Landing, set_time, write_all, written

_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)
_BROKEN = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
"""What the libraries raise for archives that are damaged, and for kinds that they do not know."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive; `plain`: a regular file, `folder`: a folder."""

    name: str
    size: int
    mode: int
    mtime_s: float
    plain: bool
    folder: bool
    open: Callable[[], IO[bytes]]


def pack_zip(files: Sequence[LocalFile], folders: Iterable[str], target: Path) -> None:
    """Write the files under their paths, and these folders; the same files give the same bytes.

    Raises TransferError when a file has become another since it was listed.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for folder in sorted({each for each in folders if each not in ("", ".")}):
            archive.writestr(_entry(f"{folder}/", 0, stat.S_IFDIR | 0o755), b"")
        for file in files:
            try:
                with open(file.source, "rb") as content:
                    info = os.fstat(content.fileno())
                    entry = _entry(file.path, info.st_mtime, stat.S_IFREG | file.mode)
                    entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, info.st_size
                    with archive.open(entry, "w") as packed:
                        while block := content.read(BLOCK):
                            packed.write(block)
                        if content.tell() != file.size:
                            raise OSError("it has another size")
            except OSError as error:
                raise TransferError(f"changed while it was sent: {error.strerror or error}", where=file.path) from error


def _entry(name: str, mtime_s: float, mode: int) -> zipfile.ZipInfo:
    moment = time.gmtime(mtime_s)[:6] if 315619200 < mtime_s < 4354819199 else _EPOCH_OF_ZIP
    entry = zipfile.ZipInfo(name, moment)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


def take(archive: Path, patterns: Iterable[str], into: Path) -> list[str]:
    """Write what these patterns mean below `into`, each file whole or not at all; their names.

    Raises ForeignPathError for what no machine that means well sends, TransferError for a damaged archive.
    """
    try:
        with _members(archive) as found:
            wanted = _wanted(found, patterns)
            with Landing(into, wanted) as landing:
                for name, member in wanted.items():
                    _take_one(member, landing, name)
            return list(wanted)
    except (paths.ForeignPathError, TransferError):
        raise
    except _BROKEN as error:
        raise TransferError(f"the archive is damaged: {error}", where=archive.name) from error
    except RuntimeError as error:  # of zipfile: encrypted
        raise TransferError(f"the archive cannot be read: {error}", where=archive.name) from error


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield [_of_zip(packed, entry) for entry in packed.infolist()]
    else:
        with gzip.open(archive) as whole:  # its checksum, which stands at the end, is of all of it
            while whole.read(BLOCK):
                pass
        with tarfile.open(archive, "r:gz") as tar:
            yield [_of_tar(tar, entry) for entry in tar]


def _of_zip(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    plain = not entry.is_dir() and kind in (0, stat.S_IFREG)
    moment = time.mktime((*entry.date_time, 0, 0, -1))
    bits = mode & 0o777 or 0o644
    return Member(entry.filename, entry.file_size, bits, moment, plain, entry.is_dir(), lambda: packed.open(entry))


def _of_tar(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    def opened() -> IO[bytes]:
        content = tar.extractfile(entry)
        assert content is not None
        return content

    return Member(entry.name, entry.size, entry.mode, float(entry.mtime), entry.isreg(), entry.isdir(), opened)


def _wanted(members: Sequence[Member], patterns: Iterable[str]) -> dict[str, Member]:
    """Members by their one spelling, as far as they were asked for."""
    known: dict[str, Member] = {}
    for member in members:
        if member.folder and member.name.rstrip("/") in ("", "."):
            continue
        name = paths.below(member.name, "an archive")
        if not member.folder and name in known:
            _refuse(member, "comes twice")
        if not member.folder:
            known[name] = member
    listing = [RemoteFile(name, member.size, member.mtime_s) for name, member in known.items()]
    chosen, _ = globs.backward(patterns, ".", listing)
    for name in chosen:
        if not known[name].plain:
            _refuse(known[name], "is no plain file")
    return {name: known[name] for name in chosen}


def _refuse(member: Member, why: str) -> None:
    what = f"the machine has sent {member.name!a}, which {why}"
    raise paths.ForeignPathError(what, where="an archive", remedy="nothing was written")


def _take_one(member: Member, landing: Landing, name: str) -> None:
    left = member.size
    with member.open() as content, landing.draft(name, member.mode) as file:
        while block := content.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise TransferError("is longer than the archive says", where=name)
            with written(landing.into / name):
                write_all(file, block)
        if left:
            raise TransferError("is shorter than the archive says", where=name)
        set_time(file.fileno(), member.mtime_s)
