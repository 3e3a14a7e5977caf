"""Pilots and forks of the program around them: a child has a connection of its own, and its end is nobody else's."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import PATIENCE_S
from process_state import has_ended

from pilotfish import Jobs, LocalManager, Manager
from pilotfish.api.errors import ConnectionError, TimeoutElapsed, WrongArgumentsError
from pilotfish.pilot.wire import connection

QUIET = {"log_file": os.devnull}


@pytest.fixture
def pilot(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--nodes", "2"], QUIET) as pilot:
        yield pilot


def in_child(work: Callable[[], object]) -> str:
    """What `work` returns, or raises, in a forked child. Fails when the child does not end, its exit by Python included."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    killer = threading.Timer(PATIENCE_S, os.kill, (child, signal.SIGKILL))
    killer.start()
    with open(read_end) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    assert status == 0, f"the child hung: {said}"
    return said


def _run(pilot: Manager, name: str) -> dict[str, str]:
    pilot.submit(Jobs().add(name=name, exec="true"))
    return pilot.wait4(name, timeout=PATIENCE_S)


CALLS: dict[str, tuple[Callable[[Manager], object], str]] = {
    "list": (lambda pilot: list(pilot.list()), "['before']"),
    "submit and wait4": (lambda pilot: _run(pilot, "child"), "{'child': 'SUCCEED'}"),
    "wait4all": (lambda pilot: pilot.wait4all(PATIENCE_S), "None"),
    "wait4_any_job_finish": (lambda pilot: pilot.wait4_any_job_finish(PATIENCE_S), "('child', 'SUCCEED')"),
    "resources": (lambda pilot: pilot.resources()["total_cores"], "2"),
    "info": (lambda pilot: pilot.info_parsed("before")["before"].status, "'SUCCEED'"),
}


def test_a_pilot_made_before_a_fork_is_used_in_the_child(pilot: LocalManager) -> None:
    assert _run(pilot, "before") == {"before": "SUCCEED"}
    for work, said in CALLS.values():
        assert in_child(partial(work, pilot)) == said
    assert _run(pilot, "after") == {"after": "SUCCEED"}


def test_a_plain_manager_is_used_in_the_child(pilot: LocalManager) -> None:
    manager = Manager(str(pilot.connection_file), QUIET)
    assert in_child(lambda: _run(manager, "child")) == "{'child': 'SUCCEED'}"
    assert _run(manager, "parent") == {"parent": "SUCCEED"}
    manager.close()


def test_a_fork_while_other_threads_wait_is_used_in_the_child(pilot: LocalManager) -> None:
    """Whatever locks the other threads hold at that moment: they do not exist in the child."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            pilot.list()
            with pytest.raises(TimeoutElapsed):
                pilot.wait4("long", 0.01)

    pilot.submit(Jobs().add(name="long", exec="sleep", args=[1000]))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            assert in_child(partial(_run, pilot, f"child-{number}")).count("SUCCEED") == 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    pilot.cancel("long")


_shared: list[LocalManager] = []
"""What the processes of a pool inherit."""


def _in_pool(number: int) -> str:
    return _run(_shared[0], f"pool-{number}")[f"pool-{number}"]


def test_the_processes_of_a_pool_share_a_pilot(pilot: LocalManager) -> None:
    _shared.append(pilot)
    try:
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map_async(_in_pool, range(9)).get(PATIENCE_S) == ["SUCCEED"] * 9
    finally:
        _shared.clear()
    assert _run(pilot, "parent") == {"parent": "SUCCEED"}


ENDS: dict[str, Callable[[LocalManager], object]] = {
    "finish": lambda pilot: pilot.finish(),
    "stop": lambda pilot: pilot.stop(),
    "kill_manager_process": lambda pilot: pilot.kill_manager_process(),
    "send_signal": lambda pilot: pilot.send_signal(signal.SIGTERM),
    "exit_code": lambda pilot: pilot.exit_code,
}


def test_only_the_process_that_started_a_pilot_ends_it(pilot: LocalManager) -> None:
    refused = f"ServiceError: this pilot is not this process's to end: process {os.getpid()} started it; "
    for end in ENDS.values():
        assert in_child(partial(end, pilot)).startswith(refused)
    assert _run(pilot, "a") == {"a": "SUCCEED"}


@pytest.mark.parametrize(
    "leave",
    [
        "sys.exit(0)",
        "pilot.list(); raise ValueError",
        "pilot.__exit__(None, None, None); del pilot; gc.collect(); sys.exit(0)",
        "os._exit(0)",
    ],
)
def test_a_child_that_ends_does_not_end_the_pilot(wd: Path, leave: str) -> None:
    """It leaves the `with` block of its parent, runs what is to run at exit, and is gone."""
    program = f"""
