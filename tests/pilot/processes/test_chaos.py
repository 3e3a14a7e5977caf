"""Managers are killed, early and late, anything is stopped for longer than it may be silent, the clock is set: seeded rounds.

No agent dies in these rounds. So whatever happens: each acknowledged job is there, each task has been run exactly once, and
has succeeded. PILOTFISH_TEST_CHAOS=20 does 20 rounds instead of a few; PILOTFISH_TEST_CHAOS=20:7 those from seed 7 on.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from real_pilot import Pilot, Work, can_fake_clock, faked_clock

NODE_LOST_S = 1.2
OPTIONS = ("--nodes", "2,3", "--node-lost", str(NODE_LOST_S), "--kill-grace", "1", "--debug-checks", "--id", "p")
FAULTS = 5


def _seeds() -> Sequence[int]:
    count, _, first = os.environ.get("PILOTFISH_TEST_CHAOS", "2").partition(":")
    return range(int(first or 1), int(first or 1) + int(count))


class Round:
    """One pilot, the faults that befall it, and the work it has accepted."""

    def __init__(self, wd: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.work = Work(wd)
        self.accepted: dict[str, int] = {}
        """Jobs that were acknowledged, with how many tasks each has."""
        self.told: list[str] = []
        self.clock: Path | None
        self.clock, environ = faked_clock(wd) if can_fake_clock() else (None, None)
        self.pilot = Pilot(wd, *OPTIONS, environ=environ, ready=self.rng.random() < 0.5)
        if not (self.pilot.aux / "connection.json").exists():
            self._resume_when_there_is_something()

    def pause(self, least_s: float, most_s: float) -> None:
        """Faults come at random moments; nothing is waited for here."""
        time.sleep(self.rng.uniform(least_s, most_s))

    def submit(self) -> None:
        rng, number = self.rng, len(self.accepted)
        sizes = {f"short{number}": (rng.randrange(20, 60), 0.02), f"long{number}": (rng.randrange(1, 4), 1.5)}
        if rng.random() < 0.6:
            sizes[f"spread{number}"] = (rng.randrange(1, 3), 0.7)
        jobs = []
        for name, (count, seconds) in sizes.items():
            need: dict[str, Any] = {"numNodes": {"exact": 2}} if name.startswith("spread") else {}
            job = self.work.job(name, count, seconds=seconds, numCores={"exact": 1}, **need)
            jobs.append(job)
        client = self.pilot.client()
        client.send_request({"request": "submit", "jobs": jobs})
        client.cleanup()
        self.accepted |= {name: count for name, (count, _) in sizes.items()}

    def befall(self) -> None:
        """One fault."""
        faults = [self.kill, self.kill_early, self.stop, self.stop, self.stop_and_kill]
        if self.clock is not None:
            faults.append(self.set_clock)
        fault = self.rng.choice(faults)
        self.told.append(fault.__name__)
        fault()

    def kill(self) -> None:
        self.pilot.kill()
        self.pause(0, 0.3)
        self.pilot.resume()

    def kill_early(self) -> None:
        """Again and again, before the manager is ready or its agents have reported."""
        self.pilot.kill()
        for _ in range(self.rng.randrange(1, 4)):
            self.pilot.resume(is_awaited=self.rng.random() < 0.5)
            self.pause(0, 0.6)
            self.pilot.kill()
        self.pilot.resume()

    def _resume_when_there_is_something(self) -> None:
        """The first manager is killed at a random moment: before it has a journal there is nothing to be resumed."""
        deadline = time.monotonic() + 60
        while not (self.pilot.aux / "connection.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.pause(0, 0.1)
        self.pilot.kill()
        self.pilot.resume()

    def stop(self) -> None:
        """Some processes for some time: the manager, agents, worker processes, any of them."""
        stopped = self._some_processes()
        self._signal(stopped, signal.SIGSTOP)
        self.pause(NODE_LOST_S, 2 * NODE_LOST_S)
        self.rng.shuffle(stopped)
        self._signal(stopped, signal.SIGCONT)

    def stop_and_kill(self) -> None:
        """The manager is killed and resumed while some of the others are stopped."""
        stopped = [each for each in self._some_processes() if each.pid != self.pilot.process.pid]
        self._signal(stopped, signal.SIGSTOP)
        self.kill()
        self.pause(NODE_LOST_S, 1.5 * NODE_LOST_S)
        self._signal(stopped, signal.SIGCONT)

    def _some_processes(self) -> list[psutil.Process]:
        agents = self.pilot.agents()
        everybody = [psutil.Process(self.pilot.process.pid), *agents]
        for agent in agents:
            everybody += agent.children()
        return self.rng.sample(everybody, self.rng.randrange(1, len(everybody) + 1))

    @staticmethod
    def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
        for each in processes:
            each.send_signal(number)

    def set_clock(self) -> None:
        assert self.clock is not None
        self.clock.write_text(self.rng.choice(["+3600", "-3600", "+20", "-20", "+0"]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", _seeds())
def test_everything_is_run_once(wd: Path, seed: int) -> None:
    chaos = Round(wd, seed)
    chaos.submit()
    for number in range(FAULTS):
        chaos.pause(0, 0.7)
        if number % 2:
            chaos.submit()
        chaos.befall()
    client = chaos.pilot.client()
    states = client.wait4(list(chaos.accepted), 200)
    client.cleanup()
    assert chaos.pilot.finish() == 0
    names = [f"{name}:{index}" for name, count in chaos.accepted.items() for index in range(count)]
    log = (chaos.pilot.aux / "service.log").read_text().splitlines()
    story = "\n".join([f"seed {seed}: {chaos.told}", *(line for line in log if "agent." in line or "service " in line)])
    assert states == dict.fromkeys(chaos.accepted, "SUCCEED"), story
    assert chaos.work.starts == Counter(names), story
    assert chaos.work.ends == Counter(names), story
    assert chaos.pilot.endings() == Counter([*names, *chaos.accepted]), story
