"""Holding a file for a while, across programs and threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...pilot import locks
from ...pilot.model.errors import TransientError

_LONGEST_WAIT_S = 3600.0
_mine = threading.local()


@contextmanager
def held(path: str | os.PathLike[str], sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold `path`, a file of its own for the lock, which stays; wait until nobody else does. A thread may take it again inside.

    Where the file system knows no locks a link stands for it, see `pilot.locks`. Raises TransientError when it is not free
    for an hour.
    """
    name = os.path.abspath(path)
    names: set[str] = _mine.__dict__.setdefault("names", set())
    if name in names:
        yield
        return
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "a", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        try:
            lock = locks.take(file.fileno(), Path(name), _LONGEST_WAIT_S, sleep=sleep)
        except locks.HeldError as error:
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
