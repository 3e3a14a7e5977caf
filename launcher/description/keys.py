"""What a key of a description is, and whether a value is one that it may have.

An error names the place, what is wrong and what to write; it never has the value of a secret, nor what stands in lists and
mappings, where there may be some.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ...pilot.model.errors import UsageError
from .secrets import without_secrets

log = logging.getLogger(__name__)


class DescriptionError(UsageError, ValueError):
    """A machine, resources, task or submission description breaks a rule; `where` is the path of the key."""

    code = "description"

    def below(self, name: str, where: str) -> DescriptionError:
        """The same in another place: `where` instead of `name` at the beginning."""
        self.where = where + self.where.removeprefix(name)
        return self


class UnknownNameError(DescriptionError, KeyError):
    """No batch system or context has this name."""


class InconsistentError(DescriptionError, RuntimeError):
    """Values that are allowed, each for itself, do not go together, or something is missing that the work needs."""


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        kind: `str`, `int`, `float`, `bool`, `dict`, `dict[str]`, `list[str]`, `list[dict]`; with `|null` where null is allowed.
        aliases: other names; a warning tells the right one.
        ours: not a key of DPDispatcher; left out of what is written when it has its default.
        secret: its value is in no message, and a warning tells that it is better not in the file.
        least, most: of a number.
        choices: the only values that a text may have.
    """

    name: str
    kind: str
    default: Any
    meaning: str
    aliases: tuple[str, ...] = ()
    ours: bool = False
    secret: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeysOfSystem:
    """The keys of `resources.kwargs` of one batch system; other keys are taken as they are, for header templates.

    `wanted`: DPDispatcher wants `kwargs` here, so they always have its defaults, which the hash shows; elsewhere only
    `kwargs` that are given have them.
    """

    keys: tuple[Key, ...] = ()
    wanted: bool = False


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict": (dict,),
    "null": (type(None),),
}


def is_plain(key: Key, value: Any) -> bool:
    """Whether the value is seen at once to be a text, or a list of texts, of a key that may be that."""
    if type(value) is list:
        return key.kind == "list[str]" and all(type(each) is str and "\0" not in each for each in value)
    return type(value) is str and key.kind in ("str", "str|null") and not key.secret and "\0" not in value


def checked_value(key: Key, given: Any, where: str) -> Any:
    """The value of a key when it is one. That of a secret is in no message."""
    try:
        value = _checked(key.kind, given, where)
    except DescriptionError:
        if not key.secret:
            raise
        raise DescriptionError(f"is not {_spoken(key.kind)}", where=where, remedy="write quotes around it") from None
    if key.choices and value not in key.choices:
        known = f"it may be {', '.join(key.choices[:-1])} or {key.choices[-1]}"
        raise DescriptionError(f"unknown {value!r}", where=where, remedy=nearest(value, key.choices) or known)
    if key.secret and without_secrets(value) != value:
        log.warning(
            "%s: is in the file for all who can read it; write env:NAME, file:PATH or keyring:SERVICE/USER", where
        )
    if wrong := out_of_range(key, value):
        remedy = "" if key.default in (REQUIRED, None) else f"leave it out for {key.default}"
        raise DescriptionError(wrong, where=where, remedy=remedy)
    return value


def out_of_range(key: Key, value: Any) -> str:
    """What is wrong with a value that is less, or more, than its key allows; empty when nothing is."""
    if value is not None and key.least is not None and value < key.least:
        return f"{value} is less than {key.least}"
    return f"{value} is more than {key.most}" if value is not None and key.most is not None and value > key.most else ""


def _checked(kind: str, value: Any, where: str) -> Any:
    """The value when it is of that kind."""
    for choice in kind.split("|"):
        if choice.startswith("dict["):
            if isinstance(value, Mapping):
                item = choice[5:-1]
                return {str(name): _checked(item, each, at(where, name)) for name, each in value.items()}
        elif choice.startswith("list["):
            if isinstance(value, (list, tuple)):
                item = choice[5:-1]
                return [_checked(item, each, f"{where}[{number}]") for number, each in enumerate(value)]
        elif isinstance(value, _TYPES[choice]) and _sound(value):
            return value
    raise DescriptionError(f"{said(value)} is not {_spoken(kind)}", where=where)


def _sound(value: Any) -> bool:
    """No program takes a text with a NUL; nobody can wait for infinity or NaN."""
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, float) or abs(value) <= sys.float_info.max


def _spoken(kind: str) -> str:
    words = {
        "str": "a text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "dict": "a mapping",
        "null": "null",
        "dict[str]": "a mapping of texts",
        "list[str]": "a list of texts",
        "list[dict]": "a list of mappings",
    }
    return " or ".join(words[choice] for choice in kind.split("|"))


def nearest(word: str, known: Iterable[str]) -> str:
    """What the writer may have meant, as a remedy; empty when nothing is near."""
    near = get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def said(value: Any) -> str:
    """What was given instead. Not what is in a list or mapping: there may be secrets in it."""
    if isinstance(value, Mapping | list | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def at(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)
