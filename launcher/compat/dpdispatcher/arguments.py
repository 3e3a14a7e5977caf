"""What DPDispatcher's `arginfo()` gives: the keys of a description as text, checked, or with their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...description import schema
from ...description.schema import Key


@dataclass(frozen=True)
class Arguments:
    """The keys of one kind of description. Stands alone: it cannot be put into a tree of `dargs` arguments.

    Attributes:
        name: of the description, e.g. `machine`.
        keys: its keys, in the order in which they are written.
        normal: makes a complete description of one that is not, or raises DescriptionError.
    """

    name: str
    keys: Sequence[Key]
    normal: Callable[[Mapping[str, Any]], dict[str, Any]]

    def gen_doc(self) -> str:
        """A paragraph for each key: its kind, its default, what it means."""
        return "\n".join([f"{self.name}:", *(_paragraph(key) for key in self.keys)]) + "\n"

    def normalize_value(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The description with all defaults, aliases replaced. Raises DescriptionError."""
        return self.normal(value)

    def check_value(self, value: Mapping[str, Any], strict: bool = True) -> None:
        """Raises DescriptionError, also for unknown keys when not `strict`: they are errors everywhere here."""
        self.normal(value)


def _paragraph(key: Key) -> str:
    default = "required" if key.default is schema.REQUIRED else f"default {key.default!r}"
    aliases = f", also {', '.join(key.aliases)}" if key.aliases else ""
    return f"    {key.name}: {key.kind.replace('|', ' or ')}, {default}{aliases}\n        {key.meaning}"
