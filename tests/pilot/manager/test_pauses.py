"""The end of the pilot moves by the time for which all of it was suspended, where that time is nobody's."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pilotfish.pilot.clock import Patience
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager.ending import LAST_WRITES_S, Ending
from pilotfish.pilot.systems.base import Allocation
from pilotfish.pilot.systems.registry import system_of

MARGIN_S, GRACE_S = 60.0, 10.0


class Watch:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class World:
    """A service that consists of its clock, and notes what its end asks of it."""

    def __init__(self, fixed_s: float, moving_s: float) -> None:
        self.watch = Watch()
        self.loop = Loop(self.watch)
        self.now = self.watch
        self.settings = SimpleNamespace(
            end_margin_s=MARGIN_S,
            kill_grace_s=GRACE_S,
            walltime=moving_s - self.watch.seconds,
            idle_timeout=None,
        )
        self.ends: list[float | None] = []
        self.pauses: list[float] = []
        self.status = SimpleNamespace(warn=lambda text: None)
        self.stopped_at: float | None = None
        self.scheduler = SimpleNamespace(
            ends_at=lambda ends_s, margin_s: self.ends.append(ends_s),
            on_pause=self.pauses.append,
            stalled=lambda now: False,
            jobs=SimpleNamespace(unfinished=1),
            unfinished=1,
        )
        # Slurm's end moves with pauses, that of others is fixed; --walltime counts from now on.
        self.allocation = Allocation("sge", (), ends_s=None if fixed_s == math.inf else fixed_s)
        self.patience = Patience(self.loop, 0.5)
        parts: Any = self
        self.ending = Ending(parts, parts)

    def stop(self, code: int) -> None:
        self.stopped_at = self.stopped_at or self.watch.seconds

    def run(self, seconds: float) -> None:
        for _ in range(int(2 * seconds)):
            self.pause(0.5)

    def pause(self, seconds: float) -> None:
        self.watch.seconds += seconds
        self.loop.turn(lambda: None)


def test_a_pause_moves_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    world = World(math.inf, 1000.0)
    world.run(100)
    world.pause(5000.5)
    assert world.ends == [1000.0, 6000.0]
    world.run(1000)
    assert world.stopped_at == pytest.approx(6000.0 - GRACE_S - LAST_WRITES_S, abs=1)


def test_a_pause_in_the_last_minutes_moves_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    world = World(math.inf, 200.0)
    world.run(50)
    assert len(world.ends) == 2, "nothing more is started"
    world.pause(300.5)
    world.run(10)
    assert world.stopped_at is None
    world.run(60)
    assert world.stopped_at == pytest.approx(500.0 - GRACE_S - LAST_WRITES_S, abs=1)


def test_an_end_that_does_not_move_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    world = World(700.0, 1000.0)
    world.run(10)
    world.pause(400.5)
    world.run(200)
    assert world.stopped_at == pytest.approx(700.0 - GRACE_S - LAST_WRITES_S, abs=1)


def test_a_pause_is_told_before_anything_is_judged_by_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers are due in any order after it, and the core is not to take the pause for waiting."""
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    world = World(math.inf, 1000.0)
    seen: list[list[float]] = []

    def tick() -> None:
        world.patience.look()
        seen.append(list(world.pauses))

    world.loop.call_at(world.watch.seconds + 0.1, tick)
    world.pause(60.5)
    assert seen == [[pytest.approx(60.0)]]
    assert world.pauses == seen[0], "it counts once"


def test_work_of_our_own_and_short_gaps_are_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    used = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: used[0])
    world = World(math.inf, 1000.0)
    used[0] = 30.0
    world.pause(30.0)
    world.pause(0.5)
    world.pause(2.0)
    assert world.ends == [1000.0]


@pytest.mark.parametrize(("kind", "moves"), [("slurm", True), ("pbs", True), ("lsf", True), ("sge", False)])
def test_limits_of_some_batch_systems_are_for_running_time(kind: str, moves: bool) -> None:
    assert system_of(kind).end_moves is moves
