"""`--resource NAME=VALUE`: what nodes have beside cores, GPUs and memory; `--pool-resource`: what the pilot has as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..model.errors import SettingsError, UsageError
from ..model.resources import MOST_AMOUNT, MOST_IDS, NamedResource, NodeSpec, is_resource_name
from ..model.units import parse_bytes
from .hostlist import ids as ids_of

REMEDY = "write NAME=4 (a number), NAME=0-3 or NAME=[a,b] (with ids), or NAME=400G (bytes)"
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)
_ID = re.compile(r"[\w.:/+-]{1,64}", re.ASCII)


def parse_all(texts: Iterable[str], where: str) -> tuple[NamedResource, ...]:
    """Each name once. Raises SettingsError."""
    found: dict[str, NamedResource] = {}
    for text in texts:
        resource = parse(text, where)
        if resource.name in found:
            raise SettingsError(f'"{resource.name}" is there twice', where=where, remedy="say it once")
        found[resource.name] = resource
    return tuple(found.values())


def with_own(node: NodeSpec, named: Sequence[NamedResource]) -> tuple[NamedResource, ...]:
    """What a node has of its own, and of `named` what it has not said otherwise."""
    own = {resource.name for resource in node.named}
    return (*node.named, *(resource for resource in named if resource.name not in own))


def parse(text: str, where: str) -> NamedResource:
    """One of them. Raises SettingsError."""
    name, equals, value = (part.strip() for part in text.partition("="))
    name = name.lower()
    if not equals or not value:
        raise SettingsError(f'"{text}" says nothing of how much there is', where=where, remedy=REMEDY)
    if not is_resource_name(name):
        remedy = (
            "use small letters, digits and _, beginning with a letter; GPUs, cores and memory have options of their own"
        )
        raise SettingsError(f'"{name}" is not a name for a resource', where=where, remedy=remedy)
    if value.isascii() and value.isdecimal():
        return NamedResource(name, amount=_positive(int(value), text, where))
    if value.startswith("[") or _RANGES.fullmatch(value):
        return NamedResource(name, _ids(value, text, where))
    try:
        return NamedResource(name, amount=_positive(parse_bytes(value), text, where), in_bytes=True)
    except UsageError:
        raise SettingsError(f'"{text}" is not an amount', where=where, remedy=REMEDY) from None


def _ids(value: str, text: str, where: str) -> tuple[str, ...]:
    """`0-3,7`, or any words in brackets."""
    if value.startswith("["):
        words = tuple(word.strip() for word in value[1:].rstrip("]").split(","))
        if not value.endswith("]") or not all(map(_ID.fullmatch, words)):
            raise SettingsError(f'"{text}" is not a list of ids', where=where, remedy="write NAME=[a,b]")
        if len(words) == 1 and _RANGES.fullmatch(words[0]):
            return _ids(words[0], text, where)
    else:
        if any(_size(part) > MOST_IDS for part in value.split(",")):
            raise SettingsError(f'"{text}" has more than {MOST_IDS} ids', where=where, remedy="write NAME=COUNT")
        words = tuple(map(str, ids_of(value, where)))
    if not words or len(words) > MOST_IDS or len(set(words)) < len(words):
        raise SettingsError(f'"{text}" has no ids, too many, or one twice', where=where, remedy="write NAME=0-3")
    return words


def _size(part: str) -> int:
    begin, dash, end = part.partition("-")
    return int(end) - int(begin) + 1 if dash else 1


def _positive(amount: int, text: str, where: str) -> int:
    if not 0 < amount <= MOST_AMOUNT:
        raise SettingsError(f'"{text}" is no amount that there can be', where=where, remedy=REMEDY)
    return amount
