"""Whether a folder or file is really ours: the gate for everything that is found, and not made, in a working folder.

Working folders may be shared. Whoever can write there can plant an auxiliary folder, a link to one, or a file in it, and a
journal is a list of commands that run as whoever resumes it. So what is used must belong to our user, and nobody else may
be able to change it. That holds for root too: root can read everybody's journal and must run nobody's.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from ..model.errors import PilotfishError, RefusedError

log = logging.getLogger(__name__)

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_NAMED = 3
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class ForeignError(RefusedError):
    """It belongs to another user, or leads to wherever another user wants."""


def check_folder(path: Path) -> None:
    """Refuse a folder that is not ours, or that others can write to. A link to one counts when we have made it.

    Raises ForeignError and RefusedError; OSError when there is no such folder.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        _check_owner(status, path, "the link")
        status = os.stat(path)
    _check_owner(status, path, "the folder")
    if not stat.S_ISDIR(status.st_mode):
        raise RefusedError("this is not a folder", where=str(path))
    _check_closed(status, path, "the folder")


def open_file(path: Path, flags: int, mode: int = 0o600, *, links: bool = False) -> int:
    """As os.open (close-on-exec), for a regular file of ours that nobody else can write to.

    With `links` a link that we have made is followed. Raises ForeignError and RefusedError, and OSError as os.open does.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        links = False  # it is to be made, or there is an error to be told
    else:
        if links and stat.S_ISLNK(status.st_mode):
            _check_owner(status, path, "the link")
            status = os.stat(path)
        else:
            links = False
        _check_file(status, path)  # before it is opened: opening a pipe waits, opening a device does something
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, mode)
    try:
        _check_file(os.fstat(descriptor), path)  # what was opened, whatever was put there meanwhile
    except RefusedError:
        os.close(descriptor)
        raise
    return descriptor


def own_folders(folder: Path, prefix: str) -> list[Path]:
    """Folders of ours in `folder` whose names begin with `prefix`, newest last. Those of others are told in the log.

    Ours may still be open to others: `check_folder` before one is used. It is not passed over, because an older one is not
    what is meant.
    """
    ours: list[tuple[int, Path]] = []
    foreign = []
    for path in folder.absolute().glob(f"{prefix}*"):
        try:
            if path.is_dir():
                check_folder(path)
                ours.append((path.stat().st_mtime_ns, path))
        except ForeignError as error:
            foreign.append(error)
        except RefusedError:
            ours.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue  # it has just been removed
    tell_foreign(foreign)
    return [path for _, path in sorted(ours)]


def tell_foreign(errors: Sequence[PilotfishError]) -> None:
    """Log, in one line, which of these errors are about things of others that were passed over."""
    foreign = [f"{error.where}: {error.what}" for error in errors if isinstance(error, ForeignError)]
    if foreign:
        more = len(foreign) - _MOST_NAMED
        log.warning("passed over %s", "; ".join([*foreign[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]))


def _check_file(status: os.stat_result, path: Path) -> None:
    _check_owner(status, path, "the file")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise RefusedError(f"this is {kind}, not a file", where=str(path), remedy="put the file itself there")
    _check_closed(status, path, "the file")


def _check_owner(status: os.stat_result, path: Path, what: str) -> None:
    if status.st_uid != os.geteuid():
        raise ForeignError(
            f"{what} belongs to {_user(status.st_uid)}, not to {_user(os.geteuid())}",
            where=str(path),
            remedy="use one of your own, or work as that user",
        )


def _check_closed(status: os.stat_result, path: Path, what: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_WRITE:
        raise RefusedError(
            f"others can write to {what} (mode {mode:04o}), and what is in it would be run as you",
            where=str(path),
            remedy=f"chmod go-w {path} if you are sure that nobody did",
        )


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