import gc, os, sys
from pilotfish import Jobs, LocalManager
with LocalManager(["--wd", {str(wd)!r}, "--nodes", "2"], {QUIET!r}) as pilot:
    pilot.submit(Jobs().add(name="a", script="while [ ! -e go ]; do sleep 0.02; done"))
    child = os.fork()
    if child == 0:
        {leave}
    os.waitpid(child, 0)
    open("go", "w").close()
    print(pilot.wait4("a", 60), pilot.exit_code)
print(pilot.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S * 2, check=False
    )
    assert done.stdout == "{'a': 'SUCCEED'} None\n0\n", done.stderr


def test_a_child_does_not_keep_the_pilot_alive_when_its_parent_has_died(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    program = f"""
import os, time
from pilotfish import LocalManager
pilot = LocalManager(["--wd", {str(wd)!r}, "--nodes", "1"], {QUIET!r})
child = os.fork()
if child == 0:
    time.sleep(1000)
with open({str(wd / "pids.new")!r}, "w") as file:
    file.write(f"{{pilot._process.pid}} {{child}}")
os.rename({str(wd / "pids.new")!r}, {str(wd / "pids")!r})
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=wd)
    wait_until((wd / "pids").exists, "the pilot and the child", PATIENCE_S)
    service, child = map(int, (wd / "pids").read_text().split())
    parent.kill()
    parent.wait()
    wait_until(lambda: has_ended(service), "the pilot ends with the process that started it", PATIENCE_S)
    assert not has_ended(child)
    os.kill(child, signal.SIGKILL)


def test_a_pilot_that_was_closed_stays_closed_in_the_child(pilot: LocalManager) -> None:
    manager = Manager(str(pilot.connection_file), QUIET)
    manager.close()
    assert in_child(lambda: manager.list()).startswith("ConnectionError: ")


# --- other ways into another process --------------------------------------------------------------------------------------


def test_a_process_that_is_not_forked_gets_a_connection_of_its_own(pilot: LocalManager, wd: Path) -> None:
    """What it is given is pickled. A program of its own, because multiprocessing leaves helpers to the program's end."""
    program = f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pilotfish import Jobs, Manager
if __name__ == "__main__":
    manager = Manager({str(pilot.connection_file)!r}, {QUIET!r})
    manager.submit(Jobs().add(name="a", exec="true"))
    for how in ("spawn", "forkserver"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(how)) as executor:
            print(executor.submit(Manager.wait4, manager, "a").result())
    print(manager.list())
"""
    (wd / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == "{'a': 'SUCCEED'}\n" * 2 + "{'a': {'status': 'SUCCEED'}}\n", done.stderr


def test_a_copy_is_a_manager_that_ends_nothing_and_has_no_keys_in_it(pilot: LocalManager) -> None:
    data = pickle.dumps(pilot)
    assert str(pilot.connection_file).encode() in data
    assert b"secret" not in data
    for other in (pickle.loads(data), copy.copy(pilot), copy.deepcopy(pilot)):
        assert type(other) is Manager
        assert _run(other, "x") == {"x": "SUCCEED"}
        other.remove("x")
        other.close()
    assert pilot.exit_code is None


def test_what_is_closed_says_so_whatever_is_asked(pilot: LocalManager) -> None:
    manager = Manager(str(pilot.connection_file), QUIET)
    manager.close()
    manager.close()
    asked: list[Callable[[], object]] = [
        manager.list,
        lambda: manager.wait4("a", 1),
        lambda: manager.wait4all(1),
        lambda: manager.wait4_any_job_finish(1),
        lambda: manager.submit(Jobs().add(exec="true")),
        lambda: pickle.dumps(manager),
    ]
    for ask in asked:
        with pytest.raises(ConnectionError, match="this connection was closed; make a new Manager"):
            ask()


# --- time limits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def frozen(pilot: LocalManager) -> Iterator[LocalManager]:
    """A pilot with a job that does not end, whose manager has been stopped."""
    pilot.submit(Jobs().add(name="long", exec="sleep", args=[1000]))
    service = psutil.Process(connection.read(pilot.connection_file).pid)
    service.suspend()
    yield pilot
    service.resume()
    pilot.cancel("long")


def test_the_limit_of_a_waiting_call_holds_when_the_pilot_is_silent(frozen: LocalManager) -> None:
    """It is far below that of a request, 60 s."""
    begin = time.monotonic()
    with pytest.raises(TimeoutElapsed):
        frozen.wait4("long", 0.2)
    with pytest.raises(TimeoutElapsed):
        frozen.wait4all(0.2)
    with pytest.raises(TimeoutElapsed):
        frozen.wait4_any_job_finish(0.2)
    assert time.monotonic() - begin < 45


def test_the_limit_of_a_request_holds_while_another_thread_waits_for_its_answer(
    frozen: LocalManager, wait_until: Callable[..., None]
) -> None:
    other = threading.Thread(target=frozen.list)
    other.start()
    wait_until(frozen._channel._lock.locked, "the other thread waits")
    begin = time.monotonic()
    with pytest.raises(TimeoutElapsed):
        frozen.wait4("long", 0.2)
    with pytest.raises(ConnectionError, match=r"no answer to 'status' in 0\.1 s"):
        frozen._channel.request({"request": "status"}, 0.1)
    assert time.monotonic() - begin < 45
    psutil.Process(connection.read(frozen.connection_file).pid).resume()
    other.join()


def test_a_limit_of_nothing_still_tells_what_has_ended(pilot: LocalManager) -> None:
    _run(pilot, "a")
    other = Manager(pilot.connection_file, QUIET)
    assert pilot.wait4("a", 0) == {"a": "SUCCEED"}
    pilot.wait4all(0)
    pilot.submit(Jobs().add(name="b", exec="true"))
    other.wait4all(PATIENCE_S)
    assert pilot.wait4_any_job_finish(0) == ("b", "SUCCEED")


@pytest.mark.parametrize("limit", [float("nan"), "2", True, [], 1j])
def test_what_is_no_time_limit_is_refused_before_anything_waits(pilot: LocalManager, limit: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: pilot.wait4("a", limit),
        lambda: pilot.wait4all(limit),
        lambda: pilot.wait4_any_job_finish(limit),
    ]
    for call in calls:
        with pytest.raises(WrongArgumentsError, match="is not a number of seconds"):
            call()
    for name in ("request_timeout", "connect_timeout", "poll_delay"):
        if limit != "2":  # as in a file of settings
            with pytest.raises(WrongArgumentsError, match=f"{name}: .* is not a number of seconds"):
                Manager(str(pilot.connection_file), {**QUIET, name: limit})


@pytest.mark.parametrize("limit", [None, 1e9, 1e300, float("inf"), 2**70])
def test_a_limit_may_be_as_long_as_one_likes(pilot: LocalManager, limit: Any) -> None:
    for call in (lambda: pilot.wait4("long", limit), lambda: pilot.wait4_any_job_finish(limit)):
        pilot.submit(Jobs().add(name="long", exec="true"))
        assert call() in ({"long": "SUCCEED"}, ("long", "SUCCEED"))
        pilot.wait4all(limit)
        pilot.remove("long")
    manager = Manager(str(pilot.connection_file), {**QUIET, "request_timeout": limit, "connect_timeout": limit})
    assert manager.list() == {}
    manager.cleanup()


@pytest.mark.parametrize("limit", [-1, -1e300, 0, 1e-9])
def test_a_limit_that_is_over_is_over_at_once(pilot: LocalManager, limit: float) -> None:
    pilot.submit(Jobs().add(name="long", exec="sleep", args=[1000]))
    for wait in (lambda: pilot.wait4("long", limit), lambda: pilot.wait4all(limit)):
        with pytest.raises(TimeoutElapsed):
            wait()
    pilot.cancel("long")


def test_a_pilot_that_has_ended_is_an_error_in_the_child(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], QUIET) as pilot:
        pass
    assert in_child(pilot.list).startswith("ConnectionError: ")
