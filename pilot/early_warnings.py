"""Warnings of a batch system that come while a command is still being loaded.

SIGUSR1 and its kin announce the end of an allocation; unless a process handles them, they end it. A command takes up to
seconds on a busy machine before it can, and a pilot some more. A job that is warned in that time would end with 138, which
says nothing of work that is left, instead of 75. So they are noted from the first line on (`__main__`), until the command
either has handlers of its own and asks for what has come, or lets them have their usual effect.
"""

from __future__ import annotations

import signal
from types import FrameType

NUMBERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_come: list[int] = []


def note() -> None:
    """Note them from now on; those that are ignored stay so."""
    for number in NUMBERS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    _come.append(number)


def take() -> list[int]:
    """Those that have come so far, each once: for a command that has handlers by now."""
    come = list(dict.fromkeys(_come))
    _come.clear()
    return come


def let_go() -> None:
    """For a command to which they mean nothing: from now on they end it, also one that has come already."""
    for number in NUMBERS:
        if signal.getsignal(number) is _note:
            signal.signal(number, signal.SIG_DFL)
    for come in take():
        signal.raise_signal(come)
