"""Locks between programs, on file systems that know them and on those that do not."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilotfish.pilot import locks

REFUSALS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
WITHOUT_LOCKS = """
import errno, fcntl, os
def refuse(file, how):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = refuse
"""


@pytest.fixture(params=[0, *REFUSALS], ids=["locks", *map(errno.errorcode.get, REFUSALS)])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A file system that knows locks (0), or how it refuses them."""
    if request.param:
        without_locks(monkeypatch, request.param)
    return int(request.param)


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    yield descriptor
    os.close(descriptor)


def dead() -> locks.Owner:
    """A process that has ended."""
    process = subprocess.Popen(["sleep", "100"])
    owner = replace(locks.Owner.this(), pid=process.pid, began=locks._began(process.pid) or "")
    process.kill()
    process.wait()
    return owner


def left_link(path: Path, owner: object) -> Path:
    link = path.with_name(f"{path.name}.held")
    link.symlink_to(str(owner))
    return link


def test_only_one_has_it(tmp_path: Path, site: int) -> None:
    path = tmp_path / "lock"
    with opened(path) as mine, opened(path) as others:
        lock = locks.take(mine, path, takes_note=True)
        assert bool(lock.weakness) == bool(site)
        with pytest.raises(locks.HeldError) as caught:
            locks.take(others, path, takes_note=True)
        assert caught.value.holder == f"process {os.getpid()}"
        lock.release()
        locks.take(others, path, takes_note=True).release()
    assert os.listdir(tmp_path) == ["lock"]


def test_it_is_waited_for_as_long_as_was_asked(tmp_path: Path, site: int) -> None:
    path = tmp_path / "lock"
    with opened(path) as mine, opened(path) as others:
        lock = locks.take(mine, path)
        pauses: list[float] = []
        with pytest.raises(locks.HeldError):
            locks.take(others, path, 0.2, sleep=pauses.append)
        assert sum(pauses) == pytest.approx(0.2)
        locks.take(others, path, 0.2, sleep=lambda pause_s: lock.release()).release()


@pytest.mark.parametrize("change", [{}, {"boot": "earlier", "pid": os.getpid()}, {"pid": os.getpid(), "began": "1"}])
def test_what_a_dead_process_has_left_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Killed; before the host was started anew; and another process has the number since."""
    without_locks(monkeypatch)
    path = tmp_path / "lock"
    left_link(path, replace(dead(), **change))
    with opened(path) as mine:
        locks.take(mine, path).release()
    assert os.listdir(tmp_path) == ["lock"]


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"pid_space": "pid:[1]"}])
def test_a_process_that_cannot_be_seen_from_here_counts_as_alive(
    tmp_path: Path, site: int, change: dict[str, Any]
) -> None:
    """Also where this host has locks: the other one may not."""
    path = tmp_path / "lock"
    link = left_link(path, replace(dead(), **change))
    with opened(path) as mine:
        with pytest.raises(locks.HeldError) as caught:
            locks.take(mine, path)
        assert caught.value.link == link
        assert " on " in caught.value.holder
        link.unlink()
        locks.take(mine, path).release()


def test_a_link_of_something_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    path = tmp_path / "lock"
    left_link(path, "somewhere")
    with opened(path) as mine, pytest.raises(locks.HeldError, match="unavailable"):
        locks.take(mine, path)


def test_one_with_locks_and_one_without_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    with opened(path) as mine, opened(path) as others:
        real = locks.take(mine, path, takes_note=True)
        with monkeypatch.context() as patch:
            without_locks(patch)
            code = "import sys\nfrom pathlib import Path\nfrom pilotfish.pilot import locks\npath = Path(sys.argv[1])\n"
            code += "file = open(path, 'r+')\ntry:\n    locks.take(file.fileno(), path, takes_note=True)\n"
            code += "except locks.HeldError as error:\n    print(error.holder)"
            done = subprocess.run(
                [sys.executable, "-c", WITHOUT_LOCKS + code, str(path)], capture_output=True, text=True, check=True
            )
            assert done.stdout == f"process {os.getpid()}\n"
            real.release()
            weak = locks.take(others, path, takes_note=True)
        with pytest.raises(locks.HeldError):
            locks.take(mine, path, takes_note=True)
        weak.release()
        locks.take(mine, path, takes_note=True).release()


CONTENDER = """
import sys, time
from pathlib import Path
from typing import Any
from pilotfish.pilot import locks
path, inside = Path(sys.argv[1]), Path(sys.argv[2])
file = open(path, "a+")
for _ in range(20):
    lock = locks.take(file.fileno(), path, 100, takes_note=True, sleep=lambda pause_s: time.sleep(0.001))
    inside.mkdir()   # fails when somebody else is inside
    inside.rmdir()
    lock.release()
"""


@pytest.mark.parametrize("prelude", ["", WITHOUT_LOCKS], ids=["locks", "no locks"])
def test_many_that_find_a_dead_one_s_link_come_in_one_by_one(tmp_path: Path, prelude: str) -> None:
    path = tmp_path / "lock"
    left_link(path, dead())
    command = [sys.executable, "-c", prelude + CONTENDER, str(path), str(tmp_path / "inside")]
    run: Callable[[int], subprocess.CompletedProcess[str]] = lambda _: subprocess.run(  # noqa: E731
        command, capture_output=True, text=True, check=False
    )
    with ThreadPoolExecutor(4) as pool:
        assert [done.stderr for done in pool.map(run, range(4))] == [""] * 4
    assert os.listdir(tmp_path) == ["lock"]
