"""What turns make is looked through while it is little, and never what lives long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pilotfish.pilot.manager import garbage
from pilotfish.pilot.manager.garbage import Garbage


class Cycle:
    """Only a collection lets go of it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that are collected, by our own garbage collection alone."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.collect()
    gc.disable()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.enable()


def alive() -> int:
    return sum(isinstance(each, Cycle) for each in gc.get_objects())


def test_nothing_is_looked_through_within_a_turn(collections: list[int]) -> None:
    Garbage.begin()
    collections.clear()
    kept = [Cycle() for _ in range(100_000)]
    assert collections == []
    Garbage().end_of_turn()
    assert collections == [0]
    assert len(kept) == 100_000
    gc.unfreeze()


def test_turns_that_let_go_as_much_as_they_make_are_looked_through_as_well(collections: list[int]) -> None:
    """Python counts the difference only, so what is young would become very much."""
    ours = Garbage()
    for _ in range(3 * garbage._TURNS):
        Cycle()
        ours.end_of_turn()
    assert collections == [0, 0, 0]
    assert alive() == 0


def test_what_has_outlived_some_collections_is_looked_through_a_last_time(collections: list[int]) -> None:
    ours, kept = Garbage(), Cycle()
    for _ in range((garbage._ROUNDS - 1) * garbage._TURNS):
        ours.end_of_turn()
    assert kept.itself is kept
    del kept
    assert alive() == 1
    for _ in range(garbage._TURNS):
        ours.end_of_turn()
    assert collections == [0, 0, 0, 0, 1]
    assert alive() == 0


def test_when_much_has_outlived_a_collection_the_last_look_does_not_wait_for_more(collections: list[int]) -> None:
    """Each turn starts tasks that run for long: what they leave is looked through while it is little."""
    ours, kept = Garbage(), []
    for _ in range(7):
        kept += [Cycle() for _ in range(garbage._MANY)]
        ours.end_of_turn()
    assert collections == [0, 1, 0, 1, 0, 1, 0]
    assert len(kept) == 7 * garbage._MANY
