"""The agent's side of its workers: started, told what to do, listened to, ended."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from ..inherited import Inherited
from ..loop import Loop
from ..model.ids import JobNo, PoolId, TaskKey
from ..wire import frames
from ..wire.ends import ends_of
from ..wire.frames import JobDef, NewGrant, TaskStart
from . import worker_process
from .channel import Channel
from .dispatch import Dispatcher, Orders, is_of_foreign_signal
from .report_buffer import ReportBuffer

log = logging.getLogger(__name__)

_ONE_EACH = 16
_CORES_OF_A_FURTHER_ONE = 4
_DOUBT_S = 1.0
"""How long the agent waits for a SIGTERM or SIGKILL of its own before it believes that one was meant for a task alone."""
_WORKER_LOST = 70


def count_for(processors: int) -> int:
    """How many workers fill that many processors with short tasks.

    A worker is awake for 135 us of each task that it starts, one after the other; a node of 16 cores ends a no-op every 50 to
    60 us. So up to there each core has a worker of its own, which is never busy when its core gets free. Of a larger node the
    kernel ends tasks more slowly per core (128 cores: every 10 us), and each worker beside that is memory and a frame every
    50 ms: there one in four is enough.
    """
    return min(processors, _ONE_EACH + max(0, processors - _ONE_EACH) // _CORES_OF_A_FURTHER_ONE)


def start(agent_id: str, count: int, inherited: Inherited) -> list[tuple[int, socket.socket]]:
    """Fork the workers; returns the process and the socket of each. Call before there are threads.

    `inherited`: what tasks are to find.
    """
    parent = os.getpid()
    started: list[tuple[int, socket.socket]] = []
    for number in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for _, other in started:
                other.close()
            ours.close()
            _be_worker_process(agent_id, number, theirs, parent, inherited)
        theirs.close()
        started.append((pid, ours))
    return started


def _be_worker_process(agent_id: str, number: int, end: socket.socket, parent: int, inherited: Inherited) -> None:
    """Never returns: a worker must not continue with what the agent does next."""
    code = 1
    try:
        worker_process.run(agent_id, number, end, parent, inherited)
        code = 0
    except BaseException:
        log.exception("worker.failed", extra={"number": number})
    finally:
        os._exit(code)


class WorkerPool:
    """All tasks of the agent, through its workers. `on_signal` is called when one of them was told to end by a signal,
    `on_lost` before the agent ends because one is gone.
    """

    def __init__(
        self,
        started: list[tuple[int, socket.socket]],
        loop: Loop,
        report_buffer: ReportBuffer,
        on_signal: Callable[[], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._pids = [pid for pid, _ in started]
        self._loop = loop
        self._on_signal = on_signal
        self._on_lost = on_lost
        self._report_buffer = report_buffer
        self._dispatcher = Dispatcher(len(started), report_buffer)
        self._jobs: dict[JobNo, JobDef] = {}
        self._knows: list[set[JobNo]] = [set() for _ in started]
        self._channels = [Channel(end, loop, self._read, partial(self._lost, pid)) for pid, end in started]

    # --- what the agent tells of them -------------------------------------------------------------------------------------

    @property
    def held(self) -> Dispatcher:
        """Everything that was taken and has not ended."""
        return self._dispatcher

    # --- orders -----------------------------------------------------------------------------------------------------------

    def configure(self, settings: frames.Settings) -> None:
        self._tell_all(frames.Welcome("", settings))

    def take_work(
        self, jobs: Iterable[JobDef], grants: Iterable[NewGrant], tasks: dict[PoolId, list[TaskStart]]
    ) -> None:
        self._jobs.update((job.job_no, job) for job in jobs)
        self._dispatcher.take_work(grants, tasks)

    def kill(self, keys: Iterable[TaskKey]) -> None:
        self._dispatcher.kill(keys)

    def revoke(self, keys: Iterable[TaskKey]) -> None:
        self._dispatcher.revoke(keys)

    def give_back(self) -> None:
        """Give back all that has not started."""
        self._dispatcher.revoke_all()

    def stop_all(self, at_once: bool = False) -> None:
        """Stop every task and give back what waits; `at_once`: those that were told to end are killed."""
        self._dispatcher.closed = True
        self._dispatcher.revoke_all()
        self._tell_all(frames.Stop(kill=True, at_once=at_once))

    def forget(self, numbers: list[JobNo]) -> None:
        for number in numbers:
            self._jobs.pop(number, None)
        for known in self._knows:
            known.difference_update(numbers)
        self._dispatcher.forget()
        self._tell_all(frames.Forget(numbers))

    def may_start_until(self, until_s: float) -> None:
        """Until then, by the loop's clock, tasks may be started; call again before that."""
        self._tell_all(frames.MayStart(until_s))

    def end_of_turn(self) -> None:
        """Hand out what the turn has made possible."""
        self._dispatcher.deal()
        for number, channel in enumerate(self._channels):
            orders = self._dispatcher.take_orders(number)
            if orders is not None:
                channel.send(frames.encode(self._messages(number, orders)))

    def _messages(self, number: int, orders: Orders) -> list[frames.ToAgent]:
        messages: list[frames.ToAgent] = []
        if orders.grants or orders.starts:
            needed = {start.job_no for starts in orders.starts.values() for start in starts}
            new = sorted(needed - self._knows[number])
            self._knows[number].update(new)
            messages.append(frames.Work([self._jobs[job_no] for job_no in new], orders.grants, orders.starts))
        if orders.kills:
            messages.append(frames.Kill(orders.kills))
        if orders.revokes:
            messages.append(frames.Revoke(orders.revokes))
        return messages

    def _tell_all(self, message: frames.ToAgent) -> None:
        for channel in self._channels:
            channel.send(frames.encode([message]))

    # --- reports ----------------------------------------------------------------------------------------------------------

    def _read(self, frame: bytes) -> None:
        for message in frames.decode_to_manager(frame):
            if isinstance(message, frames.Report):
                self._take_report(message)
            elif isinstance(message, frames.Bye):
                self._on_signal()

    def _take_report(self, report: frames.Report) -> None:
        dispatcher = self._dispatcher
        for values in report.values:
            self._report_buffer.returned_values(values)
        for started in report.started:
            dispatcher.on_started(started)
        for finished in ends_of(report):
            if is_of_foreign_signal(finished) and not dispatcher.closed:
                self._loop.call_after(_DOUBT_S, partial(dispatcher.on_finished, finished))
            else:
                dispatcher.on_finished(finished)
        if report.revoked:
            dispatcher.on_revoked(report.revoked)
        for grant_id in report.returned:
            dispatcher.on_returned(grant_id)

    # --- the end ----------------------------------------------------------------------------------------------------------

    def _lost(self, pid: int) -> None:
        """A worker is gone, and nobody watches its tasks. So the agent ends too: its successor clears up and starts anew."""
        log.error("worker.lost", extra={"pid": pid})
        self._on_lost()
        os._exit(_WORKER_LOST)

    def close(self) -> None:
        """Nothing runs any more: end them."""
        for channel in self._channels:
            channel.close()
        for pid in self._pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
