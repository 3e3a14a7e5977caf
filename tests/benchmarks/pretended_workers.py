"""Plays `srun` for one node: a real agent, whose workers only pretend to spawn. So two cores can tell of a node of 128.

The agent has as many workers as it would have on a node with PRETENDED_CORES cores. They are one process, which ends each
task after SIMULATED_TASK_S seconds (pretended.py): what is measured is what the agent and the manager cost and can do.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from pretended import Crowd, PretendedTasks

from pilotfish.pilot.agent import app, worker_pool
from pilotfish.pilot.wire import frames

_HEAD = struct.Struct("<I")
_MOST_READ = 1 << 20


class Worker:
    """One end of an agent's channel to a worker."""

    def __init__(self, end: socket.socket, task_s: float) -> None:
        self.is_closed = False
        self._end = end
        self._unread = bytearray()
        self._tasks = PretendedTasks(task_s, self._report)
        self.due = self.timer = time.time()

    def read(self) -> bool:
        try:
            found = self._end.recv(_MOST_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            found = b""
        self.is_closed = self.is_closed or not found
        self._unread += found
        while len(self._unread) >= _HEAD.size:
            after = _HEAD.size + _HEAD.unpack_from(self._unread)[0]
            if len(self._unread) < after:
                break
            for message in frames.decode_to_agent(bytes(self._unread[_HEAD.size : after])):
                self._tasks.obey(message)
            del self._unread[:after]
        return bool(found)

    def turn(self, now: float) -> None:
        self._tasks.turn(now)
        self.due = self._tasks.due

    def _report(self, report: frames.Report) -> None:
        self._tasks.report_buffer.acknowledged(report.seq)
        frame = frames.encode([report])
        with suppress(OSError):
            self._end.sendall(_HEAD.pack(len(frame)) + frame)


def _start(agent_id: str, count: int, open_files: int | None = None) -> list[tuple[int, socket.socket]]:
    """In the place of worker_pool.start: one process that has the other ends of all channels."""
    pairs = [socket.socketpair() for _ in range(worker_pool.count_for(int(os.environ["PRETENDED_CORES"])))]
    pid = os.fork()
    if pid:
        for _, theirs in pairs:
            theirs.close()
        return [(pid, ours) for ours, _ in pairs]
    crowd = Crowd()
    workers = []
    for ours, theirs in pairs:
        ours.close()
        workers.append(Worker(theirs, float(os.environ["SIMULATED_TASK_S"])))
        crowd.add(theirs.fileno(), workers[-1])
    while not any(worker.is_closed for worker in workers):
        crowd.turn()
    os._exit(0)


def main() -> None:
    words = sys.argv[1:]
    connect, node, agent_id = (words[words.index(option) + 1] for option in ("--connect", "--node", "--agent-id"))
    worker_pool.start = _start
    sys.exit(app.run(Path(connect), node, agent_id, None))


if __name__ == "__main__":
    main()
