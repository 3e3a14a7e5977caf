"""A worker process: the process of an agent that starts tasks and reaps them. An agent has several.

One process that does all of it lets cores stand idle: while it waits for one child to become its program, or writes the
books of one task, another task may end. Each worker has some of the agent's grants and refills their cores by itself; the
agent keeps the queue, and the link to the manager. The two talk as manager and agent do, in the same frames.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket

from ..inherited import Inherited
from ..leftover_processes import become_subreaper
from ..loop import Loop
from ..wire import frames
from .channel import Channel
from .report_buffer import FlushPolicy, ReportBuffer
from .task_runner import TaskRunner

log = logging.getLogger(__name__)

REPORT_S = 0.05
"""Under load reports leave at most this often; a single one leaves at once."""
_PR_SET_PDEATHSIG = 1


def run(agent_id: str, number: int, end: socket.socket, parent: int, inherited: Inherited) -> None:
    """Be worker `number` of the agent in process `parent`, until the other end of the channel is closed and nothing runs.

    `inherited`: what tasks are to find.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    become_subreaper()
    WorkerProcess(agent_id, number, end, inherited).run()


class WorkerProcess:
    """Its loop: frames in, ended children, results out."""

    def __init__(self, agent_id: str, number: int, end: socket.socket, inherited: Inherited) -> None:
        self._loop = Loop()
        self._report_buffer = ReportBuffer()
        self._runner = TaskRunner(agent_id, number, self._loop, self._report_buffer, inherited)
        self._channel = Channel(end, self._loop, self._read, self._end)
        self._flush_policy = FlushPolicy(self._loop, self._report_buffer, REPORT_S, self._report)
        self._ending = False

    def run(self) -> None:
        loop = self._loop
        ignored = self._runner.ignored  # as by tasks; then the agent alone sees to them
        loop.on_signal({signal.SIGTERM, signal.SIGINT} - ignored, self._signalled)
        loop.on_signal({signal.SIGUSR1} - ignored, lambda: None)  # the agent sees to it
        loop.on_children(self._runner.reap)
        loop.run(self._end_of_turn)
        self._runner.close()

    def _read(self, frame: bytes) -> None:
        for message in frames.decode_for_start(frame):
            self._obey(message)

    def _obey(self, message: frames.ToAgent) -> None:
        runner = self._runner
        if isinstance(message, frames.Work):
            runner.take_work(message.jobs, message.grants, message.tasks)
        elif isinstance(message, frames.MayStart):
            runner.may_start_until(message.until_s)
        elif isinstance(message, frames.Kill):
            runner.kill(message.tasks)
        elif isinstance(message, frames.Revoke):
            runner.revoke(message.tasks)
        elif isinstance(message, frames.Forget):
            runner.forget(message.job_nos)
        elif isinstance(message, frames.Welcome):
            runner.configure(message.settings)
        elif isinstance(message, frames.Stop):
            runner.stop_all(message.at_once)

    def _signalled(self) -> None:
        self._runner.stop_all()
        self._channel.send(frames.encode([frames.Bye("signal")]))

    def _end_of_turn(self) -> None:
        self._runner.start_waiting()
        self._flush_policy.end_of_turn()
        if self._ending and not self._runner.running:
            self._loop.stop()

    def _report(self, report: frames.Report) -> None:
        self._report_buffer.acknowledged(report.seq)  # this channel loses nothing
        self._channel.send(frames.encode([report]))

    def _end(self) -> None:
        self._ending = True
        self._runner.stop_all()
