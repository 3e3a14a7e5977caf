"""A burst of agents' reports: read a turn's share at a time, and nobody counts as silent or dead while frames wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from pilotfish.pilot.clock import Patience
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager import inbox
from pilotfish.pilot.manager.agent_processes import AgentProcesses
from pilotfish.pilot.manager.agents import Agents
from pilotfish.pilot.model.ids import GrantId, JobNo, NodeNo
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.records import Record

ENDS = 100
"""In each report."""
REPORTS = 3 * inbox.MOST_PER_TURN // ENDS
NODE_LOST_S = 10.0


class World:
    """Two agents that have said Hello, on the nodes n0 and n1, and the manager's end of the link to them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.bind("inproc://agents")
        self.loop = Loop(lambda: self.now)
        self.patience = Patience(self.loop, 0.25)
        scheduler = Scheduler([NodeSpec(f"n{number}", ("0",)) for number in range(2)])
        records: list[Record] = []
        settings = frames.Settings("/", "/aux", 1.0, 1.0, 60.0, {}, [])
        self.agents = Agents(
            [self.socket], scheduler, settings, "epoch", records.append, lambda: self.now, self.patience
        )
        self.patience.is_behind = lambda: self.agents.inbox.waits_unread
        self.peers = []
        for number in range(2):
            scheduler.nodes[NodeNo(number)].expected.add(f"agent{number}")
            self.peers.append(self.context.socket(zmq.DEALER))
            self.peers[number].setsockopt(zmq.LINGER, 0)
            self.peers[number].connect("inproc://agents")
            self.say(number, frames.Hello(frames.VERSION, f"agent{number}", f"n{number}", "host", 1, [], [], {}, 1, 1))
        self.read()

    def say(self, number: int, message: frames.ToManager) -> None:
        self.peers[number].send(frames.encode([message]))

    def burst(self) -> None:
        """The first agent reports three times as much as a turn takes in."""
        ended = frames.Finished(JobNo(7), 0, 0, GrantId(0), 1, 99.0, 99.5, 0, Cause.EXITED, 0.0, 0, "", False)
        for seq in range(1, REPORTS + 1):
            self.say(0, frames.Report(seq, [], [ended] * ENDS, [], []))

    def read(self) -> None:
        self.agents.inbox.read(self.socket)

    def reports_read(self) -> int:
        link = self.agents.links.get(NodeNo(0))
        return 0 if link is None else link.seen_seq

    def listen(self, seconds: float) -> None:
        """Turns of the loop, in steps of the patience."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            self.loop.turn(lambda: None)

    def close(self) -> None:
        self.loop.close()
        self.context.destroy(linger=0)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    assert len(world.agents.links) == 2
    yield world
    world.close()


def test_a_turn_takes_its_share_of_a_burst_and_the_next_turns_the_rest(world: World) -> None:
    world.burst()
    seen = []
    while world.reports_read() < REPORTS:
        world.read()
        seen.append(world.reports_read())
    share = -(-inbox.MOST_PER_TURN // (ENDS + 1))
    assert seen == [share, 2 * share, 3 * share, REPORTS][: len(seen)]
    assert len(seen) >= 3


def test_nobody_is_silent_while_frames_wait_unread(world: World) -> None:
    """The second agent was heard long ago; what it has said since may be among what waits."""
    world.listen(NODE_LOST_S + 1)
    world.burst()
    world.read()
    assert world.agents.inbox.waits_unread
    assert world.agents.silent_for(NODE_LOST_S) == []
    while world.agents.inbox.waits_unread:
        world.read()
    assert [link.node for link in world.agents.silent_for(NODE_LOST_S)] == [1]


def test_no_patience_is_used_up_while_frames_wait_unread(world: World) -> None:
    """So nothing that waits for agents to speak is due meanwhile."""
    due: list[str] = []
    world.patience.call_after(1.0, lambda: due.append("time is over"))
    world.burst()
    world.read()
    world.listen(5.0)
    assert (world.patience.seconds, due) == (0.0, [])
    while world.agents.inbox.waits_unread:
        world.read()
    world.listen(1.0)
    assert due == ["time is over"]


def test_a_flood_that_never_ends_protects_nobody_for_ever(world: World) -> None:
    """Each agent's frames have had their turn by then."""
    world.burst()
    world.read()
    world.now += inbox.LONGEST_ROUND_S
    assert not world.agents.inbox.waits_unread


def test_a_process_has_ended_only_when_its_last_words_are_read() -> None:
    loop, read = Loop(), [False, False, True]
    told: list[tuple[str, int]] = []
    scheduler = Scheduler([NodeSpec("n0", ("0",))])
    processes = AgentProcesses(
        scheduler.nodes,
        cast(Any, SimpleNamespace(agent_log=lambda name: Path(os.devnull))),
        cast(Any, SimpleNamespace(starter=SimpleNamespace(is_agent=True, starts_again=False), patience_s=60.0)),
        loop,
        Patience(loop, 0.25),
        lambda agents: None,
        lambda node, agent_id, certain: told.append((agent_id, len(read))),
        lambda node: None,
        lambda: read.pop(0),
    )
    assert processes.adopt(NodeNo(0), "agent", os.posix_spawnp("true", ["true"], os.environ), False, 60.0)
    while processes.running:
        loop.turn(lambda: None)
    loop.close()
    assert told == [("agent", 0)], "told once, when nothing was left to be read"
