"""The controller: answers the commands, starts what may start, follows what the pilot says. One loop, no threads.

A turn: read what has come (clients, events), carry it out, start what may start now, answer those who wait. A command is
answered after the pilot has the job on disk, so an id that sbatch has printed is a job that exists.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from ....api.errors import RequestRefusedError
from ....pilot.model.errors import PilotfishError
from . import connections, others, sacct, sbatch, scancel, scontrol, sinfo, squeue
from .connections import Connection
from .desk import NEEDS_STDIN, Answer, Call, Desk
from .errors import Refusal, failed_submit
from .jobs import Job, Queue
from .pilot_link import PilotLink, end_of
from .relay import LOOK_S, Relay, RelayedClient
from .request import Request, Site, describe
from .spool import Spool

_FOLLOW_S = 0.1
_IDLE_S = 1.0
"""How often to look when nothing is heard: events may be lost on their way."""
_STARTED_TOGETHER = 200

COMMANDS: Mapping[str, Callable[[Desk, Call], Answer]] = {
    "sbatch": sbatch.sbatch,
    "srun": sbatch.srun,
    "squeue": squeue.squeue,
    "sacct": sacct.sacct,
    "scancel": scancel.scancel,
    "scontrol": scontrol.scontrol,
    "sinfo": sinfo.sinfo,
    "sacctmgr": others.sacctmgr,
    **dict.fromkeys(others.REFUSED, others.refused),
}

_BATCH_STEP = str(Path(__file__).with_name("batch_step.py"))


class Waiting:
    """A client whose answer comes when jobs have ended. `read`: how much of the job's output it has."""

    def __init__(self, connection: Connection | RelayedClient, jobs: list[Job], answer: Answer) -> None:
        self.connection = connection
        self.jobs = jobs
        self.answer = answer
        self.read = {"out": 0, "err": 0}


