"""Large tables behave as dictionaries do, and none of their parts becomes large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model import large
from pilotfish.pilot.model.large import ByName, ByNumber

changes = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200)


@pytest.fixture(autouse=True)
def soon_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_SMALL", 10)
    monkeypatch.setattr(large, "_IN_CHUNK_BITS", 2)


@given(changes)
def test_by_name_is_a_dictionary(changes: list[tuple[bool, int]]) -> None:
    model: dict[str, int] = {}
    table: ByName[int] = ByName()
    for place, (is_set, number) in enumerate(changes):
        name = str(number)
        if is_set:
            model[name] = table[name] = place
        elif name in model:
            del model[name], table[name]
        assert (table.get(name), name in table, len(table)) == (model.get(name), name in model, len(model))
    assert {name: table[name] for name in table} == model
    for name in map(str, range(41)):
        if name not in model:
            with pytest.raises(KeyError):
                table[name]


@given(changes)
def test_by_number_is_a_dictionary_in_ascending_order(changes: list[tuple[bool, int]]) -> None:
    model: dict[int, int] = {}
    table: ByNumber[int] = ByNumber()
    for place, (is_set, number) in enumerate(changes):
        if is_set:
            model[number] = table[number] = place
        elif number in model:
            del model[number]
            del table[number]
        assert (table.get(number), number in table, len(table)) == (model.get(number), number in model, len(model))
    assert list(table) == sorted(model)


def test_no_part_becomes_large() -> None:
    """One dictionary of 700,000 entries takes a tenth of a second to become larger."""
    names: ByName[None] = ByName()
    numbers: ByNumber[None] = ByNumber()
    for number in range(20_000):
        names[f"job{number}"] = None
        numbers[number] = None
    assert max(map(len, names._parts)) < 200
    assert max(map(len, numbers._chunks.values())) == 4
    for number in range(20_000):
        del numbers[number]
    assert not numbers._chunks
