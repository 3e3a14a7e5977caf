"""Names of batch systems and contexts: DPDispatcher's classes, in any case."""

from __future__ import annotations

from collections.abc import Iterable

from . import schema, systems
from .schema import CONTEXTS, UnknownNameError


def batch_type(name: str, where: str) -> str:
    """The batch system of that name, whatever its case, or of that other name. Raises UnknownNameError."""
    known = systems.known().names()
    if name.lower() in map(str.lower, known):
        return _same(name, known, where, "")
    return systems.known().aliases().get(name.lower()) or _same(name, known, where, "")


def context_type(name: str, where: str) -> str:
    """The context of that name, whatever its case, with or without `Context`. Raises UnknownNameError."""
    known = {each: kind.name for kind_name, kind in CONTEXTS.items() for each in (kind_name, *kind.aliases)}
    return known[_same(name, known, where, "Context")]


def _same(name: str, known: Iterable[str], where: str, suffix: str) -> str:
    def plain(text: str) -> str:
        return text.lower().removesuffix(suffix.lower()) if suffix else text.lower()

    for each in known:
        if plain(name) == plain(each):
            return each
    remedy = schema.nearest(name, known) or f"known are {', '.join(known)}"
    raise UnknownNameError(f"unknown {name!r}", where=where, remedy=remedy)