class Controller:
    """Serves one program. `run` returns when `done()` says so."""

    def __init__(self, link: PilotLink, site: Site, spool: Spool, listener: socket.socket, queue: Queue) -> None:
        self._link = link
        self.site = site
        self.queue = queue
        self._spool = spool
        self._listener = listener
        self._connections: dict[int, Connection] = {}
        self._waiting: list[Waiting] = []
        self._looked_at = 0.0
        self._relay = Relay(spool.root / "relay")
        self._relay_looked_at = 0.0
        self._poller = zmq.Poller()
        self._poller.register(listener.fileno(), zmq.POLLIN)
        self._poller.register(link.socket, zmq.POLLIN)

    # --- what commands may ask: Desk ---------------------------------------------------------------------------------

    def now(self) -> float:
        return time.time()

    def submit(self, request: Request) -> int:
        number = self.queue.submit(request, self.now())
        mine = self.queue.jobs_of(number)
        self._start(refuse=mine)
        return number

    def cancel(self, jobs: Sequence[Job]) -> None:
        now = self.now()
        self._link.cancel(filter(None, [self.queue.cancel(job, self.site.uid, now) for job in jobs]))

    def hold(self, jobs: Sequence[Job]) -> None:
        self._link.cancel(filter(None, [self.queue.hold(job) for job in jobs]))

    def requeue(self, jobs: Sequence[Job], hold: bool) -> None:
        self._link.cancel(filter(None, [self.queue.requeue(job, hold) for job in jobs]))

    def signal(self, job: Job, number: int, whom: str) -> None:
        self._spool.signal(job, number, whom)

    def folder(self, job: Job) -> Path:
        return self._spool.folder(job)

    def used(self) -> Mapping[str, tuple[int, int, int, str]]:
        return self._link.used()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def watch(self, descriptor: int) -> None:
        """Let the loop turn when this becomes readable."""
        self._poller.register(descriptor, zmq.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        self._poller.unregister(descriptor)

    def run(self, done: Callable[[], bool]) -> None:
        while not done():
            self._turn()

    def _turn(self) -> None:
        ready = dict(self._poller.poll(int(1000 * self._pause_s())))
        if self._listener.fileno() in ready:
            while (connection := connections.accept(self._listener)) is not None:
                self._connections[connection.stream.fileno()] = connection
                self._poller.register(connection.stream.fileno(), zmq.POLLIN)
        if self._link.socket in ready or time.monotonic() - self._looked_at >= _IDLE_S:
            self._take_events()
        for descriptor, connection in list(self._connections.items()):
            what = ready.get(descriptor, 0)
            if what & zmq.POLLIN:
                for message in connection.read():
                    self._serve(connection, message)
            if what & zmq.POLLOUT:
                connection.write()
        if time.monotonic() - self._relay_looked_at >= LOOK_S:
            self._relay_looked_at = time.monotonic()
            for client, message in self._relay.requests():
                self._serve(client, message)
        self._start()
        self._answer_waiting()
        self._tidy()

    def _pause_s(self) -> float:
        if any(waiting.answer.follow for waiting in self._waiting):
            return _FOLLOW_S
        if self.queue.changed:
            return 0.0
        look = self.queue.next_look()
        return _IDLE_S if look is None else min(_IDLE_S, max(0.0, look - self.now()))

    def _tidy(self) -> None:
        for descriptor, connection in list(self._connections.items()):
            if connection.is_open:
                flags = zmq.POLLIN | (zmq.POLLOUT if connection.wants_to_write else 0)
                self._poller.modify(descriptor, flags)
                continue
            self._poller.unregister(descriptor)
            del self._connections[descriptor]
            connection.close()
            gone = [waiting for waiting in self._waiting if waiting.connection is connection]
            for waiting in gone:
                self._waiting.remove(waiting)
                if waiting.answer.follow:  # srun was interrupted
                    self.cancel([job for job in waiting.jobs if not job.is_over])

    def _serve(self, connection: Connection | RelayedClient, message: dict[str, Any]) -> None:
        if "stdin" in message and connection.request is not None:
            message = {**connection.request, "stdin": message["stdin"]}
        connection.request = message
        answer = self._answer(message)
        if answer is NEEDS_STDIN:
            connection.send({"need": "stdin"})
            return
        if not answer.wait_for:
            connection.send({"out": answer.out, "err": answer.err, "code": answer.code}, last=True)
            return
        connection.send({"out": answer.out, "err": answer.err, "more": True})
        jobs = [job for number in answer.wait_for for job in self.queue.jobs_of(number)]
        self._waiting.append(Waiting(connection, jobs, answer))

    def _answer(self, message: dict[str, Any]) -> Answer:
        try:
            name = str(message["command"])
            call = Call(
                name, list(message["words"]), str(message["cwd"]), dict(message["environ"]), message.get("stdin")
            )
        except (KeyError, TypeError, ValueError):
            return Answer(err="error: not a request of these commands\n", code=1)
        command = COMMANDS.get(name)
        if command is None:
            return Answer(err=f"{name}: error: not served by a pilot\n", code=1)
        try:
            return command(self, call)
        except Refusal as refusal:
            return Answer(err=f"{refusal.text}\n", code=refusal.code)
        except PilotfishError as error:
            return Answer(err=f"{name}: error: {error.line}\n", code=1)
        except OSError as error:
            return Answer(err=f"{name}: error: {error.filename}: {error.strerror}\n", code=1)

    # --- the pilot ---------------------------------------------------------------------------------------------------

    def _start(self, refuse: Sequence[Job] = ()) -> None:
        """Give the pilot what may start. Raises Refusal when it does not take one of `refuse`, which is withdrawn then."""
        if not self.queue.changed and self.queue.next_look() is None:
            return
        ready = self.queue.plan(self.now())
        for place in range(0, len(ready), _STARTED_TOGETHER):
            part = ready[place : place + _STARTED_TOGETHER]
            try:
                self._link.submit([self._description(job) for job in part])
            except RequestRefusedError:
                self._start_singly(part, refuse)

    def _start_singly(self, jobs: Sequence[Job], refuse: Sequence[Job]) -> None:
        """The pilot takes all or none: find out whom it does not take."""
        refused = ""
        for job in jobs:
            try:
                self._link.submit([self._description(job)])
            except RequestRefusedError as error:
                refused = error.what
                if job in refuse:
                    self.queue.withdraw(job)
                else:
                    self.queue.on_end(job.pilot_name, "FAILED", "BadConstraints", 1, 0, self.now())
        if refused and refuse:
            for job in refuse:
                if not job.is_over:
                    self.cancel([job])
                    self.queue.withdraw(job)
            tags = any(job.request.tags for job in refuse) and "tag" in refused
            why = "Invalid feature specification" if tags else "Requested node configuration is not available"
            raise failed_submit(why)

    def _description(self, job: Job) -> dict[str, Any]:
        folder = self._spool.write(job)
        return describe(job.request, job.pilot_name, [sys.executable, "-I", "-S", _BATCH_STEP, str(folder)])

    def _take_events(self) -> None:
        self._looked_at = time.monotonic()
        events = [event for event in self._link.events() if self.queue.by_pilot_name(event.job) is not None]
        begun = list(dict.fromkeys(event.job for event in events if event.state == "EXECUTING"))
        nodes = self._link.nodes_of(begun)
        for event in events:
            if event.state == "EXECUTING":
                self.queue.on_start(event.job, nodes.get(event.job, ()), event.time)
            elif event.state == "QUEUED":
                self.queue.on_requeued_by_pilot(event.job)
            elif event.state in ("SUCCEED", "FAILED", "CANCELED", "OMITTED"):
                job = self.queue.by_pilot_name(event.job)
                assert job is not None
                end = end_of(event, self._spool.exit_status(job) if event.state == "FAILED" else None)
                self.queue.on_end(event.job, *end, event.time)

    # --- those who wait ----------------------------------------------------------------------------------------------

    def _answer_waiting(self) -> None:
        for waiting in list(self._waiting):
            over = all(job.is_over for job in waiting.jobs)
            text = self._output(waiting) if waiting.answer.follow else {}
            if not over:
                if text:
                    waiting.connection.send({**text, "more": True})
                continue
            self._waiting.remove(waiting)
            code = max((128 + job.signal if job.signal else job.exit_code for job in waiting.jobs), default=0)
            if waiting.answer.follow and any(job.state == "CANCELLED" for job in waiting.jobs):
                text["err"] = text.get("err", "") + f"srun: Force Terminated job {waiting.jobs[0].id}\n"
            waiting.connection.send({**text, "code": code}, last=True)

    def _output(self, waiting: Waiting) -> dict[str, str]:
        """What the job of srun has written since the last look."""
        folder = self._spool.folder(waiting.jobs[0])
        found = {}
        for kind, name in (("out", "srun-output"), ("err", "srun-error")):
            try:
                with open(folder / name, "rb") as file:
                    file.seek(waiting.read[kind])
                    data = file.read()
            except OSError:
                continue
            if data:
                waiting.read[kind] += len(data)
                found[kind] = os.fsdecode(data)
        return found
