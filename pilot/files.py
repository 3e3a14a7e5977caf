"""Small files that others read: put in place in one step, and never wider open than they are meant to be."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE, fsync: bool = False) -> None:
    """A reader sees the old file or the whole new one, of mode `mode` whatever the umask. Raises OSError; nothing is left then.

    `fsync`: it is on disk when this returns, so a crash of the machine does not lose it either. One writer at a time.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # of one that was killed; O_EXCL below, so that the mode is ours
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            if fsync:
                os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        name_file(error, path)
        raise
    if fsync:
        sync_folder(path.parent)


def link_atomically(target: str, link: Path) -> None:
    """Let a symbolic link point to `target`, whatever it pointed to before. Raises OSError."""
    draft = link.with_name(f".{link.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    os.replace(draft, link)


def name_file(error: BaseException, path: Path) -> None:
    """What goes wrong with a descriptor does not tell the name of its file."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def sync_folder(folder: Path) -> None:
    """The names in a folder survive a crash of the machine only when the folder is on disk too.

    File systems that cannot sync folders (CIFS, sshfs, some of FUSE) have no way to promise that, and are used all the same.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def open_private(path: str, flags: int) -> int:
    """As `opener` for `open`: a file that is made is for its owner only, whatever the umask."""
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE)
