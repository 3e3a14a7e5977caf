"""Locks between programs: whoever holds a path is the only one, also where a file system knows no locks."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..pilot.model.errors import TransientError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
_PAUSE_S = 0.05
_LONGEST_WAIT_S = 3600.0
_mine = threading.local()


@contextmanager
def held(path: str | os.PathLike[str], sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold `path`, a file of its own for the lock, which stays; wait until nobody else does. A thread may take it again inside.

    Where the file system refuses locks a link beside it stands for the lock; one that a dead program of this host has left is
    taken over. Raises TransientError when such a link does not go for an hour.
    """
    name = os.path.abspath(path)
    names: set[str] = _mine.__dict__.setdefault("names", set())
    if name in names:
        yield
        return
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "a", opener=lambda file, flags: os.open(file, flags, 0o600)) as lock:
        link = None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            link = _linked(Path(f"{name}.held"), sleep)
        names.add(name)
        try:
            yield
        finally:
            names.discard(name)
            if link is not None:
                link.unlink(missing_ok=True)


def _linked(link: Path, sleep: Callable[[float], None]) -> Path:
    """A symbolic link is made whole or not at all, on every file system; its target says who made it."""
    host = socket.gethostname()
    waited_s = 0.0
    while True:
        with suppress(FileExistsError):
            link.symlink_to(f"{host}:{os.getpid()}:{threading.get_ident()}")
            return link
        with suppress(OSError, ValueError):
            owner = os.readlink(link)
            owner_host, pid, _ = owner.rsplit(":", 2)
            if owner_host == host and not _lives(int(pid)) and os.readlink(link) == owner:
                os.replace(link, aside := f"{link}.{os.getpid()}")
                os.unlink(aside)
                continue
        if waited_s >= _LONGEST_WAIT_S:
            raise TransientError(
                "another program holds it", where=str(link), remedy="remove this link if that program is gone"
            )
        sleep(_PAUSE_S)
        waited_s += _PAUSE_S


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
