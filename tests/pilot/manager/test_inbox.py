"""A burst of agents' reports: read a turn's share at a time, and nobody counts as silent or dead while frames wait.

The same holds for one frame that tells more than a turn has time for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq
from patience import PATIENCE_MS

from pilotfish.pilot.clock import Patience
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager import inbox
from pilotfish.pilot.manager.agent_processes import AgentProcesses
from pilotfish.pilot.manager.agents import Agents
from pilotfish.pilot.model.ids import GrantId, JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.ends import ends_of, together
from pilotfish.pilot.wire.records import Record

ENDS = 100
"""In each report."""
REPORTS = 3 * inbox.MOST_PER_TURN // ENDS
NODE_LOST_S = 10.0
FIRST_PID = 100


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
        scheduler = self.scheduler = Scheduler([NodeSpec(f"n{number}", ("0",)) for number in range(2)])
        records: list[Record] = []
        settings = frames.Settings("/", "/aux", 1.0, 1.0, 60.0, {}, [])
        self.agents = Agents(
            [self.socket],
            scheduler,
            settings,
            "epoch",
            records.append,
            lambda: self.now,
            self.patience,
            lambda values: None,
            lambda job: [],
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

    def say(self, number: int, *messages: frames.ToManager) -> None:
        self.peers[number].send(frames.encode(messages))

    def hello(self, number: int, first_seq: int) -> frames.Hello:
        """Again: it holds nothing, and the reports from `first_seq` on were not acknowledged."""
        return frames.Hello(frames.VERSION, f"agent{number}", f"n{number}", "host", 1, [], [], {}, first_seq, number=2)

    def send_tasks(self, count: int) -> list[TaskKey]:
        """So many have been sent to the first agent."""
        spec = JobSpec("many", Execution(exec="true"), iteration=Iteration(0, count))
        (job,) = self.scheduler.submit([spec], self.now)
        keys = [TaskKey(job.no, pos, 1) for pos in range(count)]
        for key in keys:
            self.scheduler.recovery.replay_sent(NodeNo(0), key, self.now)
        return keys

    def ended(self) -> int:
        """How many tasks have."""
        return self.scheduler.jobs.tasks_in[State.SUCCEED]

    def acknowledged(self) -> list[int]:
        """The reports of the first agent that are acknowledged, after all has been written and synced."""
        self.agents.links.mark_written()
        self.agents.links.mark_syncing()
        self.agents.links.acknowledge()
        self.agents.links.tell()
        acks = []
        while self.peers[0].poll(0):
            acks += [m.seq for m in frames.decode_to_agent(self.peers[0].recv()) if isinstance(m, frames.Ack)]
        return acks

    def burst(self) -> None:
        """The first agent reports three times as much as a turn takes in."""
        ended = frames.Finished(JobNo(7), 0, 0, GrantId(0), 1, 99.0, 99.5, 0, Cause.EXITED, 0.0, 0, "", False)
        for seq in range(1, REPORTS + 1):
            self.say(0, frames.Report(seq, [], [ended] * ENDS, [], []))

    def read(self) -> None:
        """A turn of its own."""
        self.agents.inbox.end_of_turn()
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


def in_columns(seq: int, keys: list[TaskKey]) -> frames.Report:
    """As `report_of`, as an agent that has many ends tells of them."""
    columns, others = together(report_of(seq, keys).finished)
    assert others == []
    return frames.Report(seq, [], [], [], [], columns)


def report_of(seq: int, keys: list[TaskKey]) -> frames.Report:
    """The good end of each."""
    ends = [
        frames.Finished(*key, GrantId(0), FIRST_PID + key.pos, 99.0, 99.5, 0, Cause.EXITED, 0.0, 0, "", False)
        for key in keys
    ]
    return frames.Report(seq, [], ends, [], [])


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


def test_a_turn_has_one_share_however_many_processes_have_ended_in_it(world: World) -> None:
    """Each asks whether the last words of its agents have been read; as many starters may fail at once as there are nodes."""
    keys = world.send_tasks(2 * inbox.MOST_PER_TURN)
    ends = [frames.Finished(*key, GrantId(0), 1, 99.0, 99.5, 0, Cause.EXITED, 0.0, 0, "", False) for key in keys]
    for number, first in enumerate(range(0, len(ends), ENDS), 1):
        world.say(0, frames.Report(number, [], ends[first : first + ENDS], [], []))
        all_read = world.agents.inbox.all_read()
    assert not all_read
    assert world.ended() <= inbox.MOST_PER_TURN


def test_in_shares_a_grant_goes_back_after_the_other_ends_of_it_too() -> None:
    """What is known of a grant tells where a task has run."""
    count = inbox.MOST_PER_TURN
    last = count - 1

    def end(pos: int, code: int) -> frames.Finished:
        grant = GrantId(pos % 3)
        returns = pos > last - 3
        return frames.Finished(JobNo(1), pos, 1, grant, 5, 99.0, 99.5, code, Cause.EXITED, 0.0, 0, "", returns)

    ends = [end(pos, 0 if pos % 2 or pos > last - 3 else 1) for pos in range(count)]
    succeeded, finished = together(ends)
    whole = frames.Report(1, [], finished, [], [], succeeded)
    in_shares = [each for share in inbox.shares_of(whole) for each in ends_of(share)]
    assert in_shares == list(ends_of(whole))
    assert [each.returns_grant for each in in_shares] == [False] * (count - 3) + [True] * 3


@pytest.mark.parametrize("report", [report_of, in_columns])
def test_a_report_of_more_than_a_turn_has_time_for_is_taken_in_shares_and_acknowledged_as_a_whole(
    world: World, report: Callable[[int, list[TaskKey]], frames.Report]
) -> None:
    """What is acknowledged the agent forgets, so all of it must be in the journal by then."""
    count = 3 * inbox.MOST_PER_TURN
    world.say(0, report(1, world.send_tasks(count)), frames.Beat())
    before = turns = 0
    while world.ended() < count:
        assert world.acknowledged() == []
        world.read()
        assert 0 < world.ended() - before <= inbox.MOST_PER_TURN
        before, turns = world.ended(), turns + 1
        assert world.agents.inbox.waits_unread == (turns < 3) or world.ended() == count
    assert turns == 3
    world.read()
    assert world.acknowledged() == [1]
    assert not world.agents.inbox.begun


def test_what_a_lost_agent_had_is_work_of_the_turn_that_hears_of_it(world: World) -> None:
    """Each of its tasks goes back to the queue: of 100 agents that are killed at once a turn takes only some."""
    world.send_tasks(inbox.MOST_PER_TURN)
    world.say(0, frames.Gone("agent0"))
    world.say(0, frames.Beat())
    world.read()
    assert world.scheduler.jobs.tasks_in[State.QUEUED] == inbox.MOST_PER_TURN
    assert world.agents.inbox.waits_unread
    world.read()
    assert not world.agents.inbox.waits_unread


def test_what_a_failed_sync_was_to_promise_is_promised_by_the_next(world: World) -> None:
    world.say(0, frames.Report(1, [], [], [], []))
    world.read()
    world.agents.links.mark_written()
    world.agents.links.mark_syncing()
    assert world.acknowledged() == [1]
    assert world.acknowledged() == []


def test_what_an_agent_had_said_before_it_was_lost_is_all_that_counts(world: World) -> None:
    """The tasks of the rest are given to others by then."""
    count = 3 * inbox.MOST_PER_TURN
    world.say(0, report_of(1, world.send_tasks(count)))
    world.read()
    ended = world.ended()
    world.agents.lost(NodeNo(0), "its process ended")
    while world.agents.inbox.waits_unread:
        world.read()
    assert (world.ended(), world.scheduler.jobs.tasks_in[State.QUEUED]) == (ended, count - ended)


def test_work_that_an_agent_is_given_while_its_kept_reports_are_taken_in_stays_with_it(world: World) -> None:
    """Its Hello tells what it had; of that, what it has not spoken of by the end of the frame never reached it."""
    count = 2 * inbox.MOST_PER_TURN
    *kept, lost = world.send_tasks(count + 1)
    world.say(0, world.hello(0, 1), report_of(1, kept))
    world.read()
    assert 0 < world.ended() < count
    new = TaskKey(world.scheduler.submit([JobSpec("new", Execution(exec="true"))], world.now)[0].no, 0, 1)
    world.scheduler.recovery.replay_sent(NodeNo(0), new, world.now)
    while world.agents.inbox.waits_unread:
        world.read()
    assert world.ended() == count
    attempts = world.scheduler.dispatch.attempts
    assert (lost in attempts, new in attempts) == (False, True)


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
        cast(Any, SimpleNamespace(launcher=SimpleNamespace(is_agent=True, starts_again=False), patience_s=60.0)),
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


def test_agents_are_told_that_we_live_a_share_of_them_a_turn(world: World) -> None:
    """With 10,000 of them to tell all would be a long turn."""
    links = world.agents.links
    while world.peers[0].poll(0):
        world.peers[0].recv()
    links.beat()
    assert links.tell(1)
    assert world.peers[0].poll(PATIENCE_MS)
    assert frames.decode_to_agent(world.peers[0].recv()) == [frames.Ack(0)]
    assert not links.tell(1)
    assert not links.tell(1)
    assert not world.peers[0].poll(0)
    links.beat()
    world.agents.lost(NodeNo(1), "its process ended")
    assert not links.tell(2), "one of the two is gone"
