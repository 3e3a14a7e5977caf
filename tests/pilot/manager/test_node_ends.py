"""Nodes whose own allocation ends, or is released, before the pilot ends; without processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

from world import World, node

from pilotfish.pilot.manager.node_ends import NodeEnds
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.states import NodeState
from pilotfish.pilot.wire import frames


class Watched:
    """A pilot with joined nodes, and what its manager would do when: `timers` are (in how many seconds, what)."""

    def __init__(self, *ends_in_s: float | None) -> None:
        self.world = World()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.sent: list[tuple[int, frames.ToAgent]] = []
        now_s = self.world.now
        for number, in_s in enumerate(ends_in_s):
            spec = node(f"n{number}", 1, joined=True)
            ends_s = None if in_s is None else now_s + in_s
            self.world.join(replace(spec, allocation=f"a{number}", ends_s=ends_s))
        parts: Any = SimpleNamespace(
            scheduler=self.world.scheduler,
            settings=SimpleNamespace(end_margin_s=60.0, kill_grace_s=10.0),
            now=lambda: self.world.now,
            loop=SimpleNamespace(call_after=lambda seconds, act: self.timers.append((seconds, act))),
        )
        agents: Any = SimpleNamespace(
            links=SimpleNamespace(
                get=lambda number: number,
                send=lambda link, messages: self.sent.extend((link, each) for each in messages),
            )
        )
        self.agents = agents
        self.ends = NodeEnds(parts, agents)

    def state(self, number: int) -> NodeState:
        return self.world.scheduler.nodes[NodeNo(number)].state


def test_a_node_that_the_journal_knows_drains_at_the_margin_and_is_stopped_before_its_end() -> None:
    watched = Watched(1000)
    watched.ends.watch_all()
    assert watched.world.scheduler.nodes.times[NodeNo(0)] == watched.world.now + 940
    (drains_s, drain), (stops_s, stop) = watched.timers
    assert (drains_s, stops_s) == (940, 985)
    drain()
    assert watched.state(0) is NodeState.DRAINING
    stop()
    assert watched.sent == [(0, frames.Drain()), (0, frames.Stop(kill=True))]


def test_a_short_allocation_keeps_a_tenth_of_its_time_for_its_end() -> None:
    watched = Watched(50)
    watched.ends.watch_all()
    assert [seconds for seconds, _ in watched.timers] == [45, 45]


def test_a_node_without_an_end_of_its_own_stays_as_long_as_the_pilot() -> None:
    watched = Watched(None)
    watched.ends.watch_all()
    assert (watched.timers, watched.world.scheduler.nodes.times[NodeNo(0)]) == ([], None)


def test_a_release_drains_the_nodes_of_that_allocation_and_those_that_say_hello_later() -> None:
    watched = Watched(None, None)
    assert watched.ends.release("a1") == 1
    assert [watched.state(number) for number in (0, 1)] == [NodeState.READY, NodeState.DRAINING]
    watched.sent.clear()
    for number in (0, 1):
        watched.agents.on_hello(NodeNo(number))
    assert watched.sent == [(1, frames.Drain())]


def test_an_agent_that_comes_back_after_the_end_is_told_to_leave() -> None:
    """It had been cut off, and its node was to drain meanwhile."""
    watched = Watched(1000)
    watched.ends.watch_all()
    watched.world.now += 941
    watched.agents.on_hello(NodeNo(0))
    assert watched.sent == [(0, frames.Drain())]
