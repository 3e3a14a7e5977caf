"""CPython's own tests of `concurrent.futures`, with our executor in the place of its pools.

They come with Python (Debian: libpython3.11-testsuite). Those that look into the standard pools, or name them in a program that
they start, are left out; test_contract.py has what these are about.
"""

from __future__ import annotations

import sys
import unittest
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import cloudpickle
import patience
import pytest
import test  # type: ignore[import-not-found]

from pilotfish import Executor

_MODULES = ("", ".util", ".executor", ".test_wait", ".test_as_completed", ".test_shutdown")
"""Until Python 3.11 one, then a package."""
_DEBIAN = f"/usr/lib/python3.{sys.version_info.minor}/test"
"""Where they are for a Python that has come without, by another way than from Debian."""
_OWN = "ExecutorShutdownTest"
"""Its tests shut down the executor, so each has one of its own; the others share one, as starting one takes longer."""
_CASES = ("ExecutorTest", "WaitTests", "AsCompletedTests", _OWN)
_LEFT_OUT = {
    # These name the executor in a program of theirs, by its class of `concurrent.futures`.
    "test_interpreter_shutdown",
    "test_submit_after_interpreter_shutdown",
    "test_hang_gh83386",
    "test_hang_gh94440",
    # One of fifty calls executes before submit returns: nothing promises that.
    "test_cancel_futures",
    # They take seconds, and wait for what others here wait for, too.
    "test_map_timeout",
    "test_zero_timeout",
    "test_no_timeout",
    "test_timeout",
    "test_hang_issue12364",
    # Those of the process pool.
    "test_shutdown_race_issue12456",
}


def _found() -> dict[str, Any]:
    """Everything in these modules by its name; nothing when they are not there."""
    found: dict[str, Any] = {}
    test.__path__.append(_DEBIAN)
    for name in _MODULES:
        try:
            module = import_module(f"test.test_concurrent_futures{name}")
        except ModuleNotFoundError:
            continue
        found = vars(module) | found
    return found


_FOUND = _found()
_TESTS = [
    (case, name)
    for case in _CASES
    if case in _FOUND
    for name in unittest.TestLoader().getTestCaseNames(_FOUND[case])
    if name not in _LEFT_OUT
]


class _Kept(Executor):
    """One for many tests, each of which shuts it down at its end."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


@pytest.fixture(scope="module")
def kept() -> Iterator[_Kept]:
    modules = [module for name, module in sys.modules.items() if name.startswith("test.test_concurrent_futures")]
    for module in modules:  # function workers look only where their Python does
        cloudpickle.register_pickle_by_value(module)
    executor = _Kept(2)
    assert executor.pilot
    yield executor
    Executor.shutdown(executor)
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.skipif(bool(_TESTS), reason="they are there")
def test_they_are_there() -> None:
    """Without them there is nothing to run here."""
    patience.give_up("not installed: libpython3.11-testsuite")


@pytest.mark.parametrize(("case", "name"), _TESTS)
def test_as_cpython_has_it(case: str, name: str, kept: _Kept) -> None:
    """The test passes with our executor."""

    def make(max_workers: int) -> Executor:
        return kept if case != _OWN and max_workers == 2 else Executor(max_workers)

    members = {"executor_type": staticmethod(make), "worker_count": 2}
    ours = type(case, (_FOUND["ExecutorMixin"], _FOUND[case], _FOUND["BaseTestCase"]), members)
    result = unittest.TestResult()
    ours(name).run(result)
    assert not [*result.errors, *result.failures]
    assert not result.skipped
