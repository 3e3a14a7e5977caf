"""An executor's two conversations with its pilot, each in a thread of its own: calls out, ends in.

While one request with calls is under way, those that come wait for the next: few calls travel alone and at once, many together
(`_MOST_CALLS`), and what a request costs is shared. Ends are asked for with a request that the pilot answers as soon as there
are any, so they too come in batches under load and at once else. Nothing is lost when an answer is: a submit whose answer did
not come is looked up before it is sent again, and ends are told until the next request confirms them.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from ...pilot.wire import replies
from ..client import Client
from ..errors import ConnectionError, RequestRefusedError
from .earlier_calls import EarlierCalls
from .failover import Failover
from .future import Future
from .needs import Needs, broken
from .options import Options
from .sent_job import Call, EndedJobs, SentJob, data_of

_MOST_CALLS = 1000
_MOST_JOBS = 200
"""In one request."""
_MOST_BYTES = 256 << 10
"""Of the arguments in one job; a call may have more."""
_WAIT_S = 20.0
_ANSWER_S = 60.0
_LOOK_S = 0.1
AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class Link:
    """The calls of one executor between here and its pilot.

    Args:
        name: by which it finds the calls of an earlier life; empty for one that does not.
        connect: gives the client, and may take as long as a pilot takes to start.
        describe: gives the description of a job: options, functions and arguments, how many inputs, folder, keys.
        own_folder: where large values go, given what the pilot says of that.
        connect_again: gives a client after the manager was lost, if there may be another one.
        is_placed: the pilot is put in place for its calls, so another one comes only while there are any, whenever that is.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Client],
        describe: Callable[[Options, bytes, int, str, bytes], dict[str, Any]],
        own_folder: Callable[[str], str],
        connect_again: Callable[[], Client] | None = None,
        is_placed: bool = False,
    ) -> None:
        self.name = name or secrets.token_hex(3)
        self._is_named = bool(name)
        self._life = f"{secrets.token_hex(2)}-" if name else ""
        """Part of the names of jobs: an earlier life has given others."""
        self._earlier: EarlierCalls | None = None
        """None: an earlier life has left none."""
        self._own_folder = own_folder
        self._connect_again = connect_again
        self.ends = 0
        """Of calls, that have come home."""
        self._confirmed = ("", 0)
        """The life of the manager, and the number of the end, up to which all were taken when it began."""
        self._connect = connect
        self._describe = describe
        self._lock = (
            threading.RLock()
        )  # the garbage collector may let go of the executor while we hold it, and close us
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Call] = deque()
        self._jobs: dict[str, SentJob] = {}
        self._open = 0
        """Calls that have no end yet."""
        self._count = 0
        self._closing = False
        self.failure: BaseException | None = None
        self._to_cancel: deque[str] = deque()
        self._ended = EndedJobs()
        self._threads: list[threading.Thread] = []
        self._failover = Failover(connect_again, is_placed, self._changed, lambda: bool(self._open), self._is_over)
        self._folder = ""
        self._confirming = threading.Lock()
        """Held while a call is sent that needs another one: until then the pilot must keep what that has returned."""

    # --- for the executor -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Unless it has."""
        if self._threads:
            return
        for act in (self._send_all, self._receive_all):
            name = f"pilotfish-{act.__name__.strip('_')}"
            self._threads.append(threading.Thread(target=act, name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def put(self, call: Call) -> None:
        """Send it soon. Raises BrokenExecutor when the pilot is lost, RuntimeError once it is closed."""
        with self._lock:
            if self.failure is not None:
                raise broken(self.failure)
            if self._closing:  # by another thread, just now: ours may have ended
                raise RuntimeError(AFTER_SHUTDOWN)
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
            self._changed.wait_for(lambda: self._failover.client is not None or self.failure is not None)
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

    def after_fork(self, parent: int) -> None:
        """In the child, where the threads are not: nothing comes of what is open."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._confirming = threading.Lock()
        self._threads = []
        self._open = 0
        self.failure = RuntimeError(f"it is that of process {parent}")

    def is_needed(self) -> bool:
        """Whether it may still have calls that are to be made: that of a placed pilot may come when all were cancelled."""
        with self._lock:
            if not self._closing:
                return True
        return any(not future.cancelled() for future in self.unfinished())

    def is_own_thread(self) -> bool:
        return threading.current_thread() in self._threads

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
            folder = self._own_folder(self._begin(client))
            with self._lock:
                self._failover.client = client
                self._folder = folder if folder and os.access(folder, os.W_OK) else ""
                self._changed.notify_all()
            while True:
                with self._lock:
                    self._changed.wait_for(lambda: self._waiting or self._to_cancel or self._is_over())
                    if self._is_over() and not self._waiting:
                        break
                    calls, cancel = self._take(), list(self._to_cancel)
                    self._to_cancel.clear()
                    client = self._failover.client or client  # the manager may be another one
                if self._earlier is not None and (count := self._earlier.settle()):
                    self._over(count)
                if calls:
                    self._submit(client, calls)
                if cancel:
                    with suppress(RequestRefusedError):
                        self._failover.asked(client, lambda client, names=cancel: client.cancel(names))  # type: ignore[misc]
                del calls  # with their futures, whose results others may wish to be rid of
            receiving = self._threads[1]
            while (
                receiving.is_alive()
            ):  # it does not wait for an end any more once somebody else asks, perhaps only now
                self._ask(self._failover.client or client, *self._confirmed, 0.0)
                receiving.join(_LOOK_S)
        except BaseException as error:
            self._fail(error)

    def _begin(self, client: Client) -> str:
        """Learn of the calls of an earlier life, and what has become of them; returns where large values go."""
        first = found = self._failover.asked(client, lambda client: self._ask(client, "", 0, 0.0, self._is_named))
        if first.jobs:
            self._earlier = EarlierCalls(first.jobs)
            self._jobs.update(self._earlier.jobs)
        while first.jobs and found.ends:
            for ends in found.ends:
                self._take_ends(ends)
            found = self._ask(client, found.epoch, found.last, 0.0)
        if first.jobs:
            self._confirmed = found.epoch, found.last
        return first.folder

    def _is_over(self) -> bool:
        return self.failure is not None or (self._closing and not self._open)

    def _take(self) -> list[list[Call]]:
        """What goes with the next request: calls that want the same together, each that waits for others by itself."""
        jobs: list[list[Call]] = []
        count = size = 0
        waiting = self._waiting
        while waiting and count < _MOST_CALLS and len(jobs) < _MOST_JOBS:
            call = waiting.popleft()
            if call.future.cancelled():
                self._open -= 1
                self._changed.notify_all()
                continue
            if self._earlier is not None and self._earlier.takes_over(call):
                continue
            size += len(call.arguments)
            last = jobs[-1][0] if jobs else None
            if last is None or call.slots or last.slots or call.options != last.options or size > _MOST_BYTES:
                jobs.append([])
                size = len(call.arguments)
            jobs[-1].append(call)
            count += 1
        return jobs

    def _submit(self, client: Client, jobs: Sequence[Sequence[Call]]) -> None:
        """Send these, each a job. What others need of a call is not confirmed meanwhile: the pilot must still have it."""
        depends = any(calls[0].slots or calls[0].options.after for calls in jobs)
        with self._confirming if depends else nullcontext():
            descriptions = [described for calls in jobs if (described := self._described(calls)) is not None]
            if not descriptions:
                return
            try:
                self._submit_once(client, descriptions)
            except RequestRefusedError as error:
                if len(descriptions) == 1:
                    self._refused(descriptions[0]["name"], error)
                else:
                    self._submit_each(client, descriptions)
        canceled = [call.future.task for calls in jobs for call in calls if call.future.cancelled()]
        if canceled:
            with self._lock:
                self._to_cancel.extend(canceled)

    def _submit_once(self, client: Client, descriptions: Sequence[dict[str, Any]]) -> None:
        """Also when the manager is lost meanwhile: whether it has accepted them, the next one knows from the journal."""
        is_sent = False

        def submit(client: Client) -> None:
            nonlocal is_sent
            if is_sent:
                with suppress(RequestRefusedError):  # it does not know them
                    client.job_states([descriptions[0]["name"]])
                    return
            is_sent = True
            client.submit(descriptions)

        self._failover.asked(client, submit)

    def _submit_each(self, client: Client, descriptions: Sequence[dict[str, Any]]) -> None:
        """The pilot takes all of a request or nothing, so find out which it does not take."""
        for description in descriptions:
            try:
                client.submit([description])
            except RequestRefusedError as error:
                self._refused(description["name"], error)

    def _refused(self, name: str, error: BaseException) -> None:
        with self._lock:
            job = self._jobs.pop(name)
        job.end()
        for future in job.futures:
            assert future is not None
            future.settle_with(error)
        self._over(len(job.futures))

    def _over(self, count: int) -> None:
        with self._lock:
            self._open -= count
            if not self._open:
                self._changed.notify_all()

    def _described(self, calls: Sequence[Call]) -> dict[str, Any] | None:
        """The description of a job; None: it is over already, because what it needs has failed."""
        options = calls[0].options
        needs = Needs(self, [slot.future for slot in calls[0].slots], options.after, self._folder)
        if needs.error is not None:
            for call in calls:
                call.future.settle_with(needs.error)
            self._over(len(calls))
            return None
        self._count += 1
        name = f"{calls[0].code.name}-{self.name}-{self._life}{self._count}"
        data = data_of(calls, needs.given)
        description = self._describe(options, data, needs.inputs, self._folder, b"".join(call.key for call in calls))
        description |= {"name": name, "iteration": {"start": 0, "stop": len(calls)}}
        if needs.after:
            description["dependencies"] = {"after": needs.after}
        for pos, call in enumerate(calls):
            call.future.task = f"{name}:{pos}"
        with self._lock:
            self._jobs[name] = SentJob(calls, needs.futures)
        return description

    # --- in ---------------------------------------------------------------------------------------------------------------

    def _receive_all(self) -> None:
        try:
            with self._lock:
                self._changed.wait_for(lambda: self._failover.client is not None or self.failure is not None)
            if self._failover.client is None:
                return
            client = self._failover.client.another()
            epoch, last = self._confirmed
            while not self._is_over():
                try:
                    found = self._ask(client, epoch, last, _WAIT_S)
                except RequestRefusedError:
                    raise
                except ConnectionError as error:
                    client = self._failover.next_client(error).another()
                    continue
                epoch, last = self._confirmed = found.epoch, found.last
                for ends in found.ends:
                    self._take_ends(ends)
                del found
                self._remove_old(client)
                with self._confirming:  # not before who is about to need some of it has been accepted
                    pass
        except BaseException as error:
            self._fail(error)

    def _ask(self, client: Client, epoch: str, after: int, wait_s: float, jobs: bool = False) -> replies.CallResults:
        members = {"executor": self.name, "epoch": epoch, "after": after, "wait": wait_s, "jobs": jobs}
        if self._is_named and self._connect_again is not None:  # else the pilot ends with us, and its journal has them
            members["keep"] = True
        return client.ask(replies.CallResults, "callResults", members, timeout_s=wait_s + _ANSWER_S)

    def _take_ends(self, ends: replies.CallEnds) -> None:
        job = self._jobs.get(ends.job)
        if job is None:  # of an earlier life
            return
        if ends.state == "EXECUTING":
            job.now_runs(ends.pos)
            return
        count = job.settle(ends, self._lock, keep=self._is_named)
        self.ends += count
        if not job.left and job.found is None:
            job.end()
            with self._lock:
                del self._jobs[ends.job]
                if not self._is_named:
                    self._ended.add(ends.job, len(job.futures))
        self._over(count)

    def _remove_old(self, client: Client) -> None:
        if old := self._ended.oldest():
            self._failover.asked(client, lambda client: client.remove(old))

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
