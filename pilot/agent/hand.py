"""A hand: the process of an agent that starts tasks and reaps them. An agent has several.

One process that does all of it lets cores stand idle: while it waits for one child to become its program, or writes the
books of one task, another task may end. Each hand has some of the agent's grants and refills their cores by itself; the
agent keeps the queue, and the link to the manager. The two talk as manager and agent do, in the same frames.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket

from ..loop import Loop
from ..strays import become_subreaper
from ..wire import frames
from .channel import Channel
from .crew import Crew
from .outbox import Outbox, Pace

log = logging.getLogger(__name__)

REPORT_S = 0.05
"""Under load reports leave at most this often; a single one leaves at once."""
_PR_SET_PDEATHSIG = 1


def run(agent_id: str, number: int, end: socket.socket, parent: int, open_files: int | None) -> None:
    """Be hand `number` of the agent in process `parent`, until the other end of the channel is closed and nothing runs.

    `open_files`: the soft limit of open files for tasks, if it is not ours.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    become_subreaper()
    Hand(agent_id, number, end, open_files).run()


class Hand:
    """Its loop: frames in, ended children, results out."""

    def __init__(self, agent_id: str, number: int, end: socket.socket, open_files: int | None) -> None:
        self._loop = Loop()
        self._outbox = Outbox()
        self._crew = Crew(agent_id, number, self._loop, self._outbox, open_files)
        self._channel = Channel(end, self._loop, self._read, self._end)
        self._pace = Pace(self._loop, self._outbox, REPORT_S, self._report)
        self._ending = False

    def run(self) -> None:
        loop = self._loop
        loop.on_signal([signal.SIGTERM, signal.SIGINT], self._signalled)
        loop.on_signal([signal.SIGUSR1], lambda: None)  # the agent sees to it
        loop.on_children(self._crew.reap)
        loop.run(self._end_of_turn)
        self._crew.groups.close()

    def _read(self, frame: bytes) -> None:
        for message in frames.decode_to_agent(frame):
            self._obey(message)

    def _obey(self, message: frames.ToAgent) -> None:
        crew = self._crew
        if isinstance(message, frames.Work):
            crew.take_work(message.jobs, message.grants, message.tasks)
        elif isinstance(message, frames.MayStart):
            crew.may_start_until(message.until_s)
        elif isinstance(message, frames.Kill):
            crew.kill(message.tasks)
        elif isinstance(message, frames.Revoke):
            crew.revoke(message.tasks)
        elif isinstance(message, frames.Forget):
            crew.forget(message.job_nos)
        elif isinstance(message, frames.Welcome):
            crew.configure(message.settings)
        elif isinstance(message, frames.Stop):
            crew.stop_all(message.at_once)

    def _signalled(self) -> None:
        self._crew.stop_all()
        self._channel.send(frames.encode([frames.Bye("signal")]))

    def _end_of_turn(self) -> None:
        self._crew.start_waiting()
        self._pace.end_of_turn()
        if self._ending and not self._crew.running:
            self._loop.stop()

    def _report(self, report: frames.Report) -> None:
        self._outbox.acknowledged(report.seq)  # this channel loses nothing
        self._channel.send(frames.encode([report]))

    def _end(self) -> None:
        self._ending = True
        self._crew.stop_all()
