"""Futures as arguments: the pilot waits for them, not the client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as AnyFuture
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S

from pilotfish import Executor
from pilotfish.api.executor import Future, LostCallError


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


def _later(value: Any) -> Any:
    time.sleep(0.1)
    return value


def test_a_future_stands_for_its_result(executor: Executor) -> None:
    """As an argument, by name, and in lists and dictionaries; whether it is over or not."""
    over = executor.submit(abs, -3)
    assert over.result(PATIENCE_S) == 3
    open_one = executor.submit(_later, 4)
    assert executor.submit(divmod, open_one, over).result(PATIENCE_S) == (1, 1)
    nested = executor.submit(lambda given, *, key: (given, key), [over, [open_one]], key={"a": open_one})
    assert nested.result(PATIENCE_S) == ([3, [4]], {"a": 4})


def test_the_client_does_not_wait(executor: Executor) -> None:
    """A chain is in the pilot long before its first call is over."""
    future: Future[Any] = executor.submit(_later, 0)
    for _ in range(20):
        future = executor.submit(lambda number: number + 1, future)
    assert future.result(PATIENCE_S) == 20


def test_what_waits_for_a_failure_fails(executor: Executor) -> None:
    """With the reason as its cause, through all that follow."""
    failing = executor.submit(lambda: _later(1) / 0)
    last = executor.submit(abs, executor.submit(abs, failing))
    error = last.exception(PATIENCE_S)
    assert isinstance(error, LostCallError)
    assert error.state == "OMITTED"
    assert isinstance(failing.exception(), ZeroDivisionError)
    after_all = executor.submit(abs, failing).exception(PATIENCE_S)
    assert isinstance(after_all, LostCallError)
    assert isinstance(after_all.__cause__, ZeroDivisionError)


def test_calls_may_only_wait(executor: Executor) -> None:
    """`after` takes nothing of the results."""
    first = executor.submit(_later, 1)
    assert executor.options(after=[first]).submit(time.time).result(PATIENCE_S) > 0
    assert first.done()


def test_a_large_result_is_passed_on_and_still_comes_home(executor: Executor) -> None:
    """It stays in its file until all that need it are over."""
    numpy = pytest.importorskip("numpy")

    def make() -> Any:
        import numpy

        return _later(numpy.arange(1e5))

    large = executor.submit(make)
    sums = [executor.submit(numpy.sum, large) for _ in range(3)]
    assert [future.result(PATIENCE_S) for future in sums] == [sum(range(100_000))] * 3
    assert large.result(PATIENCE_S)[5] == 5.0


def test_a_future_of_another_executor_is_refused(executor: Executor, wait_until: Callable[..., None]) -> None:
    """Unless it is over: the pilot does not know it."""
    with Executor(1) as other:
        foreign = other.submit(time.sleep, 0.5)
        wait_until(lambda: foreign.task, "it was sent")
        error = executor.submit(abs, foreign).exception(PATIENCE_S)
        assert "of another executor" in str(error.__cause__ or error)
    assert executor.submit(str, foreign).result(PATIENCE_S) == "None"


@settings(max_examples=8)
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=30))
def test_graphs_of_futures(executor: Executor, graph: list[list[int]]) -> None:
    """Each node is the sum of its earlier nodes and its own number, whatever the graph."""
    expected: list[int] = []
    futures: list[AnyFuture[int]] = []
    for number, needs in enumerate(graph):
        earlier = [need for need in needs if need < number]
        expected.append(number + sum(expected[need] for need in earlier))
        futures.append(
            executor.submit(lambda own, values: own + sum(values), number, [futures[need] for need in earlier])
        )
    assert [future.result(PATIENCE_S) for future in futures] == expected
