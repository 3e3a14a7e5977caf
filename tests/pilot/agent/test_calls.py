"""Calls and the function workers that make them, at moments that are rare: here the test is the function worker."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pilotfish.pilot.agent.report_buffer import ReportBuffer
from pilotfish.pilot.agent.task_runner import ANNOUNCE_S, TaskRunner
from pilotfish.pilot.agent.task_starter import TaskStarter
from pilotfish.pilot.functions import worker as program
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import Calls, Execution
from pilotfish.pilot.wire import frames

POOL = PoolId(1)
NOW = socket.MSG_DONTWAIT


class FakeWorker:
    """A process that does nothing, and the end of the link that would be its own."""

    def __init__(self, descriptor: int) -> None:
        self.link = socket.socket(fileno=os.dup(descriptor))
        self.pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ, setpgroup=0)
        self.jobs: list[int] = []
        """Whose data it was sent."""

    def takes(self) -> tuple[int, int, int]:
        """The next call that it is sent."""
        job, pos, run, kind = program.CALL.unpack_from(self.link.recv(program.MOST_MESSAGE, NOW))
        if kind != program.KNOWN:
            self.jobs.append(job)
        return job, pos, run

    def ends(self, call: tuple[int, int, int]) -> None:
        now = time.time()
        self.link.send(program.END.pack(*call, program.RETURNED, now, now, 0.0, 1, 0) + program.OUTPUT.pack(0) + b"mN")

    def says_unknown(self, call: tuple[int, int, int]) -> None:
        end = program.END.pack(*call, program.UNKNOWN, 0.0, 0.0, 0.0, 1, 0)
        self.link.send(end + program.OUTPUT.pack(0))

    def dies(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.has_died()

    def has_died(self) -> int:
        """Wait for that; returns the signal. It is not reaped."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        return ended.si_status


class World:
    """A task runner with one grant for calls, and a clock to turn."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ends: list[frames.Finished] = []
        self.revoked: list[TaskKey] = []
        self.workers: list[FakeWorker] = []
        self.report_buffer = ReportBuffer()
        self.loop = Loop(clock=lambda: self.now)
        monkeypatch.setattr(TaskStarter, "spawn_function_worker", self._spawn)
        self.runner = TaskRunner("agent", 0, self.loop, self.report_buffer)
        self.runner.configure(frames.Settings(str(folder), str(folder), 1.0, 1.0, 1.0, {}, []))

    def _spawn(self, _: Execution, __: object, descriptors: dict[int, int]) -> tuple[int, bytes]:
        self.workers.append(FakeWorker(descriptors[0]))
        return self.workers[-1].pid, b"1"

    def take(self, *calls: tuple[int, int], grants: int = 1) -> None:
        """These calls come, each a job and a position, and so many grants."""
        jobs = [
            frames.JobDef(JobNo(job), f"job{job}", Execution(calls=Calls("executor", b"")), None, True)
            for job in sorted({job for job, _ in calls})
        ]
        share = frames.NodeShare("n1", ["0"], [])
        given = [frames.NewGrant(GrantId(number), POOL, [share], False, 0) for number in range(grants)]
        starts = [frames.TaskStart(JobNo(job), pos, 1, pos, None) for job, pos in calls]
        self.runner.take_work(jobs, given, {POOL: starts})
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        """What was sent is read, what has died is reaped, and so much time is over."""
        self.now += seconds
        self.loop.call_after(0.0, self.runner.reap)
        self.loop.turn(self.runner.start_waiting)
        report = self.report_buffer.seal()
        self.ends += report.finished
        self.revoked += report.revoked

    def ended(self) -> list[tuple[int, int, bool]]:
        return sorted((end.job_no, end.pos, end.exit_code == 0) for end in self.ends)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    found = World(tmp_path, monkeypatch)
    yield found
    for worker in found.workers:
        worker.link.close()
        with suppress(ProcessLookupError):  # it was reaped
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
    found.runner.close()
    found.loop.close()


def _ahead(world: World, count: int) -> FakeWorker:
    """A function worker that has made call 0 and was sent `count` more, of which it has read none."""
    world.take(*((1, pos) for pos in range(count + 1)))
    (worker,) = world.workers
    worker.ends(worker.takes())
    world.turn()
    return worker


def test_calls_are_sent_ahead(world: World) -> None:
    """To a worker whose calls are short: it finds the next one at once."""
    worker = _ahead(world, 3)
    assert [worker.takes() for _ in range(3)] == [(1, 1, 1), (1, 2, 1), (1, 3, 1)]
    assert worker.jobs == [1]


def test_a_call_that_was_not_begun_for_long_is_still_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that gets no processor time has not read its call when that counts as long: the call is not taken away."""
    worker = _ahead(world, 2)
    monkeypatch.setattr("pilotfish.pilot.agent.task_runner.clock.now", lambda: time.time() + 2 * ANNOUNCE_S)
    world.turn(2 * ANNOUNCE_S)
    assert worker.takes() == (1, 1, 1)
    with pytest.raises(BlockingIOError):
        worker.takes()
    worker.ends((1, 1, 1))
    world.turn()
    worker.ends(worker.takes())
    world.turn()
    assert world.ended() == [(1, 0, True), (1, 1, True), (1, 2, True)]


