"""JSON and text on the wire: what is decoded how, and what stands for bytes that are not text.

File names, arguments and variables are bytes, and old data sets have some that are no UTF-8. In Python such a byte is a lone
surrogate (PEP 383), in JSON, and so to clients, the escape of one: `"caf\\udce9"`, as Python's own json writes it. Neither
msgpack nor the fast decoders take that. So inside the pilot, in frames and in the journal, a *byte mark* stands for it, one
of the last 128 code points, U+10FF80 to U+10FFFF, and there is no text that cannot be kept. Marks are made and undone at the
edges only, where a search for two bytes tells that there is nothing to do, so usual text costs nothing:

    client   JSON "\\udce9"  ->  decode  ->  manager, journal, frames: U+10FFE9  ->  to_os  ->  byte E9 in the task
    task     byte E9 in a message  ->  to_text  ->  frames, manager: U+10FFE9  ->  encode  ->  JSON "\\udce9"

A text that really has one of these code points (nobody can have a use for them) is kept as its four bytes.

What the strict decoder refuses and the old one took (NaN) is tried with the old one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from .legacy import FormError

_HEADROOM = 100
"""Levels of nesting left for those who hold a value inside their own, deeper in the stack."""

_MARKS = "\U0010ff80-\U0010ffff"
MARK = re.compile(f"[{_MARKS}]")
_SURROGATE = re.compile("[\udc80-\udcff]")
_MARK_OR_SURROGATE = re.compile(f"[{_MARKS}\udc80-\udcff]")
_MARK_BEGIN = b"\xf4\x8f"
"""How marks, and few other characters, begin in UTF-8."""
_MARK_BYTES = re.compile(rb"\xf4\x8f[\xbe\xbf][\x80-\xbf]")
_ESCAPED_MARK = re.compile(rb"\\u[dD][bB][fF][fF]")
_MARK_IN_ASCII = re.compile(r"\\udbff\\udf([89a-f][0-9a-f])")
_FIRST_MARK, _FIRST_SURROGATE = 0x10FF00, 0xDC00

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode


# --- text ---------------------------------------------------------------------------------------------------------------


def to_text(text: str) -> str:
    """Text of the operating system, with surrogates for odd bytes, as it is inside the pilot."""
    return text if text.isascii() else _MARK_OR_SURROGATE.sub(_marks_for, text)


def to_os(text: str) -> str:
    """The way back."""
    return text if text.isascii() else MARK.sub(lambda found: chr(_FIRST_SURROGATE + _byte(found[0])), text)


def is_text(text: str) -> bool:
    """Whether it is UTF-8, and not only bytes in the clothes of text."""
    return _SURROGATE.search(text) is None


def has_marks(data: bytes) -> bool:
    """Whether there may be marks in UTF-8, JSON or msgpack; usually not."""
    return _MARK_BEGIN in data


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same value of plain types with all its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [map_texts(element, change) for element in value]
    if isinstance(value, dict):
        return {map_texts(name, change): map_texts(element, change) for name, element in value.items()}
    return value


def without_surrogates(value: object) -> Any:
    """For what an encoder has refused: the value as plain types, with marks instead of surrogates."""
    return map_texts(msgspec.to_builtins(value, builtin_types=(bytes,)), lambda text: _SURROGATE.sub(_marks_for, text))


def _marks_for(found: re.Match[str]) -> str:
    return "".join([chr(_FIRST_MARK + byte) for byte in found[0].encode(errors="surrogateescape")])


def _byte(mark: str) -> int:
    return ord(mark) - _FIRST_MARK


# --- JSON: requests and replies -------------------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    """A value of the pilot as JSON for others."""
    try:
        body = _encode(value)
    except UnicodeEncodeError:  # paths of our own
        body = _encode(without_surrogates(value))
    return _MARK_BYTES.sub(_escaped, body) if _MARK_BEGIN in body else body


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\udc%02x" % _byte(found[0].decode())


def ascii_for_others(text: str) -> str:
    """The same for JSON that has been written in ASCII, which has each mark as an escaped pair."""
    return _MARK_IN_ASCII.sub(r"\\udc\1", text) if "\\udbff" in text else text


def decode(body: bytes) -> object:
    """Any bytes to a JSON value. Raises FormError, never anything else."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        value = _decode_leniently(body)
    else:
        if _MARK_BEGIN not in body and not (b"\\u" in body and _ESCAPED_MARK.search(body)):
            return value
    try:
        return map_texts(value, to_text)
    except RecursionError:
        raise FormError("it is nested too deeply") from None


def _decode_leniently(body: bytes) -> object:
    """With NaN and Infinity, and with the place of an error."""
    try:
        return json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise FormError(f"byte {error.start} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"this JSON cannot be read: {error}") from None


def check_storable(value: object) -> None:
    """Refuse what JSON can say but neither journal nor reply can hold. Raises FormError."""
    for _ in range(_HEADROOM):
        value = [value]
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise FormError("it contains a number of more than 64 bits") from None
    except UnicodeEncodeError:
        raise FormError("it contains a lone surrogate") from None
    except RecursionError:
        raise FormError("it is nested too deeply") from None


# --- JSON: files and messages with text of the operating system -----------------------------------------------------------


def dump(value: object, indent: int = 0) -> bytes:
    """As JSON, odd bytes included; with `indent` for people."""
    try:
        return msgspec.json.format(_encode(value), indent=indent) if indent else _encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), indent=indent or None).encode()


def load(data: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    """The way back. Raises msgspec.DecodeError (ValidationError is one)."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        text = bytes(data)
        if b"\\u" not in text:
            raise
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return msgspec.convert(value, kind)
        raise
