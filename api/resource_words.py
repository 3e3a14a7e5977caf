"""Resources of tasks as options say them: `--gpus 1/4`, `--need licence=1`."""

from __future__ import annotations

from collections.abc import Iterable

from ..pilot.model.errors import UsageError
from ..pilot.model.resources import is_resource_name


def amount_of(text: str) -> int | str:
    """A whole number, or part of one as it is written: 0.25, 1/3. The pilot says what makes no sense."""
    return int(text) if text.isascii() and text.isdecimal() else text


def needs_of(words: Iterable[str], where: str = "--need") -> dict[str, str]:
    """Amounts by name. Raises UsageError."""
    found = {}
    for word in words:
        name, equals, amount = (part.strip() for part in word.partition("="))
        if not equals or not amount or not is_resource_name(name.lower()):
            remedy = "write NAME=AMOUNT, as licence=1, scratch=10G or nvme=1/4"
            raise UsageError(f"{word!r} is not how much of a named resource", where=where, remedy=remedy)
        found[name.lower()] = amount
    return found
