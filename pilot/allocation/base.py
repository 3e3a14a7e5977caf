"""What an allocation is: the nodes we were given. One file per batch system finds them out."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.errors import SettingsError
from ..model.resources import NodeSpec


def check_nodes(nodes: Sequence[NodeSpec], where: str) -> list[NodeSpec]:
    """Node names are how agents and tasks are told apart: each must be there once. Raises SettingsError."""
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            raise SettingsError(f'node "{node.name}" is there twice', where=where, remedy="give each node its own name")
        seen.add(node.name)
    return list(nodes)
