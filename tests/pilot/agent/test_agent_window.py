"""An agent that hears nothing, or is stopped, starts nothing that its manager may have given to others meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_manager import POOL, FakeManager, iterations
from process_state import children_of

from pilotfish.pilot.model.ids import TaskKey
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames

WINDOW_S = 0.6
QUICK, SLOW = 40, 12
TASK_S = 0.2


class Pilot:
    """An agent with one core that has learnt that tasks are quick, and so has dealt out many, which turn out to be slow."""

    def __init__(self, manager: FakeManager, folder: Path) -> None:
        self.manager = manager
        self.runs = folder / "runs"
        self.agent: subprocess.Popen[bytes] = manager.start_agent()
        manager.answers = True
        manager.until(lambda heard: bool(heard.hellos))
        script = f"echo ${{it}} >> {self.runs}; [ ${{it}} -lt {QUICK} ] || sleep {TASK_S}"
        self.job = manager.job("many", Execution(exec="/bin/sh", args=("-c", script)), is_iteration=True)
        manager.work([self.job], [manager.grant()], {POOL: iterations(self.job, QUICK + SLOW)})
        manager.until(lambda heard: len(heard.finished) > QUICK)

    @property
    def started(self) -> list[str]:
        return self.runs.read_text().split()

    @property
    def workers(self) -> list[psutil.Process]:
        return children_of(self.agent.pid)

    def finish(self) -> None:
        """All have been started, each once."""
        self.manager.until(lambda heard: len({finished.pos for finished in heard.finished}) == QUICK + SLOW, 60)
        assert Counter(self.started) == Counter(map(str, range(QUICK + SLOW)))


@pytest.fixture
def pilot(tmp_path: Path) -> Iterator[Pilot]:
    with FakeManager(tmp_path, heartbeat_s=0.05, window_s=WINDOW_S) as manager:
        yield Pilot(manager, tmp_path)


def pass_by(seconds: float) -> None:
    """How long something lasts is what these tests are about; nothing is waited for here."""
    time.sleep(seconds)


def test_worker_processes_whose_agent_is_stopped_start_nothing_more(pilot: Pilot) -> None:
    """... than what takes the window; and go on when it does."""
    pilot.agent.send_signal(signal.SIGSTOP)
    before = len(pilot.started)
    pass_by(3 * WINDOW_S)
    assert len(pilot.started) - before <= WINDOW_S / TASK_S + 2
    pilot.agent.send_signal(signal.SIGCONT)
    pilot.finish()


def test_an_agent_that_hears_nothing_starts_nothing_more(pilot: Pilot) -> None:
    """It cannot know whether its manager is gone, which would not matter, or has given it up."""
    before = len(pilot.started)
    pass_by(3 * WINDOW_S)  # in which nobody reads what it says, or answers
    assert len(pilot.started) - before <= WINDOW_S / TASK_S + 2
    pilot.finish()


def test_what_was_given_to_others_while_an_agent_was_stopped_is_never_started(pilot: Pilot) -> None:
    """All of its processes were, and all go on at once: the first thing is a Hello, and the answer says what is not its own.

    What its manager had sent before it gave it up lies in the socket, and is no permission.
    """
    manager = pilot.manager
    stopped = [pilot.agent.pid, *(each.pid for each in pilot.workers)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    before = pilot.started
    for _ in range(10):
        manager.send(frames.Ack(0))
    pass_by(2 * WINDOW_S)
    manager.answers = False
    count = len(manager.heard.hellos)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    manager.until(lambda heard: len(heard.hellos) > count)
    hello = manager.heard.hellos[-1]
    waiting = [TaskKey(*key) for keys in hello.waiting.values() for key in keys]
    assert waiting
    manager.send(frames.Welcome(manager.epoch, manager.settings, hello.number), frames.Kill(waiting))
    manager.answers = True
    ended = {key[1] for key in waiting}
    manager.until(lambda heard: ended <= {finished.pos for finished in heard.finished}, 60)
    never = {finished.pos for finished in manager.heard.finished if finished.pid == -1}
    assert not never & {int(it) for it in pilot.started}
    assert len(pilot.started) - len(before) <= 1  # it was about to start as it was stopped
