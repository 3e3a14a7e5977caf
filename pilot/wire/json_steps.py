"""JSON of any size to a value, a slice at a time: what `codec.decode` does at once.

A request may be 64 MiB, and one call of a decoder for it takes a second in which nobody else is served. So the text is taken in
pieces, and in each piece the elements of the outer arrays and objects are decoded one by one, by the decoder of the standard
library, which can begin at any place. What does not end within a piece is either a large array or object, into which we go in
the same way, or a long text, which is put together from pieces.

Rejected: msgspec.Raw (it has to see the end of a member before it gives the first element of it), a helper thread (the decoders
hold the interpreter's lock).
"""

from __future__ import annotations

import codecs
import io
import re
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]  # older than typeshed
from typing import Any, BinaryIO

from ..model.steps import Pause, Steps
from .codec import MARK, check_storable, map_texts, to_text
from .legacy import FormError

PIECE_BYTES = 64 << 10
_DEEPEST = 32
"""Levels of arrays and objects that are larger than a piece."""

_scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # older than typeshed
_after_space = re.compile(r"[ \t\n\r]*").match


_LONGEST_NUMBER = 64 << 10
_LONGEST_TEXT = 8 << 20
_MOST_MEMBERS = 100_000
"""Of an object. A longer text or a larger object would hold up others wherever it is looked at as a whole."""
_ODD_ESCAPE = re.compile(r"\\u[dD](?:[cC][89a-fA-F]|[bB][fF][fF])")
_ESCAPE = 6
"""Characters of the longest escape, `\\uXXXX`."""


def decode_in_steps(body: bytes) -> Steps[object]:
    """A JSON value that journal and reply can hold. Raises FormError, never anything else."""
    return (yield from read_in_steps(io.BytesIO(body)))


def read_in_steps(file: BinaryIO) -> Steps[object]:
    """The same from a file, which is read piece by piece. Raises OSError besides."""
    text = _Text(file)
    value = yield from _value(text, 0, "")
    if text.next_char():
        raise text.error("there is more behind the end")
    return value


class _Text:
    """A window on the text: `text` from `at` on is what has been read and not taken yet."""

    def __init__(self, file: BinaryIO) -> None:
        self.text = ""
        self.at = 0
        self.is_odd = False
        """There may be bytes that are not text among what has been read."""
        self.is_over = False
        """There is nothing more to be read."""
        self._file = file
        self._read = 0
        self._before = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def more(self, count: int | None = None) -> bool:
        """Read on, a piece or so many bytes; False at the end."""
        if self.is_over:
            return False
        piece = self._file.read(count or PIECE_BYTES)
        self.is_over = not piece
        try:
            text = self._decoder.decode(piece, self.is_over)
        except UnicodeDecodeError as error:
            kept = len(error.object) - len(piece)  # of a character that the piece before has begun
            raise FormError(f"byte {self._read - kept + error.start} is not UTF-8 text") from None
        self._before += self.at
        self.text = self.text[self.at :] + text
        self.at = 0
        self._read += len(piece)
        self.is_odd = self.is_odd or _may_be_odd(self.text)
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
        if not self.is_over and self.text[end : end + 1] in ("", ".", "e", "E"):
            return False, None  # it may be the beginning of a number
        self.at = end
        return True, value

    def checked(self, value: Any) -> Any:
        """What has been scanned, as it is inside the pilot. Raises FormError."""
        if self.is_odd:
            try:
                value = map_texts(value, to_text)
            except RecursionError:
                raise FormError("it is nested too deeply") from None
        check_storable(value)
        return value

    def error(self, what: str) -> FormError:
        return FormError(f"this JSON cannot be read: {what}: character {self._before + self.at}")


def _may_be_odd(text: str) -> bool:
    """Whether escapes or characters of it may stand for bytes that are not text (codec.py)."""
    return ("\\u" in text and _ODD_ESCAPE.search(text) is not None) or (
        not text.isascii() and MARK.search(text) is not None
    )


def _value(text: _Text, depth: int, where: str) -> Steps[Any]:
    """The next value, which is checked as a whole or in its parts. `where` it stands is for messages."""
    first = text.next_char()
    is_whole, value = text.scan()
    while not is_whole:
        if first in ("[", "{", '"') and len(text.text) - text.at >= PIECE_BYTES // 2:
            if depth == _DEEPEST:
                raise FormError("it is nested too deeply")
            text.at += 1
            if first == '"':
                return text.checked((yield from _long_text(text, where)))
            return (yield from _array(text, depth, where) if first == "[" else _object(text, depth, where))
        if len(text.text) - text.at > _LONGEST_NUMBER or not text.more():
            raise text.error("expecting a value")
        yield Pause.MORE
        is_whole, value = text.scan()
    return text.checked(value)


def _long_text(text: _Text, where: str) -> Steps[str]:
    """What follows an opening quote."""
    parts: list[str] = []
    length = 0
    while True:
        cut = len(text.text) if text.is_over else _between_escapes(text.text, text.at)
        piece = text.text[text.at : cut] + '"'
        try:
            part, end = scanstring(piece, 0)
        except JSONDecodeError as error:
            text.at += error.pos
            raise text.error(error.msg) from None
        is_whole = end < len(piece)
        if not is_whole and "\ud800" <= part[-1:] <= "\udbff":  # the first half of a pair
            part, cut = part[:-1], cut - _ESCAPE
        parts.append(part)
        length += len(part)
        if length > _LONGEST_TEXT:
            what = f"this text has more than {_LONGEST_TEXT} characters"
            raise FormError(what, where=where, remedy="put it into a file")
        text.at = text.at + end if is_whole else cut
        if is_whole:
            return "".join(parts)
        if not text.more():
            raise text.error("expecting a value")
        yield Pause.MORE


def _between_escapes(window: str, at: int) -> int:
    """The end of the window, or of what stands before an escape that may not be whole there."""
    slash = window.rfind("\\", max(at, len(window) - _ESCAPE + 1))
    if slash < 0:
        return len(window)
    before = slash
    while before > at and window[before - 1] == "\\":
        before -= 1
    return len(window) if (slash - before) % 2 else slash  # a backslash that is escaped begins nothing


def _array(text: _Text, depth: int, where: str) -> Steps[list[Any]]:
    """What follows an opening bracket."""
    values: list[Any] = []
    if text.next_char() == "]":
        text.at += 1
        return values
    while True:
        _run(text, values)
        yield Pause.MORE
        values.append((yield from _value(text, depth + 1, f"{where}[{len(values)}]")))
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
        values[before:] = text.checked(values[before:])


def _object(text: _Text, depth: int, where: str) -> Steps[dict[str, Any]]:
    """What follows an opening brace."""
    members: dict[str, Any] = {}
    if text.next_char() == "}":
        text.at += 1
        return members
    number = 0
    while True:
        if text.next_char() != '"':
            raise text.error("expecting a name in double quotes")
        name = yield from _value(text, depth + 1, where)
        if text.next_char() != ":":
            raise text.error("expecting ':'")
        text.at += 1
        members[name] = yield from _value(text, depth + 1, f"{where}.{name}".lstrip("."))
        if _ends(text, "}"):
            return members
        number += 1
        if number > _MOST_MEMBERS:
            raise FormError(f"this object has more than {_MOST_MEMBERS} members", where=where)
        if not number % 100:
            yield Pause.MORE


def _ends(text: _Text, closing: str) -> bool:
    """Whether the array or object ends here; otherwise there is a comma, which is taken."""
    char = text.next_char()
    if char not in (closing, ","):
        raise text.error(f"expecting ',' or '{closing}'")
    text.at += 1
    return char == closing
