"""The one gate for names that a machine gives: listings, checksums, archives, rsync.

Whatever it says, no file outside the folder that was meant is made, replaced or removed here. A name is one of a file below
that folder, or it is refused: nothing is stripped or bent until it fits, because a machine that gives such a name is broken or
hostile, and what it meant is not known.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from ...pilot.model.errors import RefusedError

_SEPARATORS = re.compile(r"[/\\]")


class ForeignPathError(RefusedError, ValueError):
    """A machine has given a name that leads out of its folder; `where` says what gave it. Nothing was written."""

    code = "foreign-path"


def below(name: str, source: str) -> str:
    """The name in its one spelling, `a/b`: relative, without `.` and doubled slashes.

    Raises ForeignPathError for a name that is absolute, empty or the folder itself, or that has a `..` or a NUL in it; a
    backslash may be part of a name, but with it too nothing may lead upwards.
    """
    wrong = what_is_wrong(name)
    if wrong:
        remedy = "nothing was written; look at the machine, it is broken or somebody there means harm"
        raise ForeignPathError(
            f"the machine has answered with the name {name!a}, which {wrong}", where=source, remedy=remedy
        )
    return posixpath.normpath(name)


def what_is_wrong(name: str) -> str:
    """Why a name is not one of a file below its folder; empty when it is."""
    if name and name[0] not in "/." and ".." not in name and "\0" not in name:
        return ""  # nearly all, and there may be very many
    if "\0" in name:
        return "has a NUL"
    if name.startswith("/"):
        return "is absolute"
    if ".." in _SEPARATORS.split(name):
        return "leads out of its folder"
    return "is no name of a file" if posixpath.normpath(name) == "." else ""


def inside(into: Path, name: str, source: str) -> Path:
    """Where the machine's file `name` lies here. Raises ForeignPathError."""
    return into / below(name, source)


def printable(name: str) -> str:
    """A name for people: bytes that are no text, and signs that a terminal would obey, as escapes."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def is_plain(folder: Path, name: str) -> bool:
    """Whether `name` is a regular file below `folder` that is reached without any link."""
    at = folder
    for part in posixpath.dirname(name).split("/"):
        at = at / part
        if at.is_symlink():
            return False
    target = folder / name
    return target.is_file() and not target.is_symlink()


def literal_folders(patterns: Iterable[str], folder: str) -> frozenset[str]:
    """Folders, and names, that patterns in `folder` name in plain letters before their first sign."""
    found = set()
    for pattern in patterns:
        at = folder
        for part in posixpath.normpath(pattern.replace("\\", "/")).split("/"):
            if any(sign in part for sign in "*?["):
                break
            at = posixpath.normpath(f"{at}/{part}")
            found.add(at)
    return frozenset(found)


def leads_away(home: Path, name: str, folder: str, allowed: Collection[str]) -> str:
    """The first link on the way to `name` below `home` that leads out of `folder`; empty when there is none.

    What the user has named, `folder` itself and the `allowed` ones, may be links. Others are there for another reason (inputs
    are often links to a place where they lie for all), and a machine that lists a name below them must not write there.
    """
    parents = [str(each) for each in PurePosixPath(name).parents][:-1]
    depth = 0 if folder == "." else folder.count("/") + 1
    for parent in reversed(parents):
        if parent.count("/") + 1 <= depth or parent in allowed:
            continue
        if (home / parent).is_symlink():
            inside, leads_to = os.path.realpath(home / folder), os.path.realpath(home / parent)
            if leads_to != inside and not leads_to.startswith(f"{inside.rstrip('/')}/"):
                return parent
    return ""


def walk(top: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As os.walk from the top, through links, in order; a link to one of the folders it lies in is passed over.

    `onerror` gets what keeps a folder from being read; without it such a folder looks empty.
    """
    parents: dict[Path, tuple[tuple[int, int], ...]] = {}
    for name, folders, files in os.walk(top, onerror=onerror, followlinks=True):
        at = Path(name)
        above = parents.pop(at, None)
        above = (_identity(at),) if above is None else above
        for each in folders[:]:
            try:
                identity = _identity(at / each)
            except OSError:
                continue
            if identity in above:
                folders.remove(each)
            else:
                parents[at / each] = (*above, identity)
        folders.sort()
        yield at, folders, sorted(files)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
