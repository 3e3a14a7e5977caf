"""Plays `srun`: one process that is the agents of all nodes. Real sockets and frames, but no task is ever spawned.

A task "runs" for SIMULATED_TASK_S seconds, or until nothing else is due (pretended.py).
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import zmq
from pretended import Crowd, PretendedTasks

from pilotfish.pilot.wire import connection, frames
from pilotfish.pilot.wire.security import unlock_client

BEAT_S = 2.0
CONNECTING = 32
"""Handshakes under way: on a cluster each node does its own, here they share two cores with the manager."""


class Agent:
    """The agent of one node."""

    def __init__(self, node: str, agent_id: str, socket: zmq.Socket[bytes], task_s: float) -> None:
        self.node = node
        self.stopped = False
        self._agent_id = agent_id
        self._socket = socket
        self._tasks = PretendedTasks(task_s, self._send, is_agent=True)
        self._beaten = 0.0
        self.due = self.timer = time.time()

    def hello(self) -> None:
        self._send(frames.Hello(frames.VERSION, self._agent_id, self.node, self.node, os.getpid(), [], [], {}, 1, 1))

    def read(self) -> bool:
        found = False
        with suppress(zmq.Again):
            while True:
                for message in frames.decode_to_agent(self._socket.recv(zmq.NOBLOCK)):
                    self._obey(message)
                found = True
        return found

    def _obey(self, message: frames.ToAgent) -> None:
        if isinstance(message, frames.Ack):
            self._tasks.report_buffer.acknowledged(message.seq)
        elif isinstance(message, frames.Stop):
            self.stopped = True
            self._send(frames.Bye("told to stop"))
        else:
            self._tasks.obey(message)

    def turn(self, now: float) -> None:
        self._tasks.turn(now)
        if now >= self._beaten + BEAT_S:
            self._beaten = now
            self._send(frames.Beat())
        self.due = min(self._tasks.due, self._beaten + BEAT_S)

    def _send(self, message: frames.ToManager) -> None:
        self._socket.send(frames.encode([message]), zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()


class Agents:
    """The agents of all nodes."""

    def __init__(self, info: connection.ConnectionFile, task_s: float) -> None:
        self._info = info
        self._task_s = task_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 60_000)
        self._crowd = Crowd()
        self._agents: list[Agent] = []
        self.turn = self._crowd.turn

    def join(self, node: str, agent_id: str) -> None:
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
        self._agents.append(agent)
        self._crowd.add(descriptor, agent)
        agent.hello()

    def run(self, nodes: Sequence[str], token: str) -> None:
        """Until all have been told to stop."""
        to_join = deque(nodes)
        while to_join or not all(agent.stopped for agent in self._agents):
            for _ in range(min(CONNECTING, len(to_join))):
                node = to_join.popleft()
                self.join(node, f"{node}-{token}")
            self.turn()
        for agent in self._agents:
            agent.close()
        self._context.term()


def main() -> None:
    words = sys.argv[1:]
    nodes = next(word.partition("=")[2] for word in words if word.startswith("--nodelist=")).split(",")
    script = words[-1]  # what runs on each node: sh -c SCRIPT
    found = re.search(r"--connect (\S+) .*\$node-(\w+)", script)
    assert found is not None, script
    Agents(connection.read(Path(found[1])), float(os.environ["SIMULATED_TASK_S"])).run(nodes, found[2])


if __name__ == "__main__":
    main()
