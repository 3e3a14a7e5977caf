"""Processes die while thousands of calls are under way: each gives its result once, or says why it has none."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, wait
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE_S
from process_state import children_of, command_line, kill

from pilotfish import Executor, LocalManager
from pilotfish.api.executor import LostCallError

CALLS = 700


def _below(executor: Executor, word: str) -> list[psutil.Process]:
    """Processes of its pilot with this word in their command line."""
    pilot = executor.pilot
    found = children_of(pilot._process.pid, recursive=True)  # type: ignore[attr-defined]
    return [process for process in found if word in " ".join(command_line(process))]


def _slowly(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def test_function_workers_are_killed() -> None:
    """Each kill costs at most the one call that was under way there; with retries it costs none."""
    kills = 0
    with Executor(2) as executor:
        plain = [executor.submit(abs, -number) for number in range(CALLS)]
        safe = [executor.options(retries=5).submit(abs, -number) for number in range(CALLS)]
        while not all(future.done() for future in (*plain, *safe)):
            workers = _below(executor, "functions/worker.py")
            if workers and kills < 20:
                kills += kill(random.choice(workers))
            wait(safe, 0.02)
        lost = [future for future in plain if future.exception() is not None]
        assert len(lost) <= kills
        assert all(isinstance(future.exception(), LostCallError) for future in lost)
        assert [future.result() for future in plain if future not in lost] == [
            number for number, future in enumerate(plain) if future not in lost
        ]
        assert [future.result() for future in safe] == list(range(CALLS))
    assert kills


def test_the_agent_is_killed(wait_until: Callable[..., None]) -> None:
    """Another one is started, and makes the calls that had not ended."""
    with Executor(2) as executor:
        futures = [executor.submit(_slowly, number, 0.002) for number in range(600)]
        wait_until(lambda: sum(future.done() for future in futures) > 50, "calls have ended")
        os.kill(min(process.pid for process in _below(executor, " agent ")), signal.SIGKILL)
        assert [future.result(4 * PATIENCE_S) for future in futures] == list(range(600))


def test_the_manager_is_killed(wait_until: Callable[..., None]) -> None:
    """An executor's own pilot cannot be had again: all that is open says so, and nothing is left behind."""
    executor = Executor(2)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(500)]
    wait_until(lambda: sum(future.done() for future in futures) > 20, "calls have ended")
    os.kill(executor.pilot._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    errors = [future.exception(PATIENCE_S) for future in futures]
    assert any(isinstance(error, BrokenExecutor) for error in errors)
    assert all(error is None or isinstance(error, BrokenExecutor) for error in errors)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, -1)
    executor.shutdown()


def test_the_manager_of_a_running_pilot_is_killed_and_resumed(wd: Path, wait_until: Callable[..., None]) -> None:
    """The executor goes on with the next one: each call has its result."""
    pilot = LocalManager(["--wd", wd, "--nodes", 2], {"log_file": os.devnull}, keep=True)
    with Executor(connect=wd) as executor:
        futures = [executor.submit(_slowly, number, 0.01) for number in range(300)]
        wait_until(lambda: sum(future.done() for future in futures) > 50, "calls have ended")
        pilot.send_signal(signal.SIGKILL)
        wait_until(lambda: pilot.exit_code is not None, "the manager is gone")
        again = LocalManager(["--resume", wd], {"log_file": os.devnull})
        futures += [executor.submit(abs, -number) for number in range(300, 350)]
        assert [future.result(4 * PATIENCE_S) for future in futures] == list(range(350))
    again.stop()
    pilot.close()
