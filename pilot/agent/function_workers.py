"""The function workers of one worker process: started, given calls, read, sent away.

A call is an attempt like any other: it runs on a grant, has limits, and is killed with its process. But that process is there
before it and mostly outlives it. A function worker belongs to the grant of the call that it has; between two it is idle, holds
no core, and is taken by the next call that wants one like it (`Wants`), rather one that was bound to the same processors.

Short calls are sent ahead: then a function worker is never idle between two, and a turn of the loop serves many. What was sent
and not begun still waits here, too (`ahead`): it can be taken back out of the socket, of which we have both ends. That is done
when a call turns out to be long, and when a function worker has died; so its death costs one attempt, of the call it had.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import msgspec

from ..functions import worker as program
from ..loop import Loop
from ..model.ids import JobNo
from ..model.job_spec import Execution
from ..wire.frames import NamedShare, TaskStart
from .tasks import HeldGrant, Task

log = logging.getLogger(__name__)

AHEAD_S = 0.004
"""Work that a function worker has beyond the call it is busy with."""
_MOST_AHEAD = 48
_SHORTEST_S = 1e-6
_WEIGHT = 0.2
"""Of the last call in the moving average of how long they take."""
_INLINE_BYTES = 32 << 10
_IDLE_S = 60.0
"""A function worker that has had no call for so long ends."""
_MOST_END = 256 << 10
_MOST_OUTPUT = 8192
_NO_SETUP = msgspec.msgpack.encode(([], b""))
_SITE = os.path.dirname(os.path.dirname(os.path.abspath(msgspec.__file__)))
"""Where packages are that the user's Python may lack."""
_NOW = socket.MSG_DONTWAIT


class Wants(NamedTuple):
    """What must be equal for a function worker to serve a call."""

    execution: Execution
    setup: bytes
    folder: str
    cores: int
    gpu_ids: tuple[str, ...]
    named: tuple[NamedShare, ...]
    hide_gpus: bool
    mem_bytes: int
    nodes: int
    starts: bytes = b""
    """How ranks of MPI functions are started on the grant (rank_starts.py)."""


class Ended(NamedTuple):
    """The end of one call, as its function worker tells it. `data`: what was printed, and the value."""

    start: TaskStart
    how: int
    started_s: float
    ended_s: float
    cpu_s: float
    max_rss_kib: int
    message: str
    data: bytes


class FunctionWorker:
    """One process. `task`: the call it is busy with, None when it is idle."""

    __slots__ = ("ahead", "calls", "cpus", "far", "idle_since_s", "is_dead", "knows", "link", "mean_s", "output", "pid",
                 "rss_kib", "step_id", "task", "wants")  # fmt: skip

    def __init__(
        self, wants: Wants, pid: int, step_id: bytes, link: socket.socket, far: socket.socket, output: int
    ) -> None:
        self.wants = wants
        self.pid = pid
        self.step_id = step_id
        self.link = link
        self.far = far
        """Its own end."""
        self.output = output
        self.cpus: frozenset[int] = frozenset()
        self.task: Task | None = None
        self.ahead: deque[TaskStart] = deque()
        self.knows: dict[JobNo, None] = {}
        """The jobs whose data it has, as it keeps them: the newest ones."""
        self.calls = 0
        self.mean_s: float | None = None
        self.rss_kib = 0
        self.idle_since_s = 0.0
        self.is_dead = False

    @property
    def most_ahead(self) -> int:
        return 0 if self.mean_s is None else min(_MOST_AHEAD, int(AHEAD_S / max(self.mean_s, _SHORTEST_S)))

    def close(self) -> None:
        self.link.close()
        self.far.close()
        os.close(self.output)


