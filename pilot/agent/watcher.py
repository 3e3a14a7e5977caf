"""Telling the manager at once that an agent on another host was killed.

A manager sees the end of an agent that is a process of its own host. Elsewhere it sees only what has started the agent: one
`srun` for a thousand of them says nothing of one, and an `ssh` that ends may only have lost its connection. So there the
agent has a watcher: a process that was forked before all others, holds the reading end of a pipe, and sleeps. When the pipe
is at its end without a word, the agent is gone. Then the watcher becomes a program that kills what the agent has left behind
and tells the manager (`tell`), which can start its tasks anew without waiting for the silence to be long enough.

The workers cannot do that: they die with the agent, or tasks could be started that nobody knows of. A shell around the agent
was tried as a thought: it would stand between the batch system's signals and the agent. When the whole node dies, or the
watcher is killed too, the silence counts as before.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import zmq

from .. import leftover_processes, own_python, variable_names
from ..model.errors import PilotfishError
from ..wire import connection, frames
from ..wire.security import unlock_client

_ANSWER_MS = 3000
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a batch system may send to all processes of a job: the agent's affair."""


class Watcher:
    """The agent's end of the pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def dismiss(self) -> None:
        """The agent ends in order."""
        os.write(self._pipe, b"x")
        os.close(self._pipe)


def start(connect: Path, agent_id: str) -> Watcher:
    """Fork the watcher of this process, which is to become that agent. Call before it forks anything else."""
    read_end, write_end = os.pipe()  # neither outlives an exec
    if os.fork() == 0:
        try:
            os.close(write_end)
            _watch(read_end, connect, agent_id)
        finally:
            os._exit(1)
    os.close(read_end)
    return Watcher(write_end)


def _watch(pipe: int, connect: Path, agent_id: str) -> None:
    """Never returns. The name of the agent is not in the new program's words as it was in ours: it would look like it."""
    os.setsid()  # whoever kills the agent with its process group leaves us
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if os.read(pipe, 1):
        os._exit(0)
    words = ["agent", "--connect", str(connect), "--gone", agent_id]
    os.execv(sys.executable, own_python.pilotfish(sys.executable, *words))


def tell(connect: Path, agent_id: str) -> int:
    """Clear away what the dead agent has left on this host, then tell its manager; returns an exit code.

    The order counts: the manager may start the same tasks anew as soon as it knows.
    """
    leftover_processes.clear_after(agent_id)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        info = connection.for_agent(connect, os.environ.get(variable_names.CONNECT))
        return 0 if any(_is_told(context, info, way, agent_id) for way in connection.agent_ways(info)) else 1
    except PilotfishError:
        return 1
    finally:
        context.destroy(0)


def _is_told(
    context: zmq.Context[zmq.Socket[bytes]],
    info: connection.ConnectionFile,
    way: tuple[str, str],
    agent_id: str,
) -> bool:
    """Whether the manager has answered on this way."""
    transport, address = way
    with context.socket(zmq.DEALER) as socket:
        unlock_client(socket, info, transport)
        socket.connect(address)
        socket.send(frames.encode([frames.Gone(agent_id)]))
        return bool(socket.poll(_ANSWER_MS))
