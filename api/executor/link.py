"""An executor's two conversations with its pilot, each in a thread of its own: calls out, ends in.

While one request with calls is under way, those that come wait for the next: few calls travel alone and at once, many together
(`_MOST_CALLS`), and what a request costs is shared. Ends are asked for with a request that the pilot answers as soon as there
are any, so they too come in batches under load and at once else. Nothing is lost when an answer is: a submit whose answer did
not come is looked up before it is sent again, and ends are told until the next request confirms them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack

from ...pilot.functions import values
from ...pilot.wire import replies
from ..client import Client
from ..errors import RequestRefusedError
from .functions import Code
from .future import Future, settle, settle_with_error
from .options import Options

_MOST_CALLS = 1000
_MOST_BYTES = 256 << 10
"""Of the arguments in one job; a call may have more."""
_WAIT_S = 20.0
_ANSWER_S = 60.0
_KEPT_CALLS = 20_000
"""Ended calls that the pilot still knows, so that one can ask what became of them."""
_MOST_REMOVED = 100


class Call(NamedTuple):
    """One call that waits to be sent. `how`: with its arguments, or with each of them (functions/worker.py)."""

    future: Future[Any]
    code: Code
    how: int
    arguments: bytes
    options: Options


class _Job:
    """Calls that were sent together."""

    __slots__ = ("files", "futures", "left")

    def __init__(self, calls: Sequence[Call]) -> None:
        self.futures: list[Future[Any] | None] = [call.future for call in calls]
        self.left = len(calls)
        self.files = [path for call in calls if (path := values.file_of(call.arguments)) is not None]
        """Of large arguments: they are needed until all calls are over, which may be tried again."""

    def remove_files(self) -> None:
        for path in self.files:
            with suppress(OSError):
                os.unlink(path)


class Link:
    """`connect` gives the client, and may take as long as a pilot takes to start; `execution` what function workers need."""

    def __init__(
        self, name: str, connect: Callable[[], Client], describe: Callable[[Options, bytes, str], dict[str, Any]]
    ) -> None:
        self.name = name
        self._connect = connect
        self._describe = describe
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Call] = deque()
        self._jobs: dict[str, _Job] = {}
        self._open = 0
        """Calls that have no end yet."""
        self._count = 0
        self._closing = False
        self.failure: BaseException | None = None
        self._to_cancel: deque[str] = deque()
        self._ended: deque[tuple[str, int]] = deque()
        self._kept = 0
        self._threads: list[threading.Thread] = []
        self._client: Client | None = None
        self._folder = ""

    # --- for the executor -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for act in (self._send_all, self._receive_all):
            thread = threading.Thread(target=act, name=f"pilotfish-{act.__name__.strip('_')}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def put(self, call: Call) -> None:
        """Send it soon. Raises RuntimeError when there is no more sending."""
        with self._lock:
            if self.failure is not None:
                raise RuntimeError("broken")
            self._open += 1
            self._waiting.append(call)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def cancel(self, future: Future[Any]) -> None:
        with self._lock:
            if future.task:
                self._to_cancel.append(future.task)
            self._changed.notify_all()

    def wait_until_connected(self) -> None:
        """Raises BrokenExecutor when there is no pilot."""
        with self._lock:
            self._changed.wait_for(lambda: self._client is not None or self.failure is not None)
        if self.failure is not None:
            raise broken(self.failure)

    def folder(self) -> str:
        """Where large values go, once the pilot has told that; empty: nowhere. Raises as `wait_until_connected`."""
        self.wait_until_connected()
        return self._folder

    def wait_until_done(self, timeout_s: float | None = None) -> bool:
        with self._lock:
            return self._changed.wait_for(lambda: not self._open or self.failure is not None, timeout_s)

    def close(self) -> None:
        """No more calls: the threads end when those that are open have ended."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()

    def join(self) -> None:
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def unfinished(self) -> list[Future[Any]]:
        with self._lock:
            waiting = [call.future for call in self._waiting]
            return waiting + [future for job in self._jobs.values() for future in job.futures if future is not None]

    # --- out --------------------------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        try:
            client = self._connect()
            folder = self._ask(client, "", 0, 0.0).folder
            with self._lock:
                self._client = client
                self._folder = folder if folder and os.access(folder, os.W_OK) else ""
                self._changed.notify_all()
            while True:
                with self._lock:
                    self._changed.wait_for(lambda: self._waiting or self._to_cancel or self._is_over())
                    if self._is_over() and not self._waiting:
                        break
                    calls, cancel = self._take(), list(self._to_cancel)
                    self._to_cancel.clear()
                if calls:
                    self._submit(client, calls)
                if cancel:
                    with suppress(RequestRefusedError):
                        client.cancel(cancel)
            self._ask(client, "", 0, 0.0)  # so that the other thread does not wait for an end any more
        except BaseException as error:
            self._fail(error)

    def _is_over(self) -> bool:
        return self.failure is not None or (self._closing and not self._open)

    def _take(self) -> list[Call]:
        """Those that go together: they want the same."""
        calls: list[Call] = []
        size = 0
        waiting = self._waiting
        while waiting and len(calls) < _MOST_CALLS:
            call = waiting[0]
            size += len(call.arguments)
            if calls and (call.options != calls[0].options or size > _MOST_BYTES):
                break
            waiting.popleft()
            if call.future.cancelled():
                self._open -= 1
                self._changed.notify_all()
            else:
                calls.append(call)
        return calls

    def _submit(self, client: Client, calls: Sequence[Call]) -> None:
        self._count += 1
        name = f"{calls[0].code.name}-{self.name}-{self._count}"
        description = self._describe(calls[0].options, _data_of(calls), self._folder)
        description |= {"name": name, "iteration": {"start": 0, "stop": len(calls)}}
        for pos, call in enumerate(calls):
            call.future.task = f"{name}:{pos}"
        with self._lock:
            self._jobs[name] = _Job(calls)
        try:
            client.submit([description])
        except RequestRefusedError as error:
            with self._lock:
                self._jobs.pop(name).remove_files()
                self._open -= len(calls)
                self._changed.notify_all()
            for call in calls:
                call.future.settle_with(error)
            return
        canceled = [call.future.task for call in calls if call.future.cancelled()]
        if canceled:
            with self._lock:
                self._to_cancel.extend(canceled)

    # --- in ---------------------------------------------------------------------------------------------------------------

    def _receive_all(self) -> None:
        try:
            with self._lock:
                self._changed.wait_for(lambda: self._client is not None or self.failure is not None)
            if self._client is None:
                return
            client = self._client.another()
            epoch, last = "", 0
            while not self._is_over():
                found = self._ask(client, epoch, last, _WAIT_S)
                epoch, last = found.epoch, found.last
                for ends in found.ends:
                    self._take_ends(ends)
                self._remove_old(client)
        except BaseException as error:
            self._fail(error)

    def _ask(self, client: Client, epoch: str, after: int, wait_s: float) -> replies.CallResults:
        members = {"executor": self.name, "epoch": epoch, "after": after, "wait": wait_s}
        return client.ask(replies.CallResults, "callResults", members, timeout_s=wait_s + _ANSWER_S)

    def _take_ends(self, ends: replies.CallEnds) -> None:
        job = self._jobs.get(ends.job)
        if job is None:  # of an earlier life
            return
        futures = job.futures
        if ends.state == "EXECUTING":
            for pos in ends.pos:
                future = futures[pos]
                if future is not None:
                    future.now_runs()
            return
        count = 0
        for place, pos in enumerate(ends.pos):
            future, futures[pos] = futures[pos], None
            if future is None:
                continue
            count += 1
            if ends.state == "SUCCEED":
                settle(future, ends.values[place])
            else:
                settle_with_error(future, ends.values[place] if ends.values else b"", ends.message, ends.state)
        with self._lock:
            job.left -= count
            self._open -= count
            if not job.left:
                del self._jobs[ends.job]
                job.remove_files()
                self._ended.append((ends.job, len(futures)))
                self._kept += len(futures)
            if not self._open:
                self._changed.notify_all()

    def _remove_old(self, client: Client) -> None:
        old: list[str] = []
        while self._kept > _KEPT_CALLS and len(old) < _MOST_REMOVED:
            name, count = self._ended.popleft()
            self._kept -= count
            old.append(name)
        if old:
            client.remove(old)

    def _fail(self, error: BaseException) -> None:
        """There is no going on: nothing more comes of what is open."""
        with self._lock:
            if self.failure is None:
                self.failure = error
            waiting = [call.future for call in self._waiting]
            self._waiting.clear()
            jobs, self._jobs = list(self._jobs.values()), {}
            self._open = 0
            self._changed.notify_all()
        for future in [*waiting, *(future for job in jobs for future in job.futures if future is not None)]:
            future.settle_with(broken(error))


def broken(error: BaseException) -> BaseException:
    """What calls raise whose executor has lost its pilot."""
    from concurrent.futures import BrokenExecutor

    found = BrokenExecutor(f"the executor has lost its pilot: {error}")
    found.__cause__ = error
    return found


def _data_of(calls: Sequence[Call]) -> bytes:
    """Functions and arguments as function workers read them."""
    places: dict[bytes, int] = {}
    functions: list[tuple[bytes, bytes]] = []
    entries = []
    for call in calls:
        place = places.get(call.code.digest)
        if place is None:
            place = places[call.code.digest] = len(functions)
            functions.append((call.code.digest, call.code.data))
        entries.append((place, call.how, call.arguments))
    packed: bytes = msgpack.packb((functions, entries))
    return packed
