"""What an agent says costs that agent at most: its manager goes on, others keep their work, and the journal can be resumed."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from pilotfish.api.jobs import Jobs
from pilotfish.api.local import LocalManager
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId, TaskKey
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import connection, frames

Wait = Callable[..., None]
HELD = "while [ ! -e go ]; do sleep 0.05; done"
PATIENCE_MS = 60_000


class Hostile:
    """The other end of the agents' endpoint, with the right keys and frames. It joins as a node of its own, tagged `evil`."""

    def __init__(self, pilot: LocalManager, context: zmq.Context[zmq.Socket[bytes]], number: int) -> None:
        self.node = f"evil{number}"
        self.heard: list[Any] = []
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, PATIENCE_MS)
        self._socket.setsockopt(zmq.ROUTING_ID, f"{self.node}-id".encode())
        self._socket.connect(connection.read(pilot.connection_file).agent_addresses["ipc"])

    def hello(self, **other: Any) -> frames.Hello:
        spec = NodeSpec(self.node, ("0", "1"), ("0",), 1 << 30, tags=("evil",), joined=True)
        values = {"grants": [], "running": [], "waiting": {}, "next_seq": 1, "number": 1, "joins": spec, **other}
        return frames.Hello(frames.VERSION, f"{self.node}-id", self.node, "elsewhere", 77, **values)

    def grant(self, number: int = 900, cores: tuple[str, ...] = ("0",), **other: Any) -> frames.NewGrant:
        values = {"nodes": [frames.NodeShare(self.node, list(cores), [])], "bind": False, "mem_bytes": 0, **other}
        return frames.NewGrant(GrantId(number), PoolId(number + 1), **values)

    def send(self, *messages: Any) -> None:
        self._socket.send(frames.encode(list(messages)))

    def send_raw(self, frame: bytes) -> None:
        self._socket.send(frame)

    def until(self, kind: type) -> Any:
        """Read until such a message has come."""
        while not any(isinstance(message, kind) for message in self.heard):
            assert self._socket.poll(PATIENCE_MS), f"{self.node} waited in vain for {kind.__name__}"
            self.heard += frames.decode_to_agent(self._socket.recv())
        return next(message for message in self.heard if isinstance(message, kind))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.term()


@pytest.fixture
def pilot(wd: Path, wait_until: Wait) -> Iterator[LocalManager]:
    """A pilot that checks itself after every turn, with two tasks that run on its own node, and many for nodes tagged evil."""
    options = ["--wd", str(wd), "--nodes", "own:2", "--tags", "good", "--debug-checks", "--crash-limit", "1000"]
    options += ["--kill-grace", "0.1"]
    with LocalManager(options, {"log_file": "/dev/null"}) as started:
        jobs = Jobs().add_std(
            name="held",
            execution={"script": HELD},
            iteration={"stop": 2},
            resources={"numCores": 1, "tags": ["good"]},
        )
        jobs.add_std(
            name="bait",
            execution={"exec": "/bin/true"},
            iteration={"stop": 2000},
            resources={"numCores": 1, "tags": ["evil"]},
        )
        with TaggedNode(started):
            started.submit(jobs)
        wait_until(lambda: held(started) == ["EXECUTING", "EXECUTING"], "the tasks on the other node run", 60)
        yield started
        if started.exit_code is None:
            (wd / "go").touch()
            started.cancel("bait")


class TaggedNode:
    """While there is a node with the tag, jobs that ask for it are accepted."""

    def __init__(self, pilot: LocalManager) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._hostile = Hostile(pilot, self._context, 0)

    def __enter__(self) -> None:
        self._hostile.send(self._hostile.hello())
        self._hostile.until(frames.Welcome)

    def __exit__(self, *_: object) -> None:
        self._hostile.send(frames.Bye("over"))
        self._hostile.close()
        self._context.term()


def finished(key: TaskKey, grant: int = 1, **other: Any) -> frames.Finished:
    now = time.time()
    found = frames.Finished(*key, GrantId(grant), 77, now, now, 0, Cause.EXITED, 0.1, 10, "", True)
    return found._replace(**other)


def report(seq: int = 1, **other: Any) -> frames.Report:
    return frames.Report(seq, **{"started": [], "finished": [], "revoked": [], "returned": [], **other})


