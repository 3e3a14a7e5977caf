"""Where files of a machine land here: each whole or not at all, and none outside the folders that were looked at before.

A name below the folder is checked when a machine gives it (`paths`), and links on the way to it are judged before anything is
fetched. A transfer takes its time, and other programs have the folder too: what was a folder then may be a link to another
place when the file comes. So each place is remembered without links, and opened from the root folder step by step, through no
link at all; what is done there is done to the folder that was opened, whatever its name means by then.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from stat import S_ISREG

from .base import TransferError

BLOCK = 1 << 18
_LEAST_HOLE = 1 << 12
_ZEROS = bytes(BLOCK)
_FOR_GOOD = (errno.ENAMETOOLONG, errno.EILSEQ, errno.ELOOP)
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class NotWrittenError(TransferError):
    """This machine does not take a file: a full disk, a file where a folder shall be. It is no broken connection."""


@contextmanager
def written(target: Path) -> Iterator[None]:
    """What goes wrong here with this machine's disk is told as that; where trying again helps nothing, as a lost file."""
    try:
        yield
    except OSError as error:
        kind = TransferError if error.errno in _FOR_GOOD else NotWrittenError
        raise kind(f"cannot be written here: {error.strerror or error}", where=str(target)) from error


class Landing:
    """The places of these names below the folder `into`. Use as a context manager; names are in their one spelling.

    Files keep their times and permission bits, and holes stay holes: a sparse result of a terabyte may be a few bytes of disk.
    """

    def __init__(self, into: Path, names: Iterable[str]) -> None:
        self.into = into
        self._folders = {
            folder: os.path.realpath(into / folder) for folder in {posixpath.dirname(each) for each in names}
        }
        self._open: tuple[str, int] | None = None
        """Of the last file; those of one folder come one after the other."""

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *ignored: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _folder(self, name: str) -> int:
        """A descriptor of the folder of this file, which is made. Raises OSError when a link has come between."""
        real = self._folders[posixpath.dirname(name)]
        if self._open is None or self._open[0] != real:
            self._close()
            self._open = real, open_folder(real)
        elif not _is_still(real, self._open[1]):
            self._close()
            return self._folder(name)
        return self._open[1]

    def make_folder(self, name: str) -> None:
        """That of this file. Raises OSError."""
        self._folder(name)

    @contextmanager
    def draft(self, name: str, mode: int, *, exact: bool = False) -> Iterator[FileIO]:
        """An empty file that takes the place of `name` when all has gone well, and is gone when not.

        Its mode is no wider than that of a file which it replaces, or as the umask has it; `exact`: just that.
        """
        with written(self.into / name):
            folder = self._folder(name)
            descriptor, draft = _new_file(folder, posixpath.basename(name), mode, exact)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                yield file
            with written(self.into / name):
                os.replace(draft, posixpath.basename(name), src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise

    def move(self, arrived: Path, name: str, mode: int, mtime_s: float | None) -> None:
        """Put a file that is here already in its place; `mtime_s` None: its time stays. Raises NotWrittenError."""
        with written(self.into / name):
            folder, last = self._folder(name), posixpath.basename(name)
            descriptor, draft = _new_file(folder, last, mode)  # for its mode
            try:
                arrived.chmod(os.fstat(descriptor).st_mode & 0o777)
            finally:
                os.close(descriptor)
                os.unlink(draft, dir_fd=folder)
            if mtime_s is not None:
                set_time(arrived, mtime_s)
            os.replace(arrived, last, dst_dir_fd=folder)


def open_folder(path: str) -> int:
    """A descriptor of a folder by its path without links; what is missing of it is made. Raises OSError for a link."""
    at = os.open("/", _FOLDER)
    try:
        for part in [each for each in path.split("/") if each]:
            try:
                below = os.open(part, _FOLDER, dir_fd=at)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=at)
                below = os.open(part, _FOLDER, dir_fd=at)
            except NotADirectoryError:
                if os.path.islink(f"/proc/self/fd/{at}/{part}"):
                    raise OSError(errno.ELOOP, "its folder has become a link to another place meanwhile") from None
                raise
            os.close(at)
            at = below
    except BaseException:
        os.close(at)
        raise
    return at


def _is_still(path: str, descriptor: int) -> bool:
    try:
        one, other = os.lstat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _new_file(folder: int, name: str, mode: int, exact: bool = False) -> tuple[int, str]:
    """An empty file in a folder, to replace one of that name: (descriptor, its name)."""
    draft = f".pilotfish-{token_hex(8)}"
    before = None if exact else _mode_of(folder, name)
    mode = mode & 0o777 if before is None else mode & before
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    if before is not None or exact:  # that of the user, whatever the umask
        os.fchmod(descriptor, mode)
    return descriptor, draft


def _mode_of(folder: int, name: str) -> int | None:
    """The permission bits of a regular file; None for anything else, a link too."""
    try:
        stat = os.lstat(name, dir_fd=folder)
    except OSError:
        return None
    return stat.st_mode & 0o777 if S_ISREG(stat.st_mode) else None


def write_all(file: FileIO, block: bytes) -> None:
    """At the end of a file; zeros become a hole. Without a buffer: a full disk is seen here and not when the file is closed."""
    if len(block) >= _LEAST_HOLE and _ZEROS.startswith(block):
        os.ftruncate(file.fileno(), file.seek(0, os.SEEK_END) + len(block))
        file.seek(0, os.SEEK_END)
        return
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def set_time(file: Path | int, mtime_s: float) -> None:
    """A machine may say any time; what no file system takes is left out."""
    with suppress(OverflowError, ValueError, OSError):
        os.utime(file, (mtime_s, mtime_s))
