"""What a process of ours has changed of what it inherited, so that its tasks can have it back.

A task is to see what a plain shell would see at the place where the pilot was started (docs/task-environment.md). Most of that
is inherited by itself: nobody here touches nice, umask, memory limits, or the scheduling class. What the pilot changes for its
own sake is the limit of open files, which handlers and blocked signals it has, and, because it is written in Python, one
variable of the locale. A manager notes these before it changes them and hands them to its agents as one word in a variable; an
agent that was started by hand, or in a way that carries no variables, notes its own.

Two signals are beyond that: Python ignores SIGPIPE and SIGXFSZ before its first line, and forgets what they were. Tasks have
them as nearly every shell has them, not ignored. SIGCHLD is not ignored either: no shell could wait for its commands.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

_UNKNOWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD})
_LOCALE = "LC_CTYPE"


class Inherited(NamedTuple):
    """Soft limit of open files; signals that are ignored, and those that are blocked."""

    open_files: int
    ignored: frozenset[int]
    blocked: frozenset[int]

    @classmethod
    def note(cls) -> Inherited:
        """As it is in this process: call before anything is changed."""
        return cls(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            frozenset(
                number for number in signal.valid_signals() - _UNKNOWN if signal.getsignal(number) is signal.SIG_IGN
            ),
            frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        )

    def as_word(self) -> str:
        return ":".join([str(self.open_files), _numbers(self.ignored), _numbers(self.blocked)])

    @classmethod
    def from_word(cls, word: str) -> Inherited:
        """Raises ValueError when `as_word` has not made it."""
        open_files, ignored, blocked = word.split(":")
        return cls(int(open_files), _signals(ignored), _signals(blocked))

    @classmethod
    def told_by(cls, word: str | None) -> Inherited:
        """What the manager noted; what this process has, where none has said so, or nothing that makes sense."""
        with suppress(ValueError):
            if word is not None:
                return cls.from_word(word)
        return cls.note()


def _numbers(signals: Collection[int]) -> str:
    return ",".join(str(int(number)) for number in sorted(signals))


def _signals(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(",") if number) & signal.valid_signals()


def begin_command() -> None:
    """For the first lines of a command of ours: be a process that can wait for children, and pass on nothing of Python's.

    Where no locale is set, Python sets LC_CTYPE for itself and for all its children (PEP 538), whose `sort`, say, would then
    see other characters than in a shell.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if _LOCALE in os.environ and _LOCALE not in _first_variables():
        del os.environ[_LOCALE]


def _first_variables() -> set[str]:
    """Names in the environment that this process was started with; those it has now, where that cannot be read."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return {os.fsdecode(line.partition(b"=")[0]) for line in file.read().split(b"\0")}
    except OSError:
        return set(os.environ)
