"""Plays `srun`: a few processes that are the agents of all nodes. Real sockets and frames, but no task is ever spawned.

A task "runs" for SIMULATED_TASK_S seconds, or until nothing else is due (pretended.py). When the file SIMULATED_LOSS is there,
every hundredth node is lost at once: its agent falls silent, and what watches over it says that it was killed.
"""

from __future__ import annotations

import math
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

CONNECTING = 32
"""Handshakes under way: on a cluster each node does its own, here they share two cores with the manager."""
MOST_NODES = 2_500
"""Of one process: each has two descriptors."""
EACH_LOST, LOOK_S = 100, 0.2


class Agent:
    """The agent of one node."""

    def __init__(self, node: str, agent_id: str, socket: zmq.Socket[bytes], task_s: float) -> None:
        self.node = node
        self.stopped = False
        self._agent_id = agent_id
        self._socket = socket
        self._tasks = PretendedTasks(task_s, self._send, is_agent=True)
        self._beaten, self._beat_s = 0.0, 2.0
        self.due = self.timer = time.time()

    def hello(self) -> None:
        self._send(frames.Hello(frames.VERSION, self._agent_id, self.node, self.node, os.getpid(), [], [], {}, 1, 1))

    def read(self) -> bool:
        found = False
        with suppress(zmq.Again):
            while True:
                frame = self._socket.recv(zmq.NOBLOCK)
                for message in () if self.stopped else frames.decode_to_agent(frame):
                    self._obey(message)
                found = True
        return found

    def _obey(self, message: frames.ToAgent) -> None:
        if isinstance(message, frames.Ack):
            self._tasks.report_buffer.acknowledged(message.seq)
        elif isinstance(message, frames.Welcome):
            self._beat_s = message.settings.heartbeat_s
        elif isinstance(message, frames.Stop):
            self.stopped = True
            self._send(frames.Bye("told to stop"))
        else:
            self._tasks.obey(message)

    def turn(self, now: float) -> None:
        if self.stopped:
            self.due = math.inf
            return
        self._tasks.turn(now)
        if now >= self._beaten + self._beat_s:
            self._beaten = now
            self._send(frames.Beat())
        self.due = min(self._tasks.due, self._beaten + self._beat_s)

    def _send(self, message: frames.ToManager) -> None:
        self._socket.send(frames.encode([message]), zmq.NOBLOCK)

    def die(self) -> None:
        """Its watcher says so. Nothing more is heard of it; the socket stays, because the crowd has its descriptor."""
        self._send(frames.Gone(self._agent_id))
        self.stopped = True
        self.due = math.inf

    def close(self) -> None:
        self._socket.close()


class Agents:
    """The agents of some nodes."""

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
        loss, looked = os.environ.get("SIMULATED_LOSS", ""), 0.0
        while to_join or not all(agent.stopped for agent in self._agents):
            for _ in range(min(CONNECTING, len(to_join))):
                node = to_join.popleft()
                self.join(node, f"{node}-{token}")
            self.turn()
            if loss and time.time() >= looked + LOOK_S:
                looked = time.time()
                if os.path.exists(loss):
                    loss = ""
                    for agent in self._agents[::EACH_LOST]:
                        agent.die()
        for agent in self._agents:
            agent.close()
        self._context.term()


def main() -> None:
    words = sys.argv[1:]
    nodes = next(word.partition("=")[2] for word in words if word.startswith("--nodelist=")).split(",")
    script = words[-1]  # what runs on each node: sh -c SCRIPT
    found = re.search(r"--connect (\S+) .*\$node-(\w+)", script)
    assert found is not None, script
    info, task_s = connection.read(Path(found[1])), float(os.environ["SIMULATED_TASK_S"])
    parts = [nodes[first : first + MOST_NODES] for first in range(0, len(nodes), MOST_NODES)]
    for part in parts[1:]:
        if os.fork() == 0:
            parts = [part]
            break
    Agents(info, task_s).run(parts[0], found[2])
    with suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main()
