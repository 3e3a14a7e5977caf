"""Futures as arguments: the pilot waits for them, not the client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

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
        assert error is not None
        assert "of another executor" in str(error.__cause__ or error)
    assert executor.submit(str, foreign).result(PATIENCE_S) == "None"


class Node(NamedTuple):
    """A call of a graph. `needs`: futures among its arguments (nested by `shape`); `after`: those that it only waits for."""

    needs: list[int]
    after: list[int]
    shape: int
    does: str


_numbers = st.lists(st.integers(0, 20), max_size=3)
_nodes = st.builds(Node, _numbers, _numbers, st.integers(0, 2), st.sampled_from(["adds", "adds", "adds", "fails"]))


def _total(value: Any) -> int:
    """Of all numbers in lists and dictionaries."""
    if isinstance(value, dict):
        return _total(list(value.values()))
    return sum(map(_total, value)) if isinstance(value, list) else value


def _call(own: int, values: Any, does: str) -> int:
    if does == "fails":
        raise KeyError(own)
    return own + _total(values)


@settings(max_examples=10, deadline=None)
@given(st.lists(_nodes, min_size=1, max_size=20))
def test_graphs_of_futures(executor: Executor, graph: list[Node]) -> None:
    """Each has the result, or fails for the reason, that the same graph has when it is just computed."""
    _total.__module__ = _call.__module__ = "__main__"  # taken along, as function workers do not find this file
    expected: list[int | type[Exception]] = []
    futures: list[Future[Any]] = []
    for number, node in enumerate(graph):
        needs = [need for need in node.needs if need < number]
        before = [need for need in node.after if need < number]
        if any(isinstance(expected[need], type) for need in (*needs, *before)):
            expected.append(LostCallError)
        elif node.does == "fails":
            expected.append(KeyError)
        else:
            expected.append(number + sum(cast("int", expected[need]) for need in needs))
        given_ones = [futures[need] for need in needs]
        shapes = (given_ones, {"inner": given_ones}, [[one] for one in given_ones])
        asking = executor.options(after=[futures[need] for need in before])
        futures.append(asking.submit(_call, number, shapes[node.shape], node.does))
    found = [future.exception(PATIENCE_S) or future.result() for future in futures]
    assert [type(one) if isinstance(one, Exception) else one for one in found] == expected


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(0, 12))
def test_graphs_with_a_cancelled_future(executor: Executor, needs: list[int], cancelled: int) -> None:
    """What needs it, directly or not, fails; everything else has its result."""
    futures: list[Future[Any]] = []
    reached: set[int] = set()
    gate = [executor.submit(_later, 0) for _ in range(2)]
    for number, need in enumerate(needs):
        of = [futures[need]] if need < number else gate
        futures.append(executor.submit(lambda own, _: own, number, of))
        if (number == cancelled and futures[number].cancel()) or (need < number and need in reached):
            reached.add(number)
    for number, future in enumerate(futures):
        if number not in reached:
            assert future.result(PATIENCE_S) == number
        elif number != cancelled:
            assert isinstance(future.exception(PATIENCE_S), LostCallError)
        else:
            assert future.cancelled()
