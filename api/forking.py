"""Objects that a fork of the process leaves useless in the child: threads and locks of theirs stay behind in the parent.

The child of `os.fork()` or of a multiprocessing pool has a copy of every object but only one thread. A connection served by
another thread would wait there for ever, and two processes on one connection would take each other's answers.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    def after_fork(self) -> None:
        """Called in the child: forget what is the parent's, without closing it, and begin anew. Must not raise or block."""


_objects: weakref.WeakSet[Forked] = weakref.WeakSet()


def renew_in_children(one: Forked) -> None:
    """Call `one.after_fork()` in every child that is forked while it lives."""
    _objects.add(one)


def _after_fork() -> None:
    for one in list(_objects):
        one.after_fork()


os.register_at_fork(after_in_child=_after_fork)
