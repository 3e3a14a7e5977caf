"""What a description has to know of batch systems: what they are called, and which keys of `kwargs` each has.

The facts stand with the rest of what is known of a batch system, in its file in `machines/`, which a description must
not import. So the package hands them in when it is put together (`launcher/__init__.py`). Nothing is loaded before it is
asked for.
"""

from __future__ import annotations

from typing import Protocol

from .schema import KeysOfSystem


class BatchSystems(Protocol):
    def names(self) -> tuple[str, ...]:
        """All, in the order in which people are shown them; the first is what is taken where nobody says."""
        ...

    def aliases(self) -> dict[str, str]:
        """Other names -> the name."""
        ...

    def keys(self, name: str) -> KeysOfSystem:
        """The keys of `resources.kwargs` of this one."""
        ...


_handed_in: list[BatchSystems] = []


def hand_in(systems: BatchSystems) -> None:
    _handed_in[:] = [systems]


def known() -> BatchSystems:
    return _handed_in[0]