def columns(*keys: TaskKey, grant: int = 1, **other: Any) -> frames.Succeeded:
    """Ends of attempts of one job, in columns."""
    now, count = time.time(), len(keys)
    values = [key.pos for key in keys], [GrantId(grant)] * count, [77] * count
    times = [now] * count, [now] * count
    return frames.Succeeded(keys[0].job_no, keys[0].run, False, *values, *times, [0.1] * count, [10] * count)._replace(
        **other
    )


HELD_KEYS = [TaskKey(JobNo(1), pos, 1) for pos in range(2)]

Attack = Callable[[Hostile], list[Any]]

AT_HELLO: dict[str, Attack] = {
    "a grant of no node": lambda evil: [evil.hello(grants=[evil.grant(nodes=[])])],
    "of a node nobody knows": lambda evil: [evil.hello(grants=[evil.grant(nodes=[frames.NodeShare("x", ["0"], [])])])],
    "of the other's node": lambda evil: [evil.hello(grants=[evil.grant(nodes=[frames.NodeShare("own", ["0"], [])])])],
    "of the other's node too": lambda evil: [
        evil.hello(grants=[evil.grant(nodes=[frames.NodeShare(n, ["0", "1"], []) for n in (evil.node, "own")])])
    ],
    "of a core that is not there": lambda evil: [evil.hello(grants=[evil.grant(cores=("7",))])],
    "of a core twice": lambda evil: [evil.hello(grants=[evil.grant(cores=("0", "0"))])],
    "two of one core": lambda evil: [evil.hello(grants=[evil.grant(900), evil.grant(901)])],
    "one twice": lambda evil: [evil.hello(grants=[evil.grant(900), evil.grant(900, ("1",))])],
    "of a GPU that is not there": lambda evil: [
        evil.hello(grants=[evil.grant(nodes=[frames.NodeShare(evil.node, ["0"], ["9"])])])
    ],
    "of too much memory": lambda evil: [evil.hello(grants=[evil.grant(mem_bytes=2**62)])],
    "of less than no memory": lambda evil: [evil.hello(grants=[evil.grant(mem_bytes=-1)])],
    "with the last number there is": lambda evil: [evil.hello(grants=[evil.grant(2**63 - 2)])],
    "the other's": lambda evil: [evil.hello(grants=[evil.grant(number) for number in range(2, 9)])],
    "the other's tasks as running": lambda evil: [
        evil.hello(running=[frames.Started(*key, GrantId(1), 77, time.time()) for key in HELD_KEYS])
    ],
    "the other's tasks as waiting": lambda evil: [evil.hello(waiting={PoolId(5): HELD_KEYS, PoolId(2): HELD_KEYS})],
    "two pools for one shape": lambda evil: [
        evil.hello(
            grants=[evil.grant(900), evil.grant(902, ("1",))],
            waiting={PoolId(901): HELD_KEYS, PoolId(903): HELD_KEYS},
        ),
        frames.Bye("over"),
    ],
    "a node without cores": lambda evil: [evil.hello(joins=NodeSpec(evil.node, (), joined=True))],
    "a core twice": lambda evil: [evil.hello(joins=NodeSpec(evil.node, ("0", "0"), joined=True))],
    "a node with another name": lambda evil: [evil.hello(joins=NodeSpec("../own", ("0",), joined=True))],
    "a node for ever": lambda evil: [evil.hello(joins=NodeSpec(evil.node, ("0",)))],
    "memory below nothing": lambda evil: [evil.hello(joins=NodeSpec(evil.node, ("0",), (), -5, joined=True))],
    "cores that are no numbers": lambda evil: [evil.hello(joins=NodeSpec(evil.node, ("x",), bind=True, joined=True))],
    "the next number that cannot be": lambda evil: [evil.hello(next_seq=2**63)],
    "processors that cannot be": lambda evil: [evil.hello(slots=[["x", "y"]], sockets=[[1], [2]])],
}

