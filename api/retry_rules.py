"""`--retry RULE` of the command line: a rule of `retry` in job descriptions, as words.

code=75,137 times=3 pause=1m
reason="memory limit" times=2 mem=2
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from ..pilot.model.errors import UsageError

_WORDS = {"code": "codes", "reason": "reasons", "times": "times", "pause": "pause", "mem": "mem", "wt": "wt"}
_WHERE = "--retry"
_REMEDY = "write --retry 'code=75,137 times=3 pause=1m'"


def parse_rules(texts: Iterable[str]) -> list[dict[str, Any]]:
    """The rules as a job description has them. What a number may be is the pilot's to say. Raises UsageError."""
    return [_rule(text) for text in texts]


def _rule(text: str) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text!r} cannot be read: {error}", where=_WHERE, remedy=_REMEDY) from None
    rule: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"{word!r} is not NAME=VALUE", where=_WHERE, remedy=_REMEDY)
        if name not in _WORDS:
            near = get_close_matches(name, _WORDS, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(_WORDS)}"
            raise UsageError(f"there is no {name!r} in a rule", where=_WHERE, remedy=remedy)
        if _WORDS[name] in rule:
            raise UsageError(f"{name!r} is given twice", where=_WHERE, remedy=_REMEDY)
        rule[_WORDS[name]] = _value(name, value)
    if not rule:
        raise UsageError("there is nothing in the rule", where=_WHERE, remedy=_REMEDY)
    return rule


def _value(name: str, value: str) -> Any:
    if name == "pause":
        return value
    if name == "reason":
        return [value]
    parts = value.split(",") if name == "code" else [value]
    numbers = [_number(name, part) for part in parts]
    return numbers if name == "code" else numbers[0]


def _number(name: str, text: str) -> int | float:
    kinds = (int, float) if name in ("mem", "wt") else (int,)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            pass
    raise UsageError(f"{text!r} is not a number", where=f"{_WHERE}: {name}", remedy=_REMEDY)