class SharedEnd:
    """The worker's end of the link as the agent has it: when that has taken so many calls back, the worker takes one."""

    def __init__(self, world: World, worker: FakeWorker, after: int) -> None:
        (known,) = world.runner._calls._workers.all()
        self._far = known.far
        known.far = self  # type: ignore[assignment]
        self._worker = worker
        self._after = after
        self.taken: list[tuple[int, int, int]] = []
        self._count = 0

    def recv(self, size: int, flags: int) -> bytes:
        self._count += 1
        if self._count == self._after + 1:
            self.taken.append(self._worker.takes())
        return self._far.recv(size, flags)

    def close(self) -> None:
        self._far.close()


def test_a_worker_begins_a_call_while_those_before_it_are_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read the same socket: the call that the worker has got is what it does, and those before it are made later."""
    worker = _ahead(world, 4)
    shared = SharedEnd(world, worker, 2)
    monkeypatch.setattr("pilotfish.pilot.agent.task_runner.clock.now", lambda: time.time() + 2 * ANNOUNCE_S)
    world.turn(2 * ANNOUNCE_S)
    assert shared.taken == [(1, 3, 1)]
    worker.ends((1, 3, 1))
    world.turn()
    for _ in range(3):
        worker.ends(worker.takes())
        world.turn()
    assert world.ended() == [(1, pos, True) for pos in range(5)]


def test_a_call_whose_data_is_taken_back_while_the_worker_begins_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's data comes with its first call: a worker that has only got the second says so, and gets it with the data."""
    world.take((1, 0), (1, 1), (2, 0), (2, 1))
    (worker,) = world.workers
    worker.ends(worker.takes())
    world.turn()
    first = worker.takes()
    shared = SharedEnd(world, worker, 1)
    monkeypatch.setattr("pilotfish.pilot.agent.task_runner.clock.now", lambda: time.time() + 2 * ANNOUNCE_S)
    world.turn(2 * ANNOUNCE_S)
    assert shared.taken == [(2, 1, 1)]
    worker.ends(first)
    worker.says_unknown((2, 1, 1))
    world.turn()
    for _ in range(2):
        worker.ends(worker.takes())
        world.turn()
    assert worker.jobs == [1, 2]
    assert world.ended() == [(1, 0, True), (1, 1, True), (2, 0, True), (2, 1, True)]


def test_what_a_worker_has_taken_that_says_nothing_that_counts_is_made_again(
    world: World, wait_until: Callable[..., None]
) -> None:
    """But for the call that it is busy with as far as one knows."""
    worker = _ahead(world, 3)
    worker.takes()
    worker.takes()
    worker.link.send(b"garbage")
    world.turn()

    def is_lost() -> bool:
        world.turn()
        return len(world.ends) == 2

    wait_until(is_lost, "the call is lost")
    again = world.workers[1]
    for _ in range(2):
        again.ends(again.takes())
        world.turn()
    assert world.ended() == [(1, 0, True), (1, 1, False), (1, 2, True), (1, 3, True)]


def test_what_was_sent_ahead_can_be_killed(world: World) -> None:
    """It waits in the link, but that is as good as waiting here."""
    worker = _ahead(world, 3)
    assert worker.takes() == (1, 1, 1)
    world.runner.kill([TaskKey(JobNo(1), 2, 1)])
    world.turn()
    assert world.ended() == [(1, 0, True), (1, 2, False)]
    worker.ends((1, 1, 1))
    world.turn()
    assert worker.takes() == (1, 3, 1)


