"""What a node has is found without a look through everything, and is what is there now."""

from __future__ import annotations

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


@pytest.fixture
def table() -> dict[str, Entry]:
    return {key: Entry(key, NodeNo(number % 2)) for number, key in enumerate("abcd")}


@pytest.fixture
def index(table: dict[str, Entry]) -> ByNode[str, Entry]:
    index = ByNode(table, lambda entry: entry.key, lambda entry: entry.node)
    for entry in table.values():
        index.added(entry)
    return index


def keys(entries: list[Entry]) -> str:
    return "".join(entry.key for entry in entries)


def test_each_node_has_its_own(index: ByNode[str, Entry]) -> None:
    assert (keys(index.of(N0)), keys(index.of(N1)), index.of(NodeNo(2))) == ("ac", "bd", [])


def test_what_has_gone_moved_or_been_replaced_does_not_count(
    table: dict[str, Entry], index: ByNode[str, Entry]
) -> None:
    del table["a"]
    table["c"].node = N1
    assert index.of(N0) == []
    table["b"] = Entry("b", N1)  # another one, which nobody has told of
    assert keys(index.of(N1)) == "d"


def test_what_is_added_is_found_once(table: dict[str, Entry], index: ByNode[str, Entry]) -> None:
    entry = table["e"] = Entry("e", N0)
    index.added(entry)
    index.all_added(N0, [("e", entry)])
    assert keys(index.of(N0)) == "ace"


def test_a_node_that_is_forgotten_has_nothing_until_something_is_added(
    table: dict[str, Entry], index: ByNode[str, Entry]
) -> None:
    index.forget(N0)
    assert (keys(index.of(N0)), keys(index.of(N1))) == ("", "bd")
    index.added(table["c"])
    assert keys(index.of(N0)) == "c"


@pytest.mark.parametrize("told", [True, False])
def test_what_is_over_is_not_kept(table: dict[str, Entry], index: ByNode[str, Entry], told: bool) -> None:
    """In a replay of a journal nobody tells what has gone."""
    for number in range(10 * by_node._FEW):
        key = f"e{number}"
        entry = table[key] = Entry(key, N0)
        index.added(entry)
        del table[key]
        if told:
            index.gone(N0, key)
    assert len(index._at[N0]) <= (2 if told else by_node._FEW)
    assert keys(index.of(N0)) == "ac"
