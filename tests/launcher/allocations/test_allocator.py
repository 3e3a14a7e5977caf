"""The allocator on this machine: what it asks for, what becomes of it, and that being killed anywhere changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.allocations.allocator import Allocator, Clocks
from pilotfish.launcher.allocations.batch_jobs import BatchJobs
from pilotfish.launcher.allocations.decide import Decisions, KnownAllocation, Pause, Release, Submit
from pilotfish.launcher.allocations.events import SpecAdded, SpecRemoved
from pilotfish.launcher.allocations.journal import AllocationJournal
from pilotfish.launcher.allocations.spec import AllocationSpec
from pilotfish.launcher.allocations.state import Allocation
from pilotfish.launcher.job import store
from pilotfish.launcher.machines.base import MachineBusyError, QueueFullError
from pilotfish.launcher.machines.shell import Shell
from pilotfish.pilot.wire.demand import VERSION, Demand, NodeUse

MACHINE = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
AGENT = """#!/bin/bash
[ "$3" != --version ] || exec echo pilotfish
echo "$@" >>{wd}/starts
if [ -e {wd}/broken ]; then
  cat {wd}/broken
  exit 3
fi
trap 'exit 143' TERM
until [ -e {wd}/go ]; do read -t 0.02 <> <(:) || :; done
"""
"""In the place of a Python with Pilotfish: an agent that runs until `go` is there, or says what is in `broken` and ends."""


class Killed(BaseException):
    """The allocator is no more."""


@dataclass
class Pilot:
    """A pilot that demands nothing by itself; its nodes are those of the allocations that `joined`."""

    joined: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    ended: bool = False
    trouble: str = ""
    silent_since_s: float | None = None
    info: None = None

    def demand(self) -> Demand | None:
        if self.ended or self.silent_since_s is not None:
            return None
        nodes = [NodeUse(name[:8], "READY", 4, 4, allocation=name) for name in self.joined]
        return Demand(VERSION, 0.0, [], nodes)

    def release(self, allocation: str) -> bool:
        self.released.append(allocation)
        return True


class World:
    """One pilot's folder and a clock that only `step` moves; each `begin` is another allocator."""

    def __init__(self, wd: Path) -> None:
        self.wd, self.aux = wd, wd / "aux"
        self.aux.mkdir()
        (wd / "m.json").write_text(json.dumps(MACHINE))
        agent = wd / "agent"
        agent.write_text(AGENT.format(wd=wd))
        agent.chmod(0o700)
        self.now_s, self.steady_s = 1e9, 0.0
        self.log: list[str] = []
        self.pilot = Pilot()
        self.wanted: list[Decisions] = []
        self.seen: Sequence[KnownAllocation] = ()
        self.journal = AllocationJournal(self.aux / "alloc", lambda: self.now_s)
        self.journal.write(SpecAdded(AllocationSpec("m", str(wd / "m.json"))))
        self.begin()

    def begin(self) -> None:
        self.journal = AllocationJournal(self.aux / "alloc", lambda: self.now_s)
        self.jobs = BatchJobs(self.aux, lambda: self.now_s, python=str(self.wd / "agent"))
        clocks = Clocks(lambda: self.now_s, lambda: self.steady_s)
        self.allocator = Allocator(self.journal, self.jobs, self.pilot, self._decide, clocks, self.log.append)  # type: ignore[arg-type]

    def _decide(self, specs: Any, demand: Any, known: Sequence[KnownAllocation], now_s: float) -> Decisions:
        self.seen = known
        return self.wanted.pop(0) if self.wanted else Decisions()

    def step(self, seconds: float = 0.1, steady_s: float = 20.0) -> bool:
        """A turn in which the batch system is asked, unless `steady_s` is less than that."""
        self.now_s += seconds
        self.steady_s += steady_s
        return self.allocator.turn()

    def ask(self, nodes: int = 1) -> None:
        self.wanted.append(Decisions(submit=(Submit("m", nodes, 3600.0, "something waits"),)))

    @property
    def one(self) -> Allocation:
        """The only one that was asked for."""
        (found,) = self.journal.state.allocations.values()
        return found

    @property
    def starts(self) -> int:
        file = self.wd / "starts"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def until(self, condition: Callable[[], object], wait_until: Callable[..., None]) -> None:
        def met() -> bool:
            self.step()
            return bool(condition())

        wait_until(met, lambda: "\n".join(self.log))

    def until_started(self, wait_until: Callable[..., None], lives: Callable[..., None]) -> None:
        """Until what was asked for runs, or nothing was: whoever should have asked was killed before."""

        def settled() -> bool:
            lives(self.step)
            self.journal.read()
            known = self.journal.state.allocations.values()
            return all(each.started_s is not None or each.over for each in known)

        wait_until(settled, lambda: "\n".join(self.log))