LATER: dict[str, Attack] = {
    "ends of the other's tasks": lambda evil: [report(finished=[finished(key) for key in HELD_KEYS])],
    "ends of the other's tasks in columns": lambda evil: [report(succeeded=[columns(*HELD_KEYS, grant=2)])],
    "the other's grants back in columns": lambda evil: [
        report(succeeded=[columns(*HELD_KEYS, grant_ids=[GrantId(2), GrantId(3)], returns_grants=True)])
    ],
    "with grants of nobody in columns": lambda evil: [report(succeeded=[columns(*HELD_KEYS, grant=2**62)])],
    "columns of no such job": lambda evil: [report(succeeded=[columns(TaskKey(JobNo(2**63), 2**63, 2**63))])],
    "columns with nothing in them": lambda evil: [
        report(succeeded=[frames.Succeeded(JobNo(2), 1, False, *([] for _ in range(7)))])
    ],
    "with the other's grants": lambda evil: [report(finished=[finished(HELD_KEYS[0], n) for n in range(9)])],
    "the other's grants back": lambda evil: [report(returned=[GrantId(number) for number in range(9)])],
    "the other's tasks back": lambda evil: [report(revoked=HELD_KEYS)],
    "starts of the other's tasks": lambda evil: [
        report(started=[frames.Started(*key, GrantId(1), 1, 5.0) for key in HELD_KEYS])
    ],
    "a report that comes never": lambda evil: [report(2**63)],
    "no such tasks": lambda evil: [report(revoked=[TaskKey(JobNo(2**63), -1, 2**63)], returned=[GrantId(2**63)])],
}

ODD_ENDS: dict[str, dict[str, Any]] = {
    "at no time": {"ended_s": math.nan},
    "never": {"ended_s": math.inf},
    "in the year 10^292": {"ended_s": 1e300},
    "before all time": {"ended_s": -1e300},
    "started at no time": {"started_s": math.nan},
    "started at time zero": {"started_s": 0.0},
    "with a large exit code": {"exit_code": 2**62},
    "with a small exit code": {"exit_code": -(2**62)},
    "of a large process": {"pid": 2**62},
    "of no process": {"pid": -1},
    "lost": {"cause": Cause.LOST},
    "after less than no computing": {"cpu_s": -1.0},
    "after endless computing": {"cpu_s": math.inf},
    "with too much memory": {"max_rss_kib": 2**64 - 1},
}


ODD_COLUMNS: dict[str, dict[str, Any]] = {
    "twice": {"pos": lambda pos: pos * 2, **{name: lambda it: it * 2 for name in frames.Succeeded._fields[4:]}},
    "with one grant back twice": {
        "returns_grants": lambda it: True,
        "pos": lambda pos: [*pos, 1999],
        **{name: lambda it: it * 2 for name in frames.Succeeded._fields[4:]},
    },
    "a place short": {"pids": lambda pids: []},
    "a place long": {"cpu_s": lambda cpu_s: cpu_s * 2},
    "at no time": {"ended_s": lambda it: [math.nan]},
    "of no process": {"pids": lambda it: [-1]},
    "of process 0": {"pids": lambda it: [0]},
    "after endless computing": {"cpu_s": lambda it: [math.inf]},
}


def bait_of(evil: Hostile) -> tuple[TaskKey, int]:
    """A task that was sent there, and the grant for it."""
    work = evil.until(frames.Work)
    grant = work.grants[0]
    start = work.tasks[grant.pool][0]
    return TaskKey(start.job_no, start.pos, start.run), grant.grant_id


def held(pilot: LocalManager) -> list[str]:
    """States of the tasks on the other node."""
    return [child["state"] for child in pilot.info("held", withChilds=True)["jobs"]["held"]["data"]["childs"]]


def check_held(pilot: LocalManager, attack: str) -> None:
    """The tasks of the other node still run, where and as they did."""
    log = (pilot.connection_file.parent / "service.log").read_text()
    assert "Traceback" not in log, attack
    assert "agent.trouble" not in log, attack
    assert held(pilot) == ["EXECUTING", "EXECUTING"], attack


