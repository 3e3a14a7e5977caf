"""What of a large table belongs to one node."""

# A table of attempts or grants changes with each task, and what a node has is asked only when its agent comes or goes: seldom,
# but then often for many nodes at once, as when a manager is resumed, a switch fails or the pilot ends. So there is an index
# only from the first question on until `forget`, which is called once in each turn; what is added meanwhile is added to it, and
# what has gone from the table, or to another node, is noticed when it is asked for.
#
# Rejected: to look through the table for each node, which is 10,000 times 600,000 in the worst case. An index that is always
# there: every task would pay for it.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from .ids import NodeNo

K = TypeVar("K")
V = TypeVar("V")

_MOST_ADDED = 10_000
"""In a replay of a journal nobody calls `forget`, and what has long been over must not be kept."""


class ByNode(Generic[K, V]):
    """Looks into `table`, to which everybody who adds something tells `added`."""

    def __init__(self, table: Mapping[K, V], key_of: Callable[[V], K], node_of: Callable[[V], NodeNo]) -> None:
        self._table = table
        self._key_of = key_of
        self._node_of = node_of
        self._index: dict[NodeNo, list[V]] | None = None
        self._added = 0

    def of(self, node: NodeNo) -> list[V]:
        """All that the node has now, in the order in which it came."""
        if self._index is None:
            self._index, self._added = {}, 0
            for value in self._table.values():
                self._index.setdefault(self._node_of(value), []).append(value)
        found = {self._key_of(value): value for value in self._index.get(node, ())}
        return [value for key, value in found.items() if self._table.get(key) is value and self._node_of(value) == node]

    def added(self, value: V) -> None:
        """This has just been put into the table, or has come to another node."""
        if self._index is not None:
            self._index.setdefault(self._node_of(value), []).append(value)
            self._added += 1
            if self._added > _MOST_ADDED:
                self.forget()

    def forget(self) -> None:
        self._index = None
