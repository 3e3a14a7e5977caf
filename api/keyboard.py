"""Single keys from a terminal, as soon as they are pressed."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from types import TracebackType
from typing import Any

_NAMES = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x03": "ctrl-c",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "pgup",
    "\x1b[6~": "pgdn",
    "\x1b[H": "g",
    "\x1b[F": "G",
    "\x1b": "esc",
}
_ESCAPE = "\x1b"
_LONGEST = max(map(len, _NAMES))


class Keyboard:
    """A context manager: the terminal gives each key at once and shows none of them; at the end it is as it was."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before: list[Any] = []

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self.descriptor)
        tty.setraw(self.descriptor, termios.TCSANOW)
        after = termios.tcgetattr(self.descriptor)
        after[1] |= termios.OPOST  # lines still begin on the left
        termios.tcsetattr(self.descriptor, termios.TCSANOW, after)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)

    def read(self) -> Iterator[str]:
        """Those that have been pressed; the end of the input is Ctrl-C."""
        data = os.read(self.descriptor, 1024)
        return names(data.decode(errors="ignore")) if data else iter(("ctrl-c",))


def names(text: str) -> Iterator[str]:
    """What a terminal sends, as keys: characters, and the names of others. Sequences that mean nothing here are left out."""
    at = 0
    while at < len(text):
        length = next((n for n in range(_LONGEST, 0, -1) if text[at : at + n] in _NAMES), 0)
        if text[at] == _ESCAPE and length == 1 and at + 1 < len(text) and text[at + 1] in "[O":
            length = _end_of_sequence(text, at) - at
        elif length:
            yield _NAMES[text[at : at + length]]
        elif text[at].isprintable():
            yield text[at]
        at += max(1, length)


def _end_of_sequence(text: str, at: int) -> int:
    """Where a sequence ends that begins with `ESC [` or `ESC O`: behind its first letter or `~`."""
    end = at + 2
    while end < len(text) and not (text[end].isalpha() or text[end] == "~"):
        end += 1
    return min(len(text), end + 1)
