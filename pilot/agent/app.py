"""The agent: one per node; has its workers start, bind, watch and reap tasks for a manager, and outlives it.

When its manager is gone the agent waits for the next one: tasks run on, results are kept, and a manager that asks who we are
gets a report of everything. Tasks are stopped only when no manager comes for `manager_wait_s`, or when the lifeline of the
program that started the pilot is cut.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from .. import cpus, leftover_processes, variable_names
from ..clock import Patience
from ..inherited import Inherited
from ..logs import EventFormatter
from ..loop import Loop, Timer
from ..model.resources import NodeSpec
from ..wire import codec, connection, frames
from ..wire.room import check_room_for_sockets
from . import bind, worker_pool
from .gpus import near_gpus
from .link import Link
from .process_traces import Tracer
from .report_buffer import FlushPolicy, ReportBuffer

log = logging.getLogger(__name__)

FLUSH_S = 0.05
"""Under load results leave at most this often; a single one leaves at once."""
HELLO_AGAIN_S = 1.0
DEFAULT_WAIT_S = 600.0
DEFAULT_BEAT_S = 2.0
PATIENCE_STEP_S = 0.5
_DESCRIPTORS = 16
"""What an agent with one worker opens."""


def run(
    connect: Path,
    node: str,
    agent_id: str,
    replaces: str | None,
    joins: NodeSpec | None = None,
    most_workers: int | None = None,
) -> int:
    """Serve `node` for the pilot of the connection file `connect` until told to stop; returns the exit code.

    `joins`: what the node has, when it is not one of the pilot's own but is to become part of it. `most_workers`: how
    many workers it has at most; None: as many as fill the processors it may use.
    """
    check_room_for_sockets(_DESCRIPTORS)
    _detach_streams()
    if replaces is not None and leftover_processes.is_alive(replaces):
        # It was only cut off from the manager, which took it for dead. It will be heard again, and has lost nothing.
        log.warning("agent.not_needed", extra={"of": replaces, "reason": "that one is alive"})
        return 0
    if replaces is not None:
        log.warning("agent.cleared", extra={"of": replaces, "killed": leftover_processes.clear_after(replaces)})
    lifeline = os.environ.pop(variable_names.LIFELINE_FD, None)
    if lifeline is not None:
        os.set_inheritable(int(lifeline), False)  # before there are workers: their tasks would inherit it
    inherited = Inherited.told_by(os.environ.pop(variable_names.INHERITED, None))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    variable = os.environ.pop(variable_names.CONNECT, None)  # no task is to see the keys
    leftover_processes.become_subreaper()  # for what a worker leaves that is killed
    spared = leftover_processes.below(os.getpid())  # our watcher
    gc.collect()
    gc.freeze()
    enough = worker_pool.count_for(len(bind.cpus_here()))
    count = min(most_workers or enough, enough)
    started = worker_pool.start(agent_id, count, inherited)
    end = None if lifeline is None else int(lifeline)
    return Agent(connect, variable, node, agent_id, started, end, joins, spared).run()


def _detach_streams() -> None:
    """Make our own three streams /dev/null, which tasks inherit; Python's messages go to the log as before."""
    log_file = os.dup(2)
    os.set_inheritable(log_file, False)
    sys.stderr = open(log_file, "w", buffering=1, encoding="utf-8")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for stream, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):  # as a shell's < and > open it
        null = os.open(os.devnull, flags)
        if null == stream:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, stream)
            os.close(null)