class FunctionWorkers:
    """All of one task runner. `spawn` starts the process of one for a grant: (execution, grant, its descriptors by number);
    `on_readable` is called when one may have told of ends.
    """

    def __init__(
        self,
        loop: Loop,
        spawn: Callable[[Execution, HeldGrant, dict[int, int]], tuple[int, bytes]],
        on_readable: Callable[[FunctionWorker], None],
    ) -> None:
        self._loop = loop
        self._spawn = spawn
        self._on_readable = on_readable
        self._workers: dict[int, FunctionWorker] = {}
        self._idle: list[FunctionWorker] = []
        """The one that was busy last at the end."""
        self._data_files: dict[JobNo, int] = {}
        self._looks = False

    def get(self, pid: int) -> FunctionWorker | None:
        return self._workers.get(pid)

    def all(self) -> list[FunctionWorker]:
        return list(self._workers.values())

    # --- one for a call -----------------------------------------------------------------------------------------------------

    def worker_for(self, wants: Wants, held: HeldGrant) -> FunctionWorker:
        """An idle one, or a new one. Raises as `spawn`."""
        alike = [worker for worker in self._idle if worker.wants == wants and not has_ended(worker.pid)]
        for worker in reversed(alike):
            if worker.cpus == held.cpus:
                self._idle.remove(worker)
                return worker
        if alike:
            worker = alike[-1]
            self._idle.remove(worker)
            _bind(worker.pid, held.cpus)
            worker.cpus = held.cpus
            return worker
        return self._new(wants, held)

    def _new(self, wants: Wants, held: HeldGrant) -> FunctionWorker:
        link, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output = -1
        try:
            output = memory_file()
            fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)  # emptied after each call, and filled from its begin again
            execution = replace(
                wants.execution,
                exec=wants.execution.exec or sys.executable,
                args=(program.__file__, _SITE, wants.folder),
            )
            pid, step_id = self._spawn(execution, held, {0: far.fileno(), 1: output, 2: output})
        except BaseException:
            link.close()
            far.close()
            if output >= 0:
                os.close(output)
            raise
        worker = self._workers[pid] = FunctionWorker(wants, pid, step_id, link, far, output)
        worker.cpus = held.cpus
        self._loop.on_readable(link.fileno(), lambda: self._on_readable(worker))
        if wants.setup or wants.starts:
            try:
                setup = (wants.setup or _NO_SETUP) + wants.starts
                self._send_large(worker, (0, 0, 0), setup, program.SETUP, None)
            except OSError:
                self.dismiss(worker)
                raise
        return worker

    # --- out ----------------------------------------------------------------------------------------------------------------

    def send(self, worker: FunctionWorker, start: TaskStart, data: bytes) -> None:
        """Give it this call, of the job with these functions and arguments. Raises OSError when there is no room for it: in its
        socket, or for a file with them. One that has died takes it, too, as its end of the link is open here.
        """
        call = start.job_no, start.pos, start.run
        if start.job_no in worker.knows:
            worker.link.send(program.CALL.pack(*call, program.KNOWN), _NOW)
            return
        self._send_large(worker, call, data, program.DATA, start.job_no)
        worker.knows[start.job_no] = None
        if len(worker.knows) > program.MOST_JOBS:
            del worker.knows[next(iter(worker.knows))]

    def _send_large(
        self, worker: FunctionWorker, call: tuple[int, int, int], data: bytes, kind: int, job_no: JobNo | None
    ) -> None:
        """`kind` is that for data inline; the next one is that for the name of a file."""
        if len(data) > _INLINE_BYTES:
            descriptor = None if job_no is None else self._data_files.get(job_no)
            if descriptor is None:
                descriptor = memory_file(data)
                self._data_files[job_no or JobNo(-worker.pid)] = descriptor
            kind, data = kind + 1, b"/proc/%d/fd/%d" % (os.getpid(), descriptor)
        worker.link.send(program.CALL.pack(*call, kind) + data, _NOW)

    def take_back(self, worker: FunctionWorker) -> list[TaskStart]:
        """What it has not begun, in order: it will not get it any more. The first may be the call that it is to make now."""
        found: set[tuple[int, int, int]] = set()
        with suppress(OSError):
            while message := worker.far.recv(_INLINE_BYTES + program.CALL.size, _NOW):
                job_no, pos, run, kind = program.CALL.unpack_from(message)
                found.add((job_no, pos, run))
                if kind in (program.DATA, program.FILE):
                    worker.knows.pop(JobNo(job_no), None)
        now = [] if worker.task is None else [worker.task.start]
        back = [start for start in (*now, *worker.ahead) if start[:3] in found]
        worker.ahead = deque(start for start in worker.ahead if start[:3] not in found)
        return back

    def forget(self, job_no: JobNo) -> None:
        descriptor = self._data_files.pop(job_no, None)
        if descriptor is not None:
            os.close(descriptor)

    # --- in -----------------------------------------------------------------------------------------------------------------

    def read(self, worker: FunctionWorker) -> Ended | None:
        """The next end that it tells of, of the call that it was busy with; None when there is none now.

        The user's code can write to its link, too: whoever sends what is no end has no more to say.
        """
        if worker.task is None:
            return None
        try:
            message = worker.link.recv(_MOST_END, _NOW)
        except OSError:
            return None
        try:
            ended = _end_of(worker.task.start, message)
        except (ValueError, OSError, struct.error) as error:
            self.give_up(worker, f"what it says of the end cannot be: {error}")
            return None
        worker.calls += 1
        worker.rss_kib = ended.max_rss_kib
        took_s = ended.ended_s - ended.started_s
        worker.mean_s = took_s if worker.mean_s is None else worker.mean_s + _WEIGHT * (took_s - worker.mean_s)
        return ended

    # --- between calls and at the end -----------------------------------------------------------------------------------------

    def rest(self, worker: FunctionWorker, max_calls: int, max_bytes: int) -> None:
        """It has no call any more: keep it, or let it end if it has had so many calls, or has grown beyond that."""
        worker.task = None
        if (
            worker.is_dead
            or (max_calls and worker.calls >= max_calls)
            or (max_bytes and worker.rss_kib > max_bytes >> 10)
        ):
            self.dismiss(worker)
            return
        worker.idle_since_s = self._loop.clock()
        self._idle.append(worker)
        if not self._looks:
            self._looks = True
            self._loop.call_after(_IDLE_S, self._look)

    def _look(self) -> None:
        before_s = self._loop.clock() - _IDLE_S
        for worker in [worker for worker in self._idle if worker.idle_since_s <= before_s]:
            self.dismiss(worker)
        self._looks = bool(self._idle)
        if self._looks:
            self._loop.call_after(_IDLE_S, self._look)

    def give_up(self, worker: FunctionWorker, why: str) -> None:
        """Nothing comes of its call any more: that is lost with the process."""
        log.warning("calls.given_up", extra={"pid": worker.pid, "reason": why})
        if worker.task is not None:
            worker.task.message = f"its process was killed: {why}"
        with suppress(OSError):
            os.killpg(worker.pid, signal.SIGKILL)

    def dismiss(self, worker: FunctionWorker) -> None:
        """It ends as soon as it looks for its next call."""
        if self._workers.pop(worker.pid, None) is not None:
            if worker in self._idle:
                self._idle.remove(worker)
            self._loop.forget(worker.link.fileno())
            self.forget(JobNo(-worker.pid))
            worker.close()

    def last_words(self, worker: FunctionWorker) -> bytes:
        """What its call has printed so far: the end of that."""
        size = os.fstat(worker.output).st_size
        return os.pread(worker.output, _MOST_OUTPUT, max(0, size - _MOST_OUTPUT))

    def close(self) -> None:
        for worker in list(self._workers.values()):
            self.dismiss(worker)
        for descriptor in self._data_files.values():
            os.close(descriptor)
        self._data_files.clear()