def test_a_call_is_killed_that_has_begun_unseen(world: World) -> None:
    """The end of the one before it was not read yet."""
    worker = _ahead(world, 2)
    worker.ends(worker.takes())
    assert worker.takes() == (1, 2, 1)
    world.runner.kill([TaskKey(JobNo(1), 2, 1)])
    assert worker.has_died() == signal.SIGTERM


def test_a_call_that_a_signal_for_another_one_has_hit_is_made_again(world: World) -> None:
    """The one that was to be stopped had just ended, and its worker had begun the next."""
    worker = _ahead(world, 2)
    first = worker.takes()
    world.runner.kill([TaskKey(JobNo(1), 1, 1)])
    worker.ends(first)
    assert worker.takes() == (1, 2, 1)
    world.turn()
    again = world.workers[1]
    again.ends(again.takes())
    world.turn()
    assert world.ended() == [(1, 0, True), (1, 1, True), (1, 2, True)]


@pytest.mark.parametrize(
    "message",
    [b"", b"garbage", program.END.pack(7, 7, 7, 0, 0.0, 0.0, 0.0, 0, 0), b"x" * 100],
    ids=["nothing", "garbage", "another call", "long"],
)
def test_a_worker_that_sends_what_is_no_end(world: World, message: bytes, wait_until: Callable[..., None]) -> None:
    """It is killed, and its call with it; everything else goes on."""
    world.take((1, 0), (1, 1))
    worker = world.workers[0]
    worker.takes()
    worker.link.send(message)

    def is_lost() -> bool:  # perhaps in the turn in which it is killed
        world.turn()
        return bool(world.ends)

    wait_until(is_lost, "the call is lost")
    ends = [(end.pos, end.exit_code, end.message.partition(": ")[0]) for end in world.ends]
    assert ends == [(0, -signal.SIGKILL, "its process was killed")]
    again = world.workers[1]
    again.ends(again.takes())
    world.turn()
    assert world.ended() == [(1, 0, False), (1, 1, True)]


def test_an_idle_worker_that_has_died_gets_no_call(world: World) -> None:
    """Also when that was not noticed yet."""
    world.take((1, 0))
    worker = world.workers[0]
    worker.ends(worker.takes())
    world.turn()
    worker.dies()
    world.runner.take_work([], [frames.NewGrant(GrantId(9), POOL, [frames.NodeShare("n1", ["0"], [])], False, 0)], {
        POOL: [frames.TaskStart(JobNo(1), 1, 1, 1, None)]
    })  # fmt: skip
    world.runner.start_waiting()
    again = world.workers[1]
    again.ends(again.takes())
    world.turn()
    assert world.ended() == [(1, 0, True), (1, 1, True)]


def test_a_worker_is_sent_again_what_it_has_forgotten(world: World) -> None:
    """It keeps the data of a few jobs, the newest; a call of an older one may come later."""
    many = program.MOST_JOBS + 2
    world.take(*((job, 0) for job in range(1, many)), (1, 1), (many - 1, 1))
    worker = world.workers[0]
    for _ in range(many + 1):
        worker.ends(worker.takes())
        world.turn()
    assert worker.jobs == [*range(1, many), 1]


def test_an_agent_that_ends_begins_no_call(world: World) -> None:
    """What was sent ahead goes back to the manager."""
    worker = _ahead(world, 3)
    first = worker.takes()
    world.runner.stop_all()
    worker.ends(first)
    world.turn()
    assert [key.pos for key in world.revoked] == [2, 3]
    assert len(world.workers) == 1
    assert not world.runner.running


@pytest.mark.parametrize("what", ["socketpair", "memory_file"])
def test_no_room_for_a_worker(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """As for any process: the call waits until there is some."""

    def none(*_: object) -> None:
        raise OSError(24, "Too many open files")

    where = "pilotfish.pilot.agent.function_workers"
    with monkeypatch.context() as refused:
        refused.setattr(f"{where}.socket.socketpair" if what == "socketpair" else f"{where}.memory_file", none)
        world.take((1, 0))
        assert not world.workers
    world.turn(1.0)
    world.turn()
    worker = world.workers[0]
    worker.ends(worker.takes())
    world.turn()
    assert world.ended() == [(1, 0, True)]
