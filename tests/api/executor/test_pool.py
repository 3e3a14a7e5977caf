"""The interfaces of multiprocessing.Pool and joblib on an executor."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from patience import PATIENCE_S

from pilotfish import Executor, Pool, register_joblib


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


@pytest.fixture
def pool(executor: Executor) -> Iterator[Pool]:
    with Pool(executor=executor) as found:
        yield found


def waits_for(path: Path) -> str:
    """A call that ends when the file is there."""
    while not path.exists():
        time.sleep(0.005)
    return path.name


def test_map_and_its_kin(pool: Pool) -> None:
    """They give what those of multiprocessing give, with any size of chunks."""
    squares = [number**2 for number in range(50)]
    assert pool.map(lambda number: number**2, range(50)) == squares
    assert pool.map(lambda number: number**2, range(50), chunksize=7) == squares
    assert pool.starmap(pow, [(number, 2) for number in range(50)]) == squares
    assert list(pool.imap(lambda number: number**2, range(50), chunksize=20)) == squares
    assert sorted(pool.imap_unordered(lambda number: number**2, range(50))) == squares
    assert pool.map(abs, []) == list(pool.imap(abs, [])) == list(pool.imap_unordered(abs, [])) == []
    assert pool.apply(int, ("ff",), {"base": 16}) == 255


def test_results_may_be_waited_for(pool: Pool, wd: Path) -> None:
    """A result that is not there within the time raises TimeoutError, and comes later; so does that of an iterator."""
    result = pool.apply_async(waits_for, (wd / "go",))
    iterator = pool.imap(waits_for, [wd / "go"])
    unordered = pool.imap_unordered(abs, [1])
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        unordered.next(0)
    (wd / "go").touch()
    assert result.get(PATIENCE_S) == iterator.next(PATIENCE_S) == "go"
    assert result.successful()
    assert unordered.next(PATIENCE_S) == 1
    with pytest.raises(StopIteration):
        unordered.next()


def test_callbacks(pool: Pool) -> None:
    """One is told the whole result once, the other what was raised."""
    told: list[object] = []
    both = threading.Semaphore(0)

    def tell(value: object) -> None:
        told.append(value)
        both.release()

    pool.map_async(abs, [-1, -2, -3], 1, tell).wait()
    failed = pool.map_async(int, ["1", "x"], 1, tell, lambda error: tell(type(error)))
    assert both.acquire(timeout=PATIENCE_S)
    assert both.acquire(timeout=PATIENCE_S)
    assert told == [[1, 2, 3], ValueError]
    assert not failed.successful()
    with pytest.raises(ValueError, match="'x'"):
        failed.get()


def test_the_end_of_a_pool(executor: Executor, wd: Path) -> None:
    """A closed pool takes nothing, `join` waits, `terminate` stops what executes; an executor that was lent stays open."""
    pool = Pool(executor=executor)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(abs, [-1])
    pool.close()
    pool.join()
    assert result.get(0) == [1]
    with pytest.raises(ValueError, match="not running"):
        pool.map(abs, [1])
    with Pool(executor=executor) as other:
        stopped = other.map_async(waits_for, [wd / "never"] * 3, 1)
    with pytest.raises(concurrent.futures.CancelledError):
        stopped.get(PATIENCE_S)
    assert not stopped.successful()
    assert executor.submit(abs, -2).result(PATIENCE_S) == 2
    with pytest.raises(TypeError, match="leave out"):
        Pool(2, executor=executor)


def test_a_pool_of_its_own() -> None:
    """It has the workers, the initializer and their replacement as it was told."""
    with Pool(1, lambda word: os.environ.update(PREPARED=word), ("yes",), maxtasksperchild=1) as pool:
        first, second = pool.map(lambda _: (os.getpid(), os.environ["PREPARED"]), range(2), chunksize=1)
    assert first[1] == second[1] == "yes"
    assert first[0] != second[0]


def test_joblib_calls_on_the_executor(executor: Executor) -> None:
    """Parallel gives its results in order, from function workers, whose threads it may limit."""
    register_joblib()
    with joblib.parallel_config(backend="pilotfish", executor=executor, inner_max_num_threads=3):
        found = joblib.Parallel()(joblib.delayed(lambda n: (n**2, os.getpid()))(n) for n in range(100))
        threads = joblib.Parallel()(joblib.delayed(os.getenv)(name) for name in ["OMP_NUM_THREADS"])
        as_they_come = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-n) for n in range(5))
        assert list(as_they_come) == list(range(5))
    assert [square for square, _ in found] == [number**2 for number in range(100)]
    assert os.getpid() not in {pid for _, pid in found}
    assert threads == ["3"]


def test_joblib_and_a_failure(executor: Executor, wd: Path) -> None:
    """The exception of a call is raised, and the calls that are left are stopped."""
    register_joblib()

    def fails(number: int) -> None:
        if number:
            waits_for(wd / "never")
        raise KeyError(number)

    with joblib.parallel_config(backend="pilotfish", executor=executor), pytest.raises(KeyError, match="0"):
        joblib.Parallel(batch_size=1)(joblib.delayed(fails)(number) for number in range(4))
    cores = executor.pilot.resources()["total_cores"]
    assert executor.options(cores=cores).submit(abs, -1).result(PATIENCE_S) == 1  # once all cores are free
