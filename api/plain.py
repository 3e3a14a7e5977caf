"""What Python programs have at hand, paths and numbers of any kind, as the text and JSON values that a pilot takes."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral, Number
from typing import Any

from .errors import InvalidJobDescriptionError, WrongArgumentsError


def as_word(value: object, where: str) -> str:
    """A word of a command line: text, a path or a number. Raises WrongArgumentsError for anything else."""
    if isinstance(value, (str, bytes, os.PathLike)):
        text = os.fsdecode(value)
    elif isinstance(value, Number) and not isinstance(value, bool):
        text = str(value)
    else:
        raise WrongArgumentsError(
            f"{_shown(value)} cannot be a word of a command line", where=where, remedy="give text, a path or a number"
        )
    if "\0" in text:
        raise WrongArgumentsError("there is a NUL character in it", where=where)
    return text


def as_seconds(value: object, name: str, *, least: float = -math.inf) -> float:
    """A time limit: any number, infinity for none. Raises WrongArgumentsError, before anything waits for ever."""
    if isinstance(value, Number) and not isinstance(value, bool):
        with suppress(TypeError, ValueError, OverflowError):
            seconds = float(value)  # type: ignore[arg-type]
            if seconds >= least:  # never true of what is not a number
                return min(seconds, threading.TIMEOUT_MAX)
    remedy = "give a number, e.g. 2.5" if least < 0 else "give a number above 0, e.g. 2.5"
    raise WrongArgumentsError(f"{_shown(value)} is not a number of seconds", where=name, remedy=remedy)


def as_text(path: bytes | os.PathLike[Any]) -> str:
    """As a pilot takes it, whatever this program's locale is: UTF-8, with surrogates for other bytes."""
    return os.fsencode(path).decode(errors="surrogateescape")


def as_json(value: Any, where: str, *, in_text: bool = False) -> Any:
    """The value with paths, bytes, numbers and text of any class as JSON has them; `in_text`: what will be text is so now.

    Raises InvalidJobDescriptionError naming the place of any other value.
    """
    if value is None or isinstance(value, bool) or type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, os.PathLike)):
        return as_text(value)
    if isinstance(value, Number):
        return _number(value, where, in_text)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InvalidJobDescriptionError(f"the name {_shown(name)} is not text", where=where)
        return {str(name): as_json(element, f"{where}.{name}", in_text=in_text) for name, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(element, f"{where}[{place}]", in_text=in_text) for place, element in enumerate(value)]
    raise InvalidJobDescriptionError(
        f"{_shown(value)} is neither text nor a number nor a path", where=where, remedy="write str(...) around it"
    )


def _number(value: Any, where: str, in_text: bool) -> int | float | str:
    if in_text:
        return str(value)
    try:
        return int(value) if isinstance(value, Integral) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidJobDescriptionError(f"{_shown(value)} is not a number for JSON", where=where) from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