@pytest.fixture
def world(wd: Path) -> Iterator[World]:
    made = World(wd)
    yield made
    (wd / "go").touch()
    made.begin()
    made.journal.read()
    for each in made.journal.state.living:
        made.jobs.cancel(AllocationSpec("m", str(wd / "m.json")), each.id)
    made.jobs.close()


def test_an_allocation_is_asked_for_joins_is_released_and_ends(world: World, wait_until: Callable[..., None]) -> None:
    """Each step is written down with its reason, and nothing is left at the end."""
    world.ask()
    world.step()
    world.until(lambda: world.one.started_s is not None, wait_until)
    world.pilot.joined.append(world.one.id)
    world.step()
    assert (world.one.node and world.one.node.cores, world.seen[0].state.value) == (4, "running")
    world.wanted.append(Decisions(release=(Release(world.one.id, "nothing waits for it"),)))
    world.step()
    assert (world.pilot.released[0], world.seen[0].releasing) == (world.one.id, False)
    (world.wd / "go").touch()
    world.until(lambda: world.one.over, wait_until)
    assert (world.one.end, world.one.failed, world.starts) == ("nothing waits for it", False, 1)
    assert list(store.all_records()) == []
    assert "--allocation " + world.one.id in (world.wd / "starts").read_text()
    assert [line.split(": ", 1)[1] for line in world.log if world.one.id[:10] in line] == [
        "asks for 1 node for 1h: something waits",
        f"waits as batch job {world.one.job_id}",
        "runs",
        "its first agent has joined, with 4 cores",
        "released: nothing waits for it",
        "over: nothing waits for it",
    ]


def test_one_that_ends_before_an_agent_has_joined_is_of_no_use_and_tells_its_last_words(
    world: World, wait_until: Callable[..., None]
) -> None:
    (world.wd / "broken").write_text("no way to the manager\n")
    world.ask()
    world.step()
    world.until(lambda: world.one.over, wait_until)
    assert (world.one.failed, world.one.lines) == (True, "no way to the manager")
    assert world.one.end == "ended before any agent had joined: program, exit code 3"
    world.step()
    assert (world.seen[0].failed, world.seen[0].state.value) == (True, "ended")
    assert world.seen[0].ended_reason == f"{world.one.end}: no way to the manager"
    world.wanted.append(Decisions(pause=(Pause("m", "three in a row"),)))
    world.step()
    paused = world.journal.state.specs["m"]
    assert (paused.spec.paused, paused.why_paused) == (True, "three in a row")


def test_one_that_has_no_agent_for_long_is_cancelled(world: World, wait_until: Callable[..., None]) -> None:
    """Unless the pilot is silent: then nobody can know whether it has one."""
    world.ask()
    world.step()
    world.until(lambda: world.one.started_s is not None, wait_until)
    world.pilot.silent_since_s = world.steady_s
    world.step(150.0)
    assert not world.one.leaving
    world.pilot.silent_since_s = None
    world.until(lambda: world.one.over, wait_until)
    assert (world.one.end, world.one.failed) == ("no agent has joined in 120 s", True)


def test_what_waits_or_runs_goes_with_its_spec(world: World, wait_until: Callable[..., None]) -> None:
    """Where agents have joined they are asked to leave; otherwise, and with `kill`, the job is cancelled."""
    world.ask()
    world.step()
    world.until(lambda: world.one.started_s is not None, wait_until)
    world.pilot.joined.append(world.one.id)
    world.step()
    world.journal.write(SpecRemoved("m"))
    world.step()
    assert (world.one.leaving, world.pilot.released[:1]) == ("release", [world.one.id])
    world.journal.write(SpecRemoved("m", kill=True))
    world.until(lambda: world.one.over, wait_until)
    assert (world.one.leaving, world.journal.state.specs, world.step()) == ("cancel", {}, False)