def survives(pilot: LocalManager, wd: Path, wait_until: Wait) -> None:
    """Killed, the pilot can be resumed, and the work of the other node comes to its one end."""
    aux = pilot.connection_file.parent
    os.kill(pilot_pid(pilot), signal.SIGKILL)
    with LocalManager(["--resume", str(aux), "--nodes", "own:2", "--tags", "good"], {"log_file": "/dev/null"}) as again:
        wait_until(lambda: held(again) == ["EXECUTING"] * 2, "the agent of the other node is back", 60)
        (wd / "go").touch()
        again.wait4("held")
        childs = again.info("held", withChilds=True)["jobs"]["held"]["data"]["childs"]
        assert [(child["state"], child["runtime"]["attempts"]) for child in childs] == [("SUCCEED", "1")] * 2
        again.cancel("bait")


def pilot_pid(pilot: LocalManager) -> int:
    return connection.read(pilot.connection_file).pid


def test_one_agents_garbage_costs_that_agent(
    pilot: LocalManager, wd: Path, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait
) -> None:
    number = 0
    for attack, said in AT_HELLO.items():
        number += 1
        evil = Hostile(pilot, context, number)
        evil.send(*said(evil))
        evil.send(frames.Bye("over"))
        evil.close()
        check_held(pilot, attack)
    for attack, said in LATER.items():
        number += 1
        evil = Hostile(pilot, context, number)
        evil.send(evil.hello())
        evil.until(frames.Work)
        evil.send(*said(evil))
        evil.send(frames.Bye("over"))
        evil.close()
        check_held(pilot, attack)
    for attack, odd in ODD_ENDS.items():
        number += 1
        evil = Hostile(pilot, context, number)
        evil.send(evil.hello())
        key, grant = bait_of(evil)
        evil.send(report(finished=[finished(key, grant, **odd)]))
        assert evil.until(frames.Stop).reason.startswith("it does not speak as an agent"), attack
        evil.close()
        check_held(pilot, attack)
    for attack, changes in ODD_COLUMNS.items():
        number += 1
        evil = Hostile(pilot, context, number)
        evil.send(evil.hello())
        key, grant = bait_of(evil)
        good = columns(key, grant=grant)
        odd = {name: change(getattr(good, name)) for name, change in changes.items()}
        evil.send(report(succeeded=[good._replace(**odd)]))
        assert evil.until(frames.Stop).reason.startswith("it does not speak as an agent"), attack
        evil.close()
        check_held(pilot, attack)
    survives(pilot, wd, wait_until)


def test_an_agent_of_the_pilots_own_that_sends_garbage_is_replaced(
    pilot: LocalManager, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait
) -> None:
    """Its tasks start again with its successor."""
    log = pilot.connection_file.parent / "service.log"
    agent_id = log.read_text().partition("node=own agent=")[2].split()[0]
    impostor = context.socket(zmq.DEALER)
    impostor.setsockopt(zmq.LINGER, PATIENCE_MS)
    impostor.setsockopt(zmq.ROUTING_ID, agent_id.encode())
    impostor.connect(connection.read(pilot.connection_file).agent_addresses["ipc"])
    impostor.send(b"garbage")
    wait_until(lambda: "agent.garbage" in log.read_text(), "the garbage was heard", 60)
    impostor.close()
    wait_until(lambda: log.read_text().count("agent.ready node=own") == 2, "another agent is there", 60)
    wait_until(lambda: held(pilot) == ["EXECUTING", "EXECUTING"], "the tasks run again", 60)


def test_what_an_honest_agent_of_that_kind_says_counts(
    pilot: LocalManager, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait
) -> None:
    """The gate is not shut to everybody: the same words with values that can be."""
    evil = Hostile(pilot, context, 1)
    evil.send(evil.hello())
    key, grant = bait_of(evil)
    evil.send(report(finished=[finished(key, grant, exit_code=3, message="x" * 100_000)]))
    name = f"bait:{key.pos}"
    wait_until(lambda: pilot.status(name)["jobs"][name]["data"]["status"] == "FAILED", "the end is known", 60)
    assert len(pilot.info(name)["jobs"][name]["data"]["messages"]) < 10_000
    evil.send(frames.Bye("over"))
    evil.close()


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    900,
    2**31,
    2**53,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    math.nan,
    math.inf,
    1e300,
]
ODD += ["", "own", "0", "ü" * 300, [], [0], {}, b"\xff", "Hello", "Report"]


