"""Which files go to the machine and which come back: patterns to lists, with digests."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from ...pilot.model.errors import UsageError
from .base import LocalFile, RemoteFile
from .paths import walk, what_is_wrong

_BLOCK = 1 << 20


_FOLDERS = "(?:[^./][^/]*/)*"
"""What `**` means: any number of folders, none of them hidden."""


class MissingFileError(UsageError, FileNotFoundError):
    """A file that shall be sent or fetched is not there; `where` is the pattern."""

    code = "missing-file"


class ConflictError(UsageError):
    """Two different files shall lie at one place."""

    code = "file-conflict"


def digest(path: Path) -> str:
    """sha256 of a file in hex; read once as long as it has not been changed or replaced."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=100_000)
def _digest(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def forward(patterns: Iterable[str], work: Path, prefix: str) -> list[LocalFile]:
    """The files that the patterns mean in `work/prefix`, to lie at the same place below the root.

    A pattern is a recursive glob; a literal name may be a file or a folder, whose files are all meant. Links are followed, but
    for those that lead back to a folder they are in.
    Raises MissingFileError for a pattern that finds nothing, or a link that leads nowhere.
    """
    found: dict[str, LocalFile] = {}
    for pattern, name in _meant(patterns, work, prefix):
        for file in _files(name, pattern):
            path = _below(file, work)
            found[path] = _local_file(file, path, pattern)
    return [found[path] for path in sorted(found)]


def forward_folders(patterns: Iterable[str], work: Path, prefix: str) -> list[str]:
    """The empty folders among what `forward` finds, below the root: programs may want to write there."""
    names = [name for _, name in _meant(patterns, work, prefix) if name.is_dir()]
    return sorted({_below(at, work) for name in names for at, folders, files in walk(name) if not folders + files})


def _meant(patterns: Iterable[str], work: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """(pattern, file or folder that it means)."""
    folder = work / prefix
    for pattern in (each.replace("\\", "/") for each in patterns):
        names = [pattern] if os.path.lexists(folder / pattern) else _matches(pattern, folder)
        if not names:
            raise MissingFileError(f"cannot find upload file {os.path.normpath(folder / pattern)}", where=pattern)
        for name in names:
            yield pattern, folder / name


def _matches(pattern: str, folder: Path) -> list[str]:
    return sorted(glob.glob(pattern, root_dir=folder, recursive=True))


def is_here(folder: Path, pattern: str) -> bool:
    """Whether a pattern means something in a folder of this machine."""
    plain = os.path.normpath(pattern.replace("\\", "/"))
    return os.path.lexists(folder / plain) or bool(_matches(plain, folder))


def _files(path: Path, pattern: str) -> Iterable[Path]:
    if path.is_dir():

        def refuse(error: OSError) -> None:
            raise MissingFileError(f"{error.filename} cannot be read: {error.strerror}", where=pattern) from error

        yield from (folder / name for folder, _, names in walk(path, refuse) for name in names)
    elif path.exists():
        yield path
    else:
        raise MissingFileError(f"{path} is a link that leads nowhere", where=pattern)


def _below(file: Path, work: Path) -> str:
    """The place below the root: that of the name, not of what a link points to."""
    relative = os.path.relpath(os.path.normpath(file), work)
    if relative == ".." or relative.startswith("../"):
        raise ConflictError(f"{file} is not below {work}", where=str(file))
    return PurePosixPath(*Path(relative).parts).as_posix()


def _local_file(file: Path, path: str, pattern: str) -> LocalFile:
    try:
        stat = file.stat()
        if not S_ISREG(stat.st_mode):
            raise MissingFileError(f"{file} is no plain file", where=pattern, remedy="leave it out, or remove it")
        return LocalFile(file, path, digest(file), stat.st_size, stat.st_mode & 0o777)
    except OSError as error:
        if isinstance(error, MissingFileError):
            raise
        what = "is a link that leads nowhere" if file.is_symlink() else f"cannot be read: {error.strerror}"
        raise MissingFileError(f"{file} {what}", where=pattern) from error


def merge(lists: Iterable[Sequence[LocalFile]]) -> list[LocalFile]:
    """All files once. Raises ConflictError when two different ones shall lie at one place."""
    found: dict[str, LocalFile] = {}
    for files in lists:
        for file in files:
            other = found.setdefault(file.path, file)
            if other.digest != file.digest:
                raise ConflictError(f"{other.source} and {file.source} shall both be there", where=file.path)
    return [found[path] for path in sorted(found)]


def backward(patterns: Iterable[str], prefix: str, listing: Iterable[RemoteFile]) -> tuple[list[str], list[str]]:
    """(paths below the root that the patterns mean, patterns that mean nothing), of what lies on the machine.

    A pattern is matched below `prefix`, however both are spelled: `*` stays in one folder, `**` does not, names with a leading
    dot need one in the pattern. A literal name may be a folder.
    """
    folder = os.path.normpath(prefix)
    base = "" if folder == "." else f"{folder}/"
    names = {file.path.removeprefix(base) for file in listing if file.path.startswith(base)}
    names = {name for name in names if not what_is_wrong(name)}  # what is not below the folder is no pattern's
    found: set[str] = set()
    missing = []
    for pattern in patterns:
        plain = os.path.normpath(pattern.replace("\\", "/"))
        literal = {name for name in names if name == plain or name.startswith(f"{plain}/") or plain == "."}
        matcher = _as_regex(plain)
        matches = literal or {name for name in names if _means(matcher, name)}
        if not matches:
            missing.append(pattern)
        found |= matches
    return sorted(base + name for name in found), missing


def _means(matcher: re.Pattern[str], name: str) -> bool:
    """Whether the pattern means the file, or a folder it is in."""
    parts = name.split("/")
    return any(matcher.fullmatch("/".join(parts[:count])) for count in range(1, len(parts) + 1))


@lru_cache(maxsize=4096)
def _as_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over POSIX paths."""
    text = "/".join(_part(part) for part in pattern.split("/")).replace(f"{_FOLDERS}/", _FOLDERS)
    return re.compile(f"{text}(?!\\.)[^/]+" if text.endswith(_FOLDERS) else text)


def _part(part: str) -> str:
    if part == "**":
        return _FOLDERS
    out = "" if part.startswith(".") else r"(?!\.)"
    position = 0
    while position < len(part):
        sign = part[position]
        position += 1
        closing = part.find("]", position + 1) if sign == "[" else -1
        if sign == "*":
            out += "[^/]*"
        elif sign == "?":
            out += "[^/]"
        elif closing > 0:
            inside = part[position:closing].replace("\\", r"\\")
            out += f"[{'^' + inside[1:] if inside.startswith('!') else inside}]"
            position = closing + 1
        else:
            out += re.escape(sign)
    return out


def failure_mark(pattern: str) -> str:
    """Name of the empty file that tells which pattern found nothing (`mark_failure`)."""
    return "tag_failure_download_" + re.sub(r"[^A-Za-z0-9._-]", "_", pattern)
