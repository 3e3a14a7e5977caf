"""How pilots run the tasks of a submission; nothing of DPDispatcher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from . import schema
from .schema import DescriptionError
from .written import Written, listed


@dataclass(eq=False, repr=False)
class Pilot(Written):
    """A pilot: all tasks of the submission in one queue, run by one or more allocations.

    Attributes:
        pilots: allocations at the same time; the nodes of the others join the first.
        max_allocations: allocations in all, one after the other, until the work is done.
        bootstrap: install pilotfish on the machine: `auto`, `never` or `always`.
        python: a Python on the machine that has, or may get, pilotfish.
        wheelhouse: folder of wheels here, for machines without a package index.
        options: more options for `pilotfish run`.
        service: no tasks: it serves clients until one of them tells it to finish; `options` are those of `pilotfish service`.
    """

    pilots: int = 1
    max_allocations: int = 10
    bootstrap: str = "auto"
    python: str | None = None
    wheelhouse: str | None = None
    options: list[str] = field(default_factory=list)
    service: bool = False

    def __post_init__(self) -> None:
        self.options = listed(self.options)
        self.check()

    def check(self, where: str = "pilot") -> None:
        """Raises DescriptionError for a key that has no allowed value; `where` is the place of the pilot."""
        schema.check_values(schema.PILOT, vars(self), where)
        if self.bootstrap not in ("auto", "never", "always"):
            what = f"unknown {self.bootstrap!r}"
            raise DescriptionError(what, where=f"{where}.bootstrap", remedy="auto, never or always")

    @classmethod
    def load_from_dict(cls, pilot_dict: Mapping[str, Any], allow_ref: bool = False) -> Pilot:
        """`allow_ref`: `$ref` may name other files. Raises DescriptionError."""
        return cls._load(pilot_dict, allow_ref)

    @classmethod
    def deserialize(cls, pilot_dict: Mapping[str, Any]) -> Pilot:
        """From `serialize`. Raises DescriptionError."""
        return cls._parse(pilot_dict)

    @classmethod
    def _parse(cls, mapping: Any) -> Pilot:
        return cls(**schema.arguments(schema.PILOT, mapping, "pilot"))

    def serialize(self) -> dict[str, Any]:
        """What is not as by default."""
        plain = Pilot()
        names = [each.name for each in fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}