def memory_file(data: bytes = b"") -> int:
    """A file without a name, in memory where this Python can make such: those of Miniforge and uv are built without."""
    descriptor = -1
    with suppress(AttributeError, OSError):
        descriptor = os.memfd_create("pilotfish")
    if descriptor < 0:
        import tempfile

        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        descriptor, path = tempfile.mkstemp(dir=folder)
        os.unlink(path)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def _end_of(start: TaskStart, message: bytes) -> Ended:
    """What a message says about the end of this call. Raises ValueError, OSError or struct.error when it does not."""
    job_no, pos, run, how, started_s, ended_s, cpu_s, rss_kib, length = program.END.unpack_from(message)
    if start[:3] != (job_no, pos, run):
        raise ValueError(f"it is about {job_no}:{pos}, not {start.job_no}:{start.pos}")
    begin = program.END.size + length
    line = message[program.END.size : begin].decode(errors="replace") if length else ""
    data = message[begin:]
    if how >= program.IN_FILE:
        how, data = how - program.IN_FILE, _read_and_remove(data)
    return Ended(start, how, started_s, max(started_s, ended_s), max(0.0, cpu_s), rss_kib, line, data)


def has_ended(pid: int) -> bool:
    """This child only waits to be reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # it has been reaped already
        return True


def _read_and_remove(path: bytes) -> bytes:
    """Empty when it is not there: somebody clears the folder for temporary files."""
    try:
        with open(path, "rb") as file:
            os.unlink(path)
            return file.read()
    except OSError as error:
        log.warning("call.value_lost", extra={"file": os.fsdecode(path), "reason": error})
        return b""


def _bind(pid: int, cpus: frozenset[int]) -> None:
    """Bind all its threads; it may be about to end."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus or os.sched_getaffinity(0))


def with_output(printed: bytes, value: bytes = b"") -> bytes:
    """As the end of a call has it."""
    return program.OUTPUT.pack(len(printed)) + printed + value
