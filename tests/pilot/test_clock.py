"""Patience counts the time in which a loop has listened, not the time in which it was stopped or busy."""

from __future__ import annotations

import pytest

from pilotfish.pilot.clock import Patience
from pilotfish.pilot.loop import Loop


class Watch:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class World:
    """A loop whose turns take no time."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.loop = Loop(self.watch)
        self.patience = Patience(self.loop, 0.5)
        self.called: list[str] = []

    def turn(self, after_s: float) -> None:
        """One turn of the loop, begun so long after the last one."""
        self.watch.seconds += after_s
        self.loop.call_after(0, lambda: None)  # so that it does not wait
        self.loop.turn(lambda: None)


@pytest.fixture
def world() -> World:
    return World()


def test_listening_counts(world: World) -> None:
    for _ in range(8):
        world.turn(0.5)
    assert world.patience.seconds == pytest.approx(4.0)


def test_of_a_long_gap_one_step_counts(world: World) -> None:
    world.turn(3600.0)
    assert world.patience.seconds == pytest.approx(0.5)


def test_what_is_due_after_a_gap_has_to_wait_for_more_turns(world: World) -> None:
    world.patience.call_after(2.0, lambda: world.called.append("judged"))
    world.turn(3600.0)
    for _ in range(2):
        world.turn(0.5)
    assert world.called == []
    world.turn(0.5)
    assert world.called == ["judged"]
    world.turn(3600.0)
    assert world.called == ["judged"]


def test_calls_come_in_the_order_of_their_times(world: World) -> None:
    world.patience.call_after(1.0, lambda: world.called.append("second"))
    world.patience.call_after(0.5, lambda: world.called.append("first"))
    world.patience.call_after(1.0, lambda: world.called.append("third"))
    for _ in range(3):
        world.turn(0.5)
    assert world.called == ["first", "second", "third"]
