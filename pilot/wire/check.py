"""Small checks of JSON values, whose errors name place, value and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeGuard

from ..model.errors import InvalidJobError

_LONGEST_NAME = 80
"""That is shown, or compared with others."""


def shown(value: object) -> str:
    """A value as the user wrote it, cut to a length that fits a line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_count(value: object) -> TypeGuard[int]:
    """A whole number; a bool is not accepted, although it is an int in Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def need_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidJobError(f"{shown(value)} is not text", where=where, remedy="put it into quotes")
    return value


def need_object(value: object, where: str, otherwise: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidJobError(otherwise, where=where, remedy=f"not {shown(value)}: write {{...}}")
    return value


def check_members(value: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse members that have no meaning, with the one that may have been meant."""
    names = sorted(known)
    for member in value:
        if member not in names:
            unknown = member[:_LONGEST_NAME]
            near = get_close_matches(unknown, names, 1)
            remedy = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(names)}"
            raise InvalidJobError("unknown key", where=f"{where}.{unknown}", remedy=remedy)
