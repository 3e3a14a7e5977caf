"""What of a large table belongs to one node."""

# What a node has is asked when its agent comes or goes: seldom, but then often for many nodes at once, as when a manager is
# resumed, a switch fails or the pilot ends. With 10,000 nodes of 128 cores the tables have a million entries, and one look
# through all of them is a turn of half a second; so each node has a table of its own beside the large one.
#
# That must cost a task next to nothing. So what is here is a superset: an entry that has gone from the large table, or has come
# to another node, is noticed when it is asked for, and whoever removes many tells `gone`. What nobody has told of is let go
# when a node's table has doubled. And attempts that wait in a pool are not here: their pool knows them (Dispatch.attempts_on),
# most tasks are short, and of these nothing but the end is ever heard.
#
# Rejected: an index that is made when the first node is lost in a turn, which is the look through all of them; and to make it
# in slices, as then what follows from a loss has to wait for it.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from .ids import NodeNo

K = TypeVar("K")
V = TypeVar("V")

_FEW = 64
"""So many entries of a node are never looked through for what is over."""


class ByNode(Generic[K, V]):
    """The part of `table` that each node has. Everybody who adds something to the table tells `added`."""

    def __init__(self, table: Mapping[K, V], key_of: Callable[[V], K], node_of: Callable[[V], NodeNo]) -> None:
        self._table = table
        self._key_of = key_of
        self._node_of = node_of
        self._at: dict[NodeNo, dict[K, V]] = {}
        self._most: dict[NodeNo, int] = {}
        """How many entries a node may have before they are looked through; _FEW where nothing is said."""

    def of(self, node: NodeNo) -> list[V]:
        """All that the node has now, in the order in which it came."""
        return [value for key, value in self._at.get(node, {}).items() if self._is_there(node, key, value)]

    def _is_there(self, node: NodeNo, key: K, value: V) -> bool:
        return self._table.get(key) is value and self._node_of(value) == node

    def added(self, value: V) -> None:
        """This has just been put into the table, or has come to another node."""
        node = self._node_of(value)
        at = self._at.get(node)
        if at is None or len(at) >= _FEW:
            self.all_added(node, ((self._key_of(value), value),))
        else:
            at[self._key_of(value)] = value

    def all_added(self, node: NodeNo, entries: Iterable[tuple[K, V]]) -> None:
        """The same of many, all of this node."""
        at = self._at.get(node)
        if at is None:
            at = self._at[node] = {}
        at.update(entries)
        if len(at) > self._most.get(node, _FEW):
            at = self._at[node] = {key: value for key, value in at.items() if self._is_there(node, key, value)}
            self._most[node] = max(_FEW, 2 * len(at))

    def gone(self, node: NodeNo, key: K) -> None:
        """This is no longer in the table."""
        at = self._at.get(node)
        if at:
            at.pop(key, None)

    def all_gone(self, node: NodeNo, keys: Iterable[K]) -> None:
        """`gone` for each of them."""
        at = self._at.get(node)
        if at:
            for key in keys:
                at.pop(key, None)

    def forget(self, node: NodeNo) -> None:
        """It has nothing any more."""
        self._at.pop(node, None)
        self._most.pop(node, None)
