"""Plays `srun`: one process that is the agents of all nodes. Real sockets and frames, but no task is ever spawned.

A task "runs" for SIMULATED_TASK_S seconds, or until nothing else is due. As a real agent, each of them starts lent tasks by
itself, announces those that have run for 50 ms, gives grants back with the result when it has no more tasks, and reports
what can wait at most every 50 ms.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path

import zmq

from pilotfish.pilot.agent.app import FLUSH_S
from pilotfish.pilot.agent.report_buffer import ReportBuffer
from pilotfish.pilot.model.ids import GrantId, PoolId
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import connection, frames
from pilotfish.pilot.wire.security import unlock_client

ANNOUNCE_S = 0.05
BEAT_S = 2.0
CONNECTING = 32
"""Handshakes under way: on a cluster each node does its own, here they share two cores with the manager."""

Held = tuple[float, frames.TaskStart, GrantId, PoolId]


class Agent:
    """The agent of one node. `due` is when it has to be looked at again, by `time.time()`, and `timer` when it will be."""

    def __init__(self, node: str, agent_id: str, socket: zmq.Socket[bytes], task_s: float) -> None:
        self.node = node
        self.stopped = False
        self._agent_id = agent_id
        self._socket = socket
        self._task_s = task_s
        self._report_buffer = ReportBuffer()
        self._idle: dict[PoolId, list[GrantId]] = {}
        self._waiting: dict[PoolId, deque[frames.TaskStart]] = {}
        self._running: deque[Held] = deque()
        self._unannounced: deque[Held] = deque()
        self._flushed = self._beaten = 0.0
        self.due = self.timer = time.time()

    def hello(self) -> None:
        self._send(frames.Hello(frames.VERSION, self._agent_id, self.node, self.node, os.getpid(), [], [], {}, 1, 1))

    def read(self) -> bool:
        """Take in all frames; whether there were any."""
        found = False
        with suppress(zmq.Again):
            while True:
                for message in frames.decode_to_agent(self._socket.recv(zmq.NOBLOCK)):
                    self._obey(message)
                found = True
        return found

    def _obey(self, message: frames.ToAgent) -> None:
        if isinstance(message, frames.Work):
            for grant in message.grants:
                self._idle.setdefault(grant.pool, []).append(grant.grant_id)
            for pool, tasks in message.tasks.items():
                self._waiting.setdefault(pool, deque()).extend(tasks)
        elif isinstance(message, frames.Ack):
            self._report_buffer.acknowledged(message.seq)
        elif isinstance(message, frames.Revoke):
            asked = set(message.tasks)
            for tasks in self._waiting.values():
                for start in [start for start in tasks if start[:3] in asked]:
                    tasks.remove(start)
                    self._report_buffer.revoked(frames.TaskKey(*start[:3]))
        elif isinstance(message, frames.Stop):
            self.stopped = True
            self._send(frames.Bye("told to stop"))

    def turn(self, now: float) -> None:
        """End what has run long enough, start what can be started, report, and set `due`."""
        while self._running and self._running[0][0] + self._task_s <= now:
            self._end(self._running.popleft())
        for pool, tasks in self._waiting.items():
            idle = self._idle.get(pool, [])
            while tasks and idle:
                self._start(now, tasks.popleft(), idle.pop(), pool)
            for grant_id in idle:
                self._report_buffer.returned(grant_id)
            idle.clear()
        while self._unannounced and self._unannounced[0][0] + ANNOUNCE_S <= now:
            begun, start, grant_id, _ = self._unannounced.popleft()
            self._report_buffer.started(frames.Started(*start[:3], grant_id, 1, begun))
        self._tell(now)

    def _start(self, now: float, start: frames.TaskStart, grant_id: GrantId, pool: PoolId) -> None:
        held = (now, start, grant_id, pool)
        self._running.append(held)
        if self._task_s > ANNOUNCE_S:
            self._unannounced.append(held)

    def _end(self, held: Held) -> None:
        begun, (job_no, pos, run, _, _), grant_id, pool = held
        ended = begun + self._task_s
        waiting = self._waiting.get(pool)
        if waiting:
            self._start(ended, waiting.popleft(), grant_id, pool)
        self._report_buffer.finished(
            frames.Finished(job_no, pos, run, grant_id, 1, begun, ended, 0, Cause.EXITED, 0.001, 2000, "", not waiting)
        )

    def _tell(self, now: float) -> None:
        if not self._report_buffer.empty and (self._report_buffer.urgent or now >= self._flushed + FLUSH_S):
            self._flushed = now
            self._send(self._report_buffer.seal())
        if now >= self._beaten + BEAT_S:
            self._beaten = now
            self._send(frames.Beat())
        self.due = self._beaten + BEAT_S
        if self._running:
            self.due = min(self.due, self._running[0][0] + self._task_s)
        if self._unannounced:
            self.due = min(self.due, self._unannounced[0][0] + ANNOUNCE_S)
        if not self._report_buffer.empty:
            self.due = min(self.due, self._flushed + FLUSH_S)

    def _send(self, message: frames.ToManager) -> None:
        self._socket.send(frames.encode([message]), zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()


class Crowd:
    """All agents, one socket each, and one `epoll` over them."""

    def __init__(self, info: connection.ConnectionFile, task_s: float) -> None:
        self._info = info
        self._task_s = task_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 60_000)
        self._epoll = select.epoll()
        self._agents: dict[int, Agent] = {}
        self._timers: list[tuple[float, int]] = []

    def join(self, node: str, agent_id: str) -> Agent:
        """Connect over TCP as from another host, and say Hello."""
        endpoint, address = connection.agent_ways(self._info)[-1]
        socket = self._context.socket(zmq.DEALER)
        unlock_client(socket, self._info, endpoint)
        socket.setsockopt(zmq.ROUTING_ID, agent_id.encode())
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(address)
        agent = Agent(node, agent_id, socket, self._task_s)
        descriptor = socket.getsockopt(zmq.FD)
        assert isinstance(descriptor, int)
        self._agents[descriptor] = agent
        self._epoll.register(descriptor, select.EPOLLIN)
        heappush(self._timers, (agent.due, descriptor))
        agent.hello()
        return agent

    def run(self, nodes: Sequence[str], token: str) -> None:
        """Until all have been told to stop."""
        to_join = deque(nodes)
        while to_join or not all(agent.stopped for agent in self._agents.values()):
            for _ in range(min(CONNECTING, len(to_join))):
                node = to_join.popleft()
                self.join(node, f"{node}-{token}")
            self.turn()
        for agent in self._agents.values():
            agent.close()
        self._context.term()

    def turn(self) -> None:
        """Wait for a moment at most, and do what is due."""
        now = time.time()
        patience_s = min(max(0.0, self._timers[0][0] - now), 0.05) if self._timers else 0.05
        touched = {descriptor for descriptor, _ in self._epoll.poll(patience_s)}
        now = time.time()
        while self._timers and self._timers[0][0] <= now:
            due, descriptor = heappop(self._timers)
            if due == self._agents[descriptor].timer:  # else it has been set anew since
                touched.add(descriptor)
        for descriptor in touched:
            agent = self._agents[descriptor]
            agent.read()
            agent.turn(now)
            while agent.read():  # the descriptor tells only of changes, and sending uses up such news
                agent.turn(now)
            if agent.timer <= now or agent.due < agent.timer:
                agent.timer = agent.due
                heappush(self._timers, (agent.due, descriptor))


def main() -> None:
    words = sys.argv[1:]
    nodes = next(word.partition("=")[2] for word in words if word.startswith("--nodelist=")).split(",")
    script = words[-1]  # what runs on each node: sh -c SCRIPT
    found = re.search(r"--connect (\S+) .*\$node-(\w+)", script)
    assert found is not None, script
    Crowd(connection.read(Path(found[1])), float(os.environ["SIMULATED_TASK_S"])).run(nodes, found[2])


if __name__ == "__main__":
    main()