def mutated(value: Any, chance: random.Random) -> Any:
    """The value with one thing in it changed."""
    if isinstance(value, (list, tuple)) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        choice = chance.random()
        if choice < 0.05:
            return [*value[:place], *value[place + 1 :]]
        if choice < 0.1:
            return [*value, value[place]]
        return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        return {**value, name: mutated(value[name], chance)}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**60 and chance.random() < 0.6:
        return value + chance.choice((-1, 1))
    return chance.choice(ODD)


def changed(messages: list[Any], chance: random.Random) -> bytes:
    """A frame with those messages, a few things in it changed: mostly still such a frame, sometimes none at all."""
    value = msgspec.msgpack.decode(frames.encode(messages), strict=False)
    for _ in range(chance.randint(1, 3)):
        value = mutated(value, chance)
    frame = bytearray(msgspec.msgpack.encode(value))
    if chance.random() < 0.1 and frame:
        frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
    return bytes(frame)


@pytest.mark.parametrize("seed", [1, 2])
def test_changed_frames_neither_end_the_manager_nor_reach_others_nor_spoil_the_journal(
    pilot: LocalManager, wd: Path, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait, seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(1, 101):
        evil = Hostile(pilot, context, number)
        key, grant = HELD_KEYS[0], 1
        if chance.random() < 0.6:
            evil.send(evil.hello())
            key, grant = bait_of(evil)
        started = frames.Started(*key, GrantId(grant), 77, time.time())
        held = evil.hello(grants=[evil.grant(grant)], running=[started], waiting={PoolId(901): [key]}, number=2)
        for _ in range(5):
            said: list[Any] = chance.choice(
                [
                    [held],
                    [held, report(2, finished=[finished(key, grant)])],
                    [report(finished=[finished(key, grant)], started=[started])],
                    [report(succeeded=[columns(key, key._replace(pos=key.pos + 1), grant=grant)])],
                    [report(succeeded=[columns(key, grant=grant, returns_grants=True)])],
                    [report(revoked=[key], returned=[GrantId(grant)]), frames.Beat(), frames.Draining()],
                ]
            )
            evil.send_raw(changed(said, chance))
        evil.send(frames.Bye("over"))
        evil.close()
    check_held(pilot, f"seed {seed}")
    survives(pilot, wd, wait_until)


def test_ends_that_come_in_columns_count(
    pilot: LocalManager, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait
) -> None:
    """Each by itself: of those that were not sent to this agent nothing is believed."""
    evil = Hostile(pilot, context, 1)
    evil.send(evil.hello())
    key, grant = bait_of(evil)
    work = evil.until(frames.Work)
    keys = [TaskKey(*start[:3]) for starts in work.tasks.values() for start in frames.each(starts)]
    not_sent = key._replace(pos=1999)
    evil.send(report(succeeded=[columns(not_sent, *keys, grant=grant)]))

    def state(pos: int) -> str:
        name = f"bait:{pos}"
        return str(pilot.status(name)["jobs"][name]["data"]["status"])

    wait_until(lambda: {state(key.pos) for key in keys} == {"SUCCEED"}, "the ends are known", 60)
    assert len(keys) == 2
    assert state(not_sent.pos) == "QUEUED"
    evil.send(frames.Bye("over"))
    evil.close()


def test_what_a_dismissed_agent_runs_is_given_to_others_only_when_it_has_said_goodbye(
    pilot: LocalManager, context: zmq.Context[zmq.Socket[bytes]], wait_until: Wait
) -> None:
    """It was told to end, and until it has its task may still run."""
    evil = Hostile(pilot, context, 1)
    evil.send(evil.hello())
    key, grant = bait_of(evil)
    name = f"bait:{key.pos}"

    def state() -> str:
        return str(pilot.status(name)["jobs"][name]["data"]["status"])

    evil.send(report(started=[frames.Started(*key, GrantId(grant), 77, time.time())]))
    wait_until(lambda: state() == "EXECUTING", "its start is known", 60)
    evil.send_raw(b"garbage")
    evil.until(frames.Stop)
    assert state() == "EXECUTING"
    evil.send(frames.Bye("over"))
    wait_until(lambda: state() == "QUEUED", "it waits for another agent", 60)
    evil.close()
