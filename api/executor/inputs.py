"""Futures among the arguments of a call: found, and replaced by places that the function worker fills."""

from __future__ import annotations

from typing import Any, NamedTuple

from .future import Future

_MOST_ELEMENTS = 10_000
"""A list or dictionary of more is taken as it is."""
_MOST_DEPTH = 4

Path = tuple[Any, ...]


class Slot(NamedTuple):
    """Where the result of a future belongs: a path through the list of positional arguments (0) and the others (1)."""

    future: Future[Any]
    path: Path


def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], list[Slot]]:
    """The arguments with None where there were futures, and these."""
    slots: list[Slot] = []
    for value in (*args, *kwargs.values()):
        if type(value) in (list, dict) or isinstance(value, Future):
            break
    else:
        return args, kwargs, slots
    found = [_without(value, (0, place), slots, 0) for place, value in enumerate(args)]
    named = {name: _without(value, (1, name), slots, 0) for name, value in kwargs.items()}
    return (tuple(found), named, slots) if slots else (args, kwargs, slots)


def _without(value: Any, path: Path, slots: list[Slot], depth: int) -> Any:
    if isinstance(value, Future):
        slots.append(Slot(value, path))
        return None
    if type(value) not in (list, dict) or len(value) > _MOST_ELEMENTS or depth == _MOST_DEPTH:
        return value
    before = len(slots)
    found: Any
    if type(value) is list:
        found = [_without(element, (*path, place), slots, depth + 1) for place, element in enumerate(value)]
    else:
        found = {
            key: _without(element, (*path, key), slots, depth + 1) if type(key) in (str, int) else element
            for key, element in value.items()
        }
    return value if len(slots) == before else found