def test_the_end_of_the_pilot_ends_what_was_asked_for(world: World, wait_until: Callable[..., None]) -> None:
    """What runs has a while to end by itself."""
    world.ask()
    world.step()
    world.until(lambda: world.one.started_s is not None, wait_until)
    world.pilot.ended = True
    assert world.step()
    assert not world.one.leaving
    world.step(steady_s=31.0)
    world.until(lambda: world.one.over, wait_until)
    assert (world.one.end, world.one.failed) == ("the pilot has ended", False)
    assert not world.step()


def test_a_manager_that_was_killed_is_waited_for_and_nothing_is_asked_for_meanwhile(
    world: World, wait_until: Callable[..., None]
) -> None:
    world.ask()
    world.step()
    world.until(lambda: world.one.started_s is not None, wait_until)
    world.pilot.silent_since_s, world.pilot.trouble = world.steady_s, "its manager was killed"
    world.ask()
    world.step(steady_s=500.0)
    assert (len(world.journal.state.allocations), world.one.leaving) == (1, "")
    world.step(steady_s=101.0)
    world.step(steady_s=31.0)
    world.until(lambda: world.one.over, wait_until)
    assert world.one.end == "the pilot has been gone too long: its manager was killed"


def test_a_full_queue_is_no_failure_and_is_asked_again_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*ignored: object) -> str:
        raise QueueFullError("job limit reached", where="sbatch")

    monkeypatch.setattr(Shell, "submit", full)
    world.ask()
    world.step()
    assert (world.one.end, world.one.failed) == ("not taken: sbatch: job limit reached", False)
    world.ask()
    world.step(steady_s=1.0)
    assert len(world.journal.state.allocations) == 1
    assert world.journal.state.specs["m"].quiet == "the batch system takes no more now: sbatch: job limit reached"
    monkeypatch.undo()
    world.ask()
    world.step(steady_s=60.0)
    assert [each.job_id != "" for each in world.journal.state.allocations.values()] == [False, True]


def test_a_batch_system_that_does_not_answer_is_asked_for_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    """It has taken the job, but did not say so, and does not answer for a while."""
    submit, query = Shell.submit, Shell.query

    def silent(*args: Any) -> Any:
        raise MachineBusyError("the controller is away", where="sbatch")

    def submits(*args: Any) -> Any:
        submit(*args)
        silent()

    monkeypatch.setattr(Shell, "submit", submits)
    monkeypatch.setattr(Shell, "query", silent)
    world.ask()
    world.step()
    world.step()
    assert world.seen[0].state.value in ("unknown", "waiting")
    assert not world.one.over
    monkeypatch.setattr(Shell, "query", query)
    world.until(lambda: world.one.started_s is not None, wait_until)
    wait_until(lambda: world.starts == 1, "the start")
    assert len(world.journal.state.allocations) == 1


@pytest.mark.parametrize("moment", range(22))
def test_killed_anywhere_nothing_is_lost_doubled_or_left_behind(
    world: World, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None], moment: int
) -> None:
    """Before and after each write to its journal, to the record, and each word to the batch system; the next one goes on."""
    count = [0]

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            _die_at(moment, count)
            found = function(*args, **more)
            _die_at(moment, count)
            return found

        return wrapped

    monkeypatch.setattr(AllocationJournal, "write", killing(AllocationJournal.write))
    for name in ("create", "change"):
        monkeypatch.setattr(store, name, killing(getattr(store, name)))
    for name in ("submit", "cancel"):
        monkeypatch.setattr(Shell, name, killing(getattr(Shell, name)))
    world.ask()

    def lives(action: Callable[[], object]) -> None:
        try:
            action()
        except Killed:
            world.begin()

    lives(world.step)
    world.until_started(wait_until, lives)
    asked = len(world.journal.state.allocations)
    assert asked <= 1
    lives(lambda: world.journal.write(SpecRemoved("m")))
    lives(world.step)
    world.journal.read()
    if world.journal.state.specs and not world.journal.state.specs["m"].removed:
        world.journal.write(SpecRemoved("m"))

    def over() -> bool:
        lives(world.step)
        world.journal.read()
        return not world.journal.state.living

    wait_until(over, lambda: "\n".join(world.log))
    assert count[0] > moment
    assert world.starts <= asked
    assert not _agents(world.wd)


def _die_at(moment: int, count: list[int]) -> None:
    count[0] += 1
    if count[0] == moment + 1:
        raise Killed


def _agents(wd: Path) -> list[str]:
    """Agents that run."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0") if entry.isdigit() else []
        except OSError:
            continue
        if str(wd / "agent").encode() in words[:2]:
            found.append(entry)
    return found
