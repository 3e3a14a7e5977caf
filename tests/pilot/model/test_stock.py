"""What is free of one resource: parts of a GPU add up exactly, and nothing is given out twice."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from world import wants

from pilotfish.pilot.model.job_spec import Want
from pilotfish.pilot.model.resources import PARTS, NamedResource, Taken
from pilotfish.pilot.model.stock import Stock

SLOTS = 3


def stock_of(count: int) -> Stock:
    return Stock(NamedResource("gpu", tuple(map(str, range(count)))))


def part(amount: str) -> Want:
    return wants(gpu=Fraction(amount))[0]


def take(stock: Stock, want: Want) -> Taken:
    taken = stock.choose(want)
    stock.take(taken)
    return taken


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 100, 1000, 10_000])
def test_as_many_equal_parts_make_the_whole(count: int) -> None:
    """Ten tenths are one, as are three thirds; then nothing is left, and given back it is wholly free."""
    stock = stock_of(1)
    given = [take(stock, part(f"1/{count}")) for _ in range(count)]
    assert not stock.fits(part(f"1/{count}"))
    for taken in given:
        stock.give_back(taken)
    assert stock.has_all


def test_parts_are_taken_of_the_slot_with_least_left() -> None:
    """So others stay whole for who wants the whole of one."""
    stock = stock_of(2)
    slots = [take(stock, part(amount)).slots for amount in ("1/2", "1/4", "3/4", "1/4")]
    assert slots == [0b01, 0b01, 0b10, 0b01]


def test_a_shared_slot_is_not_given_as_a_whole() -> None:
    stock = stock_of(2)
    first = take(stock, part("1/4"))
    assert not stock.fits(Want("gpu", 2))
    assert stock.choose(Want("gpu", 1)) == Taken("gpu", 0, 0b10)
    stock.give_back(first)
    assert stock.choose(Want("gpu", 2)) == Taken("gpu", 0, 0b11)


class StockMachine(RuleBasedStateMachine):
    """Whole ones and parts come and go; what is given out is counted beside it, in fractions."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = stock_of(SLOTS)
        self.given: list[Taken] = []

    @rule(want=st.sampled_from([Want("gpu", 1), Want("gpu", 2), *map(part, ("1/4", "1/3", "0.1", "2/3", "3/4"))]))
    def take(self, want: Want) -> None:
        if self.stock.fits(want):
            taken = self.stock.choose(want)
            assert self.stock.is_free(taken)
            self.stock.take(taken)
            self.given.append(taken)
        else:
            used = self._used()
            need = Fraction(want.parts, PARTS)
            assert all(used[slot] + need > 1 for slot in used) if need else self._free_slots() < want.amount

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.stock.give_back(self.given.pop(data.draw(st.integers(0, len(self.given) - 1))))

    def _used(self) -> dict[int, Fraction]:
        used = dict.fromkeys(range(SLOTS), Fraction(0))
        for taken in self.given:
            for slot in used:
                if taken.slots >> slot & 1:
                    used[slot] += Fraction(taken.parts or PARTS, PARTS)
        return used

    def _free_slots(self) -> int:
        return sum(not amount for amount in self._used().values())

    @invariant()
    def what_is_free_is_what_is_not_given(self) -> None:
        used = self._used()
        assert all(amount <= 1 for amount in used.values())
        assert self.stock.free == self._free_slots()
        left = {slot: Fraction(parts, PARTS) for slot, parts in self.stock.left.items()}
        assert left == {slot: 1 - amount for slot, amount in used.items() if amount and slot in left}
        assert all(amount == 1 for slot, amount in used.items() if amount and slot not in left)


StockMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStock = StockMachine.TestCase
