"""What all tests share: waiting without sleeping blindly, short folders for sockets, and no process left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def wd() -> Iterator[Path]:
    """A working folder with a path short enough for ipc sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pf-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """`wait_until(condition, what)` returns when `condition()` is true and fails with `what` when it stays false."""

    def wait(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
            time.sleep(0.005)

    return wait


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test leaves no process behind, whatever it killed."""
    mark = f"PILOTFISH_TEST={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    os.environ[name] = value
    yield
    del os.environ[name]
    deadline = time.monotonic() + 20
    left = _marked(name, value)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = _marked(name, value)
    texts = [" ".join(process.info["cmdline"] or ["?"]) for process in left]
    for process in left:
        process.kill()
    assert not texts, f"left behind: {texts}"


def _marked(name: str, value: str) -> list[psutil.Process]:
    me = os.getpid()
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline", "status"])
        if process.pid != me
        and (process.info["environ"] or {}).get(name) == value
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has configured must not change them."""
    monkeypatch.setenv("PILOTFISH_CONFIG", "")
