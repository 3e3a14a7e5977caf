"""JSON of any size to a value, a slice at a time: what `codec.decode` does at once.

A request may be 64 MiB, and one call of a decoder for it takes a second in which nobody else is served. So the text is taken in
pieces, and in each piece the elements of the outer arrays and objects are decoded one by one, by the decoder of the standard
library, which can begin at any place. What does not end within a piece is either a large array or object, into which we go in
the same way, or a long text, for which the piece grows.

Rejected: msgspec.Raw (it has to see the end of a member before it gives the first element of it), a helper thread (the decoders
hold the interpreter's lock).
"""

from __future__ import annotations

import codecs
import re
from json import JSONDecodeError, JSONDecoder
from typing import Any

from ..model.steps import Pause, Steps
from .codec import check_storable
from .legacy import FormError

PIECE_BYTES = 64 << 10
_DEEPEST = 32
"""Levels of arrays and objects that are larger than a piece."""

_scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # older than typeshed
_after_space = re.compile(r"[ \t\n\r]*").match


def decode_in_steps(body: bytes) -> Steps[object]:
    """A JSON value that journal and reply can hold. Raises FormError, never anything else."""
    text = _Text(body)
    value = yield from _value(text, 0)
    if text.next_char():
        raise text.error("there is more behind the end")
    return value


class _Text:
    """A window on the text: `text` from `at` on is what has been read and not taken yet."""

    def __init__(self, body: bytes) -> None:
        self.text = ""
        self.at = 0
        self._body = body
        self._read = 0
        self._before = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def more(self, count: int = PIECE_BYTES) -> bool:
        """Read on; False at the end."""
        if self._read >= len(self._body):
            return False
        piece = self._body[self._read : self._read + count]
        is_last = self._read + len(piece) == len(self._body)
        try:
            text = self._decoder.decode(piece, is_last)
        except UnicodeDecodeError as error:
            kept = len(error.object) - len(piece)  # of a character that the piece before has begun
            raise FormError(f"byte {self._read - kept + error.start} is not UTF-8 text") from None
        self._before += self.at
        self.text = self.text[self.at :] + text
        self.at = 0
        self._read += len(piece)
        return True

    def next_char(self) -> str:
        """What comes next after white space; empty at the end."""
        while True:
            self.at = _after_space(self.text, self.at).end()  # type: ignore[union-attr]  # it always matches
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def scan(self) -> tuple[bool, Any]:
        """(whether the next value ends within the window, that value)."""
        try:
            value, end = _scan(self.text, self.at)
        except (StopIteration, JSONDecodeError):
            return False, None
        except RecursionError:
            raise FormError("it is nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise self.error(str(error)) from None
        if self._read < len(self._body) and self.text[end : end + 1] in ("", ".", "e", "E"):
            return False, None  # it may be the beginning of a number
        self.at = end
        return True, value

    def error(self, what: str) -> FormError:
        return FormError(f"this JSON cannot be read: {what}: character {self._before + self.at}")


def _value(text: _Text, depth: int) -> Steps[Any]:
    """The next value, which is checked as a whole or in its parts."""
    first = text.next_char()
    is_whole, value = text.scan()
    count = PIECE_BYTES
    while not is_whole:
        if first in ("[", "{") and len(text.text) - text.at >= PIECE_BYTES // 2:
            if depth == _DEEPEST:
                raise FormError("it is nested too deeply")
            text.at += 1
            return (yield from _array(text, depth) if first == "[" else _object(text, depth))
        if not text.more(count):
            raise text.error("expecting a value")
        count *= 2
        yield Pause.MORE
        is_whole, value = text.scan()
    check_storable(value)
    return value


def _array(text: _Text, depth: int) -> Steps[list[Any]]:
    """What follows an opening bracket."""
    values: list[Any] = []
    if text.next_char() == "]":
        text.at += 1
        return values
    while True:
        _run(text, values)
        yield Pause.MORE
        values.append((yield from _value(text, depth + 1)))
        if _ends(text, "]"):
            return values


def _run(text: _Text, values: list[Any]) -> None:
    """Add the elements that are whole in this window and have a comma behind them, all at once."""
    window, at, before = text.text, text.at, len(values)
    try:
        while True:
            value, end = _scan(window, at)
            end = _after_space(window, end).end()  # type: ignore[union-attr]
            if window[end] != ",":
                break
            values.append(value)
            at = _after_space(window, end + 1).end()  # type: ignore[union-attr]
    except (StopIteration, ValueError, IndexError):  # the end of the window, or a mistake: the slow way finds out
        pass
    except RecursionError:
        raise FormError("it is nested too deeply") from None
    text.at = at
    if len(values) > before:
        check_storable(values[before:])


def _object(text: _Text, depth: int) -> Steps[dict[str, Any]]:
    """What follows an opening brace."""
    members: dict[str, Any] = {}
    if text.next_char() == "}":
        text.at += 1
        return members
    number = 0
    while True:
        if text.next_char() != '"':
            raise text.error("expecting a name in double quotes")
        name = yield from _value(text, depth + 1)
        if text.next_char() != ":":
            raise text.error("expecting ':'")
        text.at += 1
        members[name] = yield from _value(text, depth + 1)
        if _ends(text, "}"):
            return members
        number += 1
        if not number % 100:
            yield Pause.MORE


def _ends(text: _Text, closing: str) -> bool:
    """Whether the array or object ends here; otherwise there is a comma, which is taken."""
    char = text.next_char()
    if char not in (closing, ","):
        raise text.error(f"expecting ',' or '{closing}'")
    text.at += 1
    return char == closing
