"""What a node has is found with one look through the table for many nodes, and is what is there now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pilotfish.pilot.model import by_node
from pilotfish.pilot.model.by_node import ByNode
from pilotfish.pilot.model.ids import NodeNo

N0, N1 = NodeNo(0), NodeNo(1)


@dataclass(eq=False)
class Entry:
    key: str
    node: NodeNo


class Table(dict[str, Entry]):
    """Counts how often it is looked through."""

    looks = 0

    def values(self) -> Iterator[Entry]:  # type: ignore[override]
        self.looks += 1
        return iter(list(super().values()))


@pytest.fixture
def table() -> Table:
    return Table({key: Entry(key, NodeNo(number % 2)) for number, key in enumerate("abcd")})


@pytest.fixture
def index(table: Table) -> ByNode[str, Entry]:
    return ByNode(table, lambda entry: entry.key, lambda entry: entry.node)


def keys(entries: list[Entry]) -> str:
    return "".join(entry.key for entry in entries)


def test_one_look_serves_many_nodes(table: Table, index: ByNode[str, Entry]) -> None:
    for _ in range(100):
        assert (keys(index.of(N0)), keys(index.of(N1)), index.of(NodeNo(2))) == ("ac", "bd", [])
    assert table.looks == 1
    index.forget()
    assert keys(index.of(N0)) == "ac"
    assert table.looks == 2


def test_what_has_gone_moved_or_been_replaced_does_not_count(table: Table, index: ByNode[str, Entry]) -> None:
    assert keys(index.of(N0)) == "ac"
    del table["a"]
    table["c"].node = N1
    assert index.of(N0) == []
    table["b"] = Entry("b", N1)  # another one, which nobody has told of
    assert keys(index.of(N1)) == "d"


def test_what_is_added_is_found_once(table: Table, index: ByNode[str, Entry]) -> None:
    assert keys(index.of(N0)) == "ac"
    entry = table["e"] = Entry("e", N0)
    index.added(entry)
    index.added(entry)
    assert keys(index.of(N0)) == "ace"
    assert table.looks == 1


def test_an_index_that_nobody_forgets_does_not_keep_what_is_over(
    table: Table, index: ByNode[str, Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_node, "_MOST_ADDED", 3)
    assert keys(index.of(N0)) == "ac"
    for key in "efgh":
        table[key] = Entry(key, N0)
        index.added(table[key])
    assert keys(index.of(N0)) == "acefgh"
    assert table.looks == 2