class Agent:
    """Its loop: frames from the manager to the workers, and back."""

    def __init__(
        self,
        connect: Path,
        variable: str | None,
        node: str,
        agent_id: str,
        started: list[tuple[int, socket.socket]],
        lifeline: int | None,
        joins: NodeSpec | None = None,
        spared: Collection[leftover_processes.Process] = (),
    ) -> None:
        self._spared = spared
        """Processes below us that belong to no task."""
        self._connect_file = connect
        self._connect_variable = variable
        self._node = node
        self._agent_id = agent_id
        loop = self._loop = Loop()
        loop.on_signal([signal.SIGTERM, signal.SIGINT], lambda: self._stop("signal"))
        loop.on_signal([signal.SIGUSR1], self._drain)
        self._report_buffer = ReportBuffer(in_columns=True)
        self._flush_policy = FlushPolicy(loop, self._report_buffer, FLUSH_S, lambda report: self._send([report]))
        self._workers = worker_pool.WorkerPool(
            started, loop, self._report_buffer, lambda: self._stop("signal"), self._kill_left_overs
        )
        self._lifeline = lifeline
        self._joins = joins
        self._draining = False
        self._refused = ""
        self._link = Link(agent_id, loop, self._find_manager, self._say_hello, self._read)
        here = cpus.usable()
        self._domains = cpus.memory_domains(here.threads)
        self._sockets = [[thread for core in cores for thread in core] for cores in here.sockets]
        self._slots = [list(slots) for count in (len(here.threads), len(here.cores)) if (slots := here.slots(count))]
        self._hellos = 0
        self._welcomed = 0
        """The number of the last Hello that was answered."""
        self._settings: frames.Settings | None = None
        self._epoch = ""
        self._patience = Patience(loop, PATIENCE_STEP_S)
        self._heard = 0.0
        """When the manager was last heard of, in seconds of patience."""
        self._until_s = 0.0
        """Nothing is started after that, by the loop's clock."""
        self._told_until_s = 0.0
        self._is_window_due = False
        """It is time to tell the worker processes how long they may start tasks."""
        self._said_hello = -HELLO_AGAIN_S
        self._beat_timer: Timer | None = None
        self._stopping = ""
        self._tracer: Tracer | None = None

    def run(self) -> int:
        loop = self._loop
        self._link.open()
        if self._lifeline is not None:
            loop.on_readable(self._lifeline, self._lifeline_cut)
        self._beat_timer = loop.call_after(DEFAULT_BEAT_S, self._beat)
        loop.run(self._end_of_turn)
        self._workers.close()
        self._kill_left_overs()
        if self._tracer is not None:
            self._tracer.close()
        leftover_processes.kill_marked([os.fsencode(f"{variable_names.AGENT_ID}={self._agent_id}")])
        self._send([frames.Bye(self._stopping)])
        self._link.close()
        if self._refused:
            log.error("agent.refused", extra={"reason": self._refused})
        return 1 if self._refused else 0

    def _kill_left_overs(self) -> None:
        leftover_processes.kill_all_below(self._spared)

    def _find_manager(self) -> connection.ConnectionFile:
        return connection.for_agent(self._connect_file, self._connect_variable)

    # --- the link -------------------------------------------------------------------------------------------------------

    def _read(self, frame: bytes) -> None:
        self._heard = self._patience.seconds
        self._extend_window()
        try:
            messages = frames.decode_to_agent(frame)
        except msgspec.DecodeError as error:
            log.error("manager.garbage", extra={"bytes": len(frame), "reason": error})
            return
        for message in messages:
            self._obey(message)

    def _extend_window(self) -> None:
        """The manager has been heard: tasks may be started for a while.

        Not so if nothing was heard for too long, even because we were stopped: what we hold may have been given to others, and
        what is read now may be older than that. Then the answer to a Hello says what is still ours.
        """
        if self._settings is None or self._welcomed != self._hellos:
            return
        now = self._loop.clock()
        if now > self._until_s:
            self._say_hello()
        else:
            self._until_s = now + self._settings.window_s

    def _obey(self, message: frames.ToAgent) -> None:
        match message:
            case frames.Work():
                self._take_work(message)
            case frames.Ack():
                self._report_buffer.acknowledged(message.seq)
            case frames.Kill():
                self._workers.kill(message.tasks)
            case frames.Revoke():
                self._workers.revoke(message.tasks)
            case frames.Forget():
                self._workers.forget(message.job_nos)
            case frames.Sweep():
                marks = [os.fsencode(f"{frames.SPREAD_VARIABLE}={mark}") for mark in message.marks]
                leftover_processes.kill_marked(marks)
            case frames.WhoAreYou():
                if message.epoch != self._epoch or self._loop.clock() - self._said_hello > HELLO_AGAIN_S:
                    self._epoch = message.epoch
                    self._say_hello()
            case frames.Welcome():
                self._take_welcome(message)
            case frames.Rename():
                self._take_name(message.node)
            case frames.Drain():
                self._drain()
            case frames.Stop():
                self._refused = message.reason
                self._stop("told to stop", message.at_once)

    def _take_welcome(self, welcome: frames.Welcome) -> None:
        self._epoch = welcome.epoch
        self._welcomed = welcome.hello
        self._settings = welcome.settings
        if self._welcomed == self._hellos:
            self._until_s = self._loop.clock() + welcome.settings.window_s
        self._workers.configure(welcome.settings)
        if welcome.settings.proc_stats and self._tracer is None:
            folder = codec.to_os(welcome.settings.root_wd)
            self._tracer = Tracer(str(self._connect_file), folder, self._node)
            self._spared = {*self._spared, *self._tracer.process}
        self._beat()
        if self._draining:
            self._send([frames.Draining()])

    def _take_name(self, name: str) -> None:
        """Another part of this host serves the pilot under our name, perhaps since we were silent: join under this one.

        Not while we hold something, which was given to us by the old name.
        """
        if self._joins is not None and not self._workers.held.grants:
            self._node = name
            self._joins = replace(self._joins, name=name)
            self._say_hello()

    def _take_work(self, work: frames.Work) -> None:
        # With our Bye the manager takes it back; before its Welcome it counts as lost on the way.
        if not self._stopping and self._welcomed == self._hellos:
            self._workers.take_work(work.jobs, work.grants, work.tasks)
            if self._draining:
                self._workers.give_back()

    def _say_hello(self) -> None:
        """Who we are and everything we hold; what was not acknowledged goes in the same frame, so nothing can come between."""
        self._said_hello = self._loop.clock()
        self._hellos += 1
        if not self._report_buffer.empty:
            self._report_buffer.seal()
        held = self._workers.held
        hello = frames.Hello(
            frames.VERSION,
            self._agent_id,
            self._node,
            socket.gethostname(),
            os.getpid(),
            list(held.grants.values()),
            held.running,
            held.waiting,
            self._report_buffer.first_seq,
            self._hellos,
            self._slots,
            self._sockets,
            near_gpus(),
            self._joins,
            self._domains,
        )
        self._send([hello, *self._report_buffer.unacknowledged])

    def _beat(self) -> None:
        settings = self._settings
        self._is_window_due = True
        self._send([frames.Beat()])
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        wait_s = settings.manager_wait_s if settings else DEFAULT_WAIT_S
        if self._patience.seconds - self._heard > wait_s:
            self._stop(f"no manager for {wait_s:g} s")
        interval_s = settings.heartbeat_s if settings else DEFAULT_BEAT_S
        self._beat_timer = self._loop.call_after(interval_s, self._beat)

    def _end_of_turn(self) -> None:
        self._workers.end_of_turn()
        if self._until_s != self._told_until_s and self._is_window_due:  # after the orders, which may forbid some
            self._is_window_due = False
            self._told_until_s = self._until_s
            self._workers.may_start_until(self._until_s)
        self._flush_policy.end_of_turn()
        if not self._workers.held.empty:
            return
        if self._stopping:
            self._flush_policy.flush()
            self._loop.stop()
        elif self._draining and not self._report_buffer.unacknowledged:
            self._stop("drained")

    def _send(self, messages: list[frames.ToManager]) -> None:
        self._link.send(frames.encode(messages))

    # --- the end --------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str, at_once: bool = False) -> None:
        if not self._stopping or at_once:
            log.info("agent.stopping", extra={"running": len(self._workers.held.running), "reason": reason})
            self._stopping = reason
            self._workers.stop_all(at_once)

    def _drain(self) -> None:
        """Finish what runs, take nothing new, then end."""
        if not self._draining:
            log.info("agent.draining", extra={"running": len(self._workers.held.running)})
            self._draining = True
            self._send([frames.Draining()])
            self._workers.give_back()

    def _lifeline_cut(self) -> None:
        assert self._lifeline is not None
        self._loop.forget(self._lifeline)
        self._stop("lifeline cut")
