"""A pilot that nobody needs ends by itself: without work, and without a client that asks, for `--idle-timeout`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pilotfish.pilot.clock import Patience
from pilotfish.pilot.exit_codes import ExitCode
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager.ending import Ending
from pilotfish.pilot.systems.base import Allocation

LIMIT_S = 60.0


class World:
    """A service that consists of its clock and of how much work is left, and notes how it was ended."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.loop = Loop(self.now)
        self.settings = SimpleNamespace(end_margin_s=60.0, kill_grace_s=10.0, walltime=None, idle_timeout=LIMIT_S)
        self.scheduler = SimpleNamespace(ends_at=lambda ends_s, margin_s: None, unfinished=0)
        self.store = SimpleNamespace(is_stuck=False)
        self.allocation = Allocation("local", (), ends_s=None)
        self.patience = Patience(self.loop, 0.5)
        self.code: int | None = None
        parts: Any = self
        self.ending = Ending(parts, parts)

    def now(self) -> float:
        return self.seconds

    def stop(self, code: int) -> None:
        self.code = code

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.seconds += 1.0
            self.loop.turn(lambda: None)


def test_it_ends_when_the_time_is_over() -> None:
    world = World()
    world.run(LIMIT_S - 1)
    assert world.code is None
    world.run(2)
    assert world.code == ExitCode.DONE


def test_a_client_that_asks_needs_it() -> None:
    world = World()
    for _ in range(3):
        world.run(LIMIT_S - 1)
        world.ending.needed()
    assert world.code is None
    world.run(LIMIT_S + 1)
    assert world.code == ExitCode.DONE


def test_work_needs_it_and_the_time_counts_from_its_end() -> None:
    world = World()
    world.scheduler.unfinished = 1
    world.run(3 * LIMIT_S)
    world.scheduler.unfinished = 0
    world.run(LIMIT_S - 6)
    assert world.code is None
    world.run(7)
    assert world.code == ExitCode.DONE
