"""What `concurrent.futures` promises of every executor, where CPython's own tests (test_standard_tests.py) do not reach."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import Executor
from pilotfish.api.executor import Future, RemoteError

AT_EXIT = """
import atexit

@atexit.register
def last():
    try:
        executor.submit(abs, 1)
    except RuntimeError as error:
        print(error)

from pilotfish import Executor
executor, other = Executor(1), Executor(1)
executor.submit(abs, -7).add_done_callback(lambda future: print(future.result()))
other.submit(abs, -7).add_done_callback(lambda future: print(future.result()))
other.shutdown(wait=False)
"""


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


def test_a_program_that_just_ends() -> None:
    """What was submitted is done first, also after `shutdown(wait=False)`; after that nothing is taken."""
    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert ended.stdout == "7\n7\ncannot schedule new futures after shutdown\n"
    assert ended.stderr == ""


def test_an_executor_that_nobody_has_any_more() -> None:
    """Its calls end as ever, and then its pilot."""
    future = Executor(1).submit(abs, -3)
    gc.collect()
    assert future.result(PATIENCE_S) == 3


def test_a_submit_while_another_thread_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes too late says so; it does not wait for ever."""
    executor = Executor(1)
    executor.shutdown()
    monkeypatch.setattr(executor._core, "_is_closed", False)  # as it was when submit looked
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)


def test_callbacks_may_do_anything(executor: Executor, wait_until: Callable[..., None]) -> None:
    """Raise what is no Exception, submit, try to shut down: all calls have their ends."""
    results: list[int] = []

    def exits(_: Any) -> None:
        raise SystemExit(3)

    def again(future: Any) -> None:
        results.append(future.result())
        if future.result() < 5:
            executor.submit(lambda number: number + 1, future.result()).add_done_callback(again)

    future = executor.submit(time.sleep, 0.05)
    future.add_done_callback(exits)
    executor.submit(abs, 0).add_done_callback(again)
    assert future.result(PATIENCE_S) is None
    wait_until(lambda: results == [0, 1, 2, 3, 4, 5], "each has submitted the next")


def test_a_callback_cannot_wait_for_its_executor() -> None:
    """As in the standard library that is a RuntimeError, and not a wait for oneself."""
    errors: list[BaseException] = []

    def ends(_: Any) -> None:
        try:
            own.shutdown()
        except RuntimeError as error:
            errors.append(error)

    with Executor(1) as own:
        own.submit(time.sleep, 0.1).add_done_callback(ends)
    assert ["callback" in str(error) for error in errors] == [True]


def test_what_cannot_be_pickled(executor: Executor) -> None:
    """A function or argument says so at once, a result or exception with the future; the executor goes on."""
    lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(lambda: lock)
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(abs, lock)

    def raises() -> None:
        raise OSError(threading.Lock())

    assert isinstance(executor.submit(threading.Lock).exception(PATIENCE_S), TypeError)
    assert isinstance(executor.submit(raises).exception(PATIENCE_S), RemoteError)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_future_that_begins_while_it_is_cancelled() -> None:
    """The pilot tells that it runs at the moment when it was cancelled: it stays cancelled, and nothing is raised."""
    told: list[object] = []

    class Owner:
        def cancel(self, future: Future[Any]) -> None:
            told.append(future)

    future: Future[int] = Future(Owner())
    future.add_done_callback(lambda _: future.now_runs())
    assert future.cancel()
    assert told == [future]
    assert wait([future], 0).done == {future}


def test_results_are_not_held(executor: Executor, wait_until: Callable[..., None]) -> None:
    """The executor forgets a future, and so its result, when it has ended."""
    future: Any = executor.submit(lambda: {1, 2})
    assert future.result(PATIENCE_S) == {1, 2}
    held = weakref.ref(future)
    del future
    wait_until(lambda: held() is None, "nobody holds the future")


def test_map_takes_arguments_at_once_and_gives_results_one_by_one(executor: Executor) -> None:
    """And cancels what has not begun when nobody wants the rest."""
    taken: list[int] = []
    found = executor.map(time.sleep, (taken.append(number) or 0.0 for number in range(5)))  # type: ignore[func-returns-value]
    assert taken == [0, 1, 2, 3, 4]
    assert next(found) is None
    found.close()  # type: ignore[attr-defined]
    for chunksize in (1, 2):
        with pytest.raises(ZeroDivisionError):
            list(executor.map(divmod, [1, 1, 1], [1, 0, 1], chunksize=chunksize))
