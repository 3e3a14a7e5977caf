"""A machine that has no room for another process just now: the start waits, but not for ever. In this process, by worker."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pilotfish.pilot.agent.report_buffer import ReportBuffer
from pilotfish.pilot.agent.task_runner import TaskRunner
from pilotfish.pilot.loop import Loop
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames

POOL = PoolId(1)


class World:
    """A task runner with one task to start, a clock to turn, and a system that refuses the next `refusals` processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
        self.now = 0.0
        self.report_buffer = ReportBuffer()
        self.loop = Loop(clock=lambda: self.now)
        self.runner = TaskRunner("agent", 0, self.loop, self.report_buffer)
        self.runner.configure(frames.Settings(str(folder), str(folder), 1.0, 1.0, 1.0, {}, []))
        self.refusals = refusals
        self._spawn = os.posix_spawn
        monkeypatch.chdir(folder)
        monkeypatch.setattr(os, "posix_spawn", self._refuse_or_spawn)
        job = frames.JobDef(JobNo(1), "job", Execution(exec="true"), None, False)
        grant = frames.NewGrant(GrantId(1), POOL, [frames.NodeShare("n1", ["0"], [])], False, 0)
        self.runner.take_work([job], [grant], {POOL: [frames.TaskStart(JobNo(1), 0, 1, None, None)]})
        self.runner.start_waiting()

    def _refuse_or_spawn(self, *arguments: object, **options: object) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self._spawn(*arguments, **options)  # type: ignore[arg-type]

    def wait_a_moment(self) -> None:
        self.now += 0.2
        self.loop.turn(self.runner.start_waiting)


def test_a_start_is_tried_again_a_moment_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, refusals=3)
    for _ in range(3):
        assert not world.runner.running
        world.wait_a_moment()
    (pid,) = world.runner.running
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    world.runner.reap()
    (end,) = world.report_buffer.seal().finished
    assert (end.exit_code, end.returns_grant) == (0, True)


def test_a_start_that_never_succeeds_is_given_up_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, refusals=1_000_000)
    for _ in range(100):
        assert world.report_buffer.empty
        world.wait_a_moment()
    report = world.report_buffer.seal()
    (end,) = report.finished
    assert (end.cause, end.pid) == (frames.Cause.NOT_STARTED, -1)
    assert "Resource temporarily unavailable" in end.message
    assert report.returned == [GrantId(1)]
