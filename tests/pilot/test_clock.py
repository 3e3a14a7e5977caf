"""Patience counts the time in which a loop has listened, Uptime that in which the process could run at all."""

from __future__ import annotations

import pytest

from pilotfish.pilot.clock import STEP_S, Patience, Uptime
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
        self.uptime = Uptime(self.loop)
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


# --- uptime -------------------------------------------------------------------------------------------------------------


def test_a_limit_is_reached_at_its_time(world: World) -> None:
    world.uptime.call_after(1.1, lambda: world.called.append("over"))
    for _ in range(4):
        world.turn(STEP_S)
    assert world.called == []
    world.turn(0.1)
    assert world.called == ["over"]


def test_a_pause_of_the_whole_process_is_nobodys_time(world: World) -> None:
    """Whatever it is: of the gap between two looks at the clock two steps count."""
    world.uptime.call_after(10.0, lambda: world.called.append("over"))
    world.turn(STEP_S)
    world.turn(3600.0)
    assert world.called == []
    for _ in range(36):
        world.turn(STEP_S)
    assert world.called == []
    world.turn(STEP_S)
    assert world.called == ["over"]


def test_time_in_which_nobody_waited_does_not_shorten_a_limit(world: World) -> None:
    world.turn(3600.0)
    world.uptime.call_after(0.2, lambda: world.called.append("over"))
    world.turn(0.1)
    assert world.called == []
    world.turn(0.1)
    assert world.called == ["over"]


def test_limits_are_reached_in_order_and_those_that_were_taken_back_are_not(world: World) -> None:
    world.uptime.call_after(0.3, lambda: world.called.append("second"))
    world.uptime.call_after(0.1, lambda: world.called.append("first"))
    world.uptime.call_after(0.2, lambda: world.called.append("never")).cancel()
    for _ in range(5):
        world.turn(0.1)
    assert world.called == ["first", "second"]


def test_a_loop_with_no_limit_to_watch_is_not_woken() -> None:
    loop = Loop(Watch())
    timer = Uptime(loop).call_after(0.2, lambda: None)
    timer.cancel()
    loop.clock.seconds += 1  # type: ignore[attr-defined]
    loop.turn(lambda: None)
    assert not loop._timers
