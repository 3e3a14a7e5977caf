"""Locks between programs: whoever holds a file is the only one, also where a file system knows no locks.

Lustre without `flock`, NFS without a lock daemon and some FUSE mounts refuse file locks. There a symbolic link beside the
file stands for the lock: a link is made whole or not at all on every file system, and its target names the process that
made it. What that can and cannot promise:

- On one host two programs never hold the same file. The link of a process that has died, or of an earlier boot of this
  host, is taken over; the time at which a process began tells it from a later one with its number.
- Whether a process of another host (or of another container) lives cannot be seen from here, so its link counts until
  somebody removes it. A heartbeat in its place was rejected: a holder that is suspended looks like a dead one, and goes on
  writing when it is continued.
- A program for which locks work and one for which they do not see each other when both are on the host of the file's
  holder and the file says who holds it (`takes_note`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .model.errors import TransientError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
_PAUSE_S = 0.05
_MOST_TEXT_BYTES = 512
_LONGEST_WAIT_S = 3600.0
_mine = threading.local()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process as others can tell it from all others: on which boot of which host, and when it began (clock ticks)."""

    pid: int
    began: str
    boot: str
    pid_space: str
    host: str

    @classmethod
    def this(cls) -> Owner:
        pid = os.getpid()
        return cls(pid, _began(pid) or "", _boot(), _pid_space(), socket.gethostname())

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        words = text.split(" ", 4)
        if len(words) < 5 or not words[0].isdigit():
            return None
        return cls(int(words[0]), *words[1:])

    def __str__(self) -> str:
        return f"{self.pid} {self.began} {self.boot} {self.pid_space} {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it can be seen from here if it lives."""
        return self.host == socket.gethostname() and (self.boot, self.pid_space) == (_boot(), _pid_space())

    @property
    def is_gone(self) -> bool:
        """Whether it is known not to live any more."""
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        return self.pid_space == _pid_space() and _began(self.pid) != self.began


_UNKNOWN = Owner(0, "", "", "", "an unknown host")
"""Of a link that something else has made."""


class HeldError(BlockingIOError):
    """Somebody else holds it. `owner` None: it is not known who. `link`: what is to be removed if that process is gone."""

    def __init__(self, owner: Owner | None, link: Path | None) -> None:
        self.owner = owner
        self.link = link
        super().__init__(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))

    @property
    def holder(self) -> str:
        if self.owner is None:
            return "process unknown"
        return f"process {self.owner.pid}" + ("" if self.owner.is_here else f" on {self.owner.host}")


class Lock:
    """Made by `take`; held until `release`, or the end of the process."""

    def __init__(self, descriptor: int, link: Path | None, reason: str) -> None:
        self._descriptor = descriptor
        self._link = link
        self.weakness = reason
        """Why a link had to stand for the lock; empty when it is a real one."""

    def release(self) -> None:
        """The descriptor stays open; it is the caller's to close, and that alone would do for a real lock."""
        if self._link is not None:
            with suppress(OSError):
                self._link.unlink()
            self._link = None
        else:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def take(
    descriptor: int,
    path: Path,
    patience_s: float = 0.0,
    *,
    takes_note: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Lock:
    """Hold the open file `descriptor`, whose name is `path`; wait `patience_s` seconds for others.

    `takes_note`: the file is there for the lock alone, and says who holds it.
    Raises HeldError when somebody else holds it still; OSError.
    """
    waited_s = 0.0
    while True:
        try:
            lock = _try(descriptor, path.with_name(f"{path.name}.held"), path if takes_note else None)
        except HeldError:
            if waited_s >= patience_s:
                raise
        else:
            if takes_note:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{Owner.this()}\n".encode(), 0)
            return lock
        sleep(_PAUSE_S)
        waited_s += _PAUSE_S


@contextmanager
def held(path: str | os.PathLike[str], sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold `path`, a file that is there for the lock alone and stays; wait until nobody else holds it.

    A thread may take it again inside. Raises TransientError when it is not free for an hour.
    """
    name = os.path.abspath(path)
    names: set[str] = _mine.__dict__.setdefault("names", set())
    if name in names:
        yield
        return
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "a", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        try:
            lock = take(file.fileno(), Path(name), _LONGEST_WAIT_S, sleep=sleep)
        except HeldError as error:
            raise TransientError(
                f"another program, {error.holder}, holds it",
                where=str(error.link or name),
                remedy="end that program" + (", or remove this link if it is gone" if error.link else ""),
            ) from None
        names.add(name)
        try:
            yield
        finally:
            names.discard(name)
            lock.release()


def _try(descriptor: int, link: Path, note: Path | None) -> Lock:
    reason = ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldError(_noted(descriptor) if note else None, None) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        reason = error.strerror or "refused"
    try:
        other = _remaining(link)
        if other is None and not reason:
            return Lock(descriptor, None, "")
        other = other or _living_holder(descriptor, note)
        if other is not None:
            raise HeldError(other, link)
        with suppress(FileExistsError):
            link.symlink_to(str(Owner.this()))
            return Lock(descriptor, link, reason)
        raise HeldError(_owner_of(link), link)
    except HeldError:
        if not reason:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        raise


def _remaining(link: Path) -> Owner | None:
    """Whose link it is, None when there is none any more: the link of a process that is gone is removed."""
    owner = _owner_of(link)
    if owner is None or not owner.is_gone:
        return owner
    # Removing is by name, and a link of that name may be another one by then. So one removes at a time, and looks again.
    turn = link.with_name(f"{link.name}.turn")
    try:
        turn.symlink_to(str(Owner.this()))
    except FileExistsError:
        remover = _owner_of(turn)
        if remover is not None and remover.is_gone:
            turn.unlink(missing_ok=True)
        return remover or owner
    try:
        owner = _owner_of(link)
        if owner is not None and owner.is_gone:
            link.unlink(missing_ok=True)
            owner = None
        return owner
    finally:
        turn.unlink(missing_ok=True)


def _owner_of(link: Path) -> Owner | None:
    """None when there is no such link."""
    try:
        text = os.readlink(link)
    except FileNotFoundError:
        return None
    return Owner.parse(text) or _UNKNOWN


def _living_holder(descriptor: int, note: Path | None) -> Owner | None:
    """For whom locks work leaves no link."""
    owner = _noted(descriptor) if note else None
    if owner is None or owner == Owner.this() or not owner.is_here or owner.is_gone:
        return None
    return owner if _has_open(owner.pid, descriptor) else None


def _has_open(pid: int, descriptor: int) -> bool:
    """Whether the process has the same file open: it may have let go of the lock and live on."""
    mine = os.fstat(descriptor)
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                theirs = os.stat(entry.path)
                if (theirs.st_dev, theirs.st_ino) == (mine.st_dev, mine.st_ino):
                    return True
    return False


def _noted(descriptor: int) -> Owner | None:
    with suppress(OSError):
        return Owner.parse(os.pread(descriptor, _MOST_TEXT_BYTES, 0).decode(errors="replace").strip())
    return None


def _began(pid: int) -> str | None:
    """None when there is no such process, or it has ended and waits to be reaped."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else words[19].decode()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"


def _pid_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"
