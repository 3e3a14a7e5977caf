"""Graphs of dask on an executor, made and taken back by dask itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array
import dask.bag
import pytest
from patience import PATIENCE_S

from pilotfish import Executor, dask_scheduler


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


@pytest.fixture
def get(executor: Executor) -> Callable[..., Any]:
    return dask_scheduler(executor)


def test_collections_are_computed(get: Callable[..., Any]) -> None:
    """Arrays, bags and delayed functions, also by dask's configuration, and persisted ones."""
    numbers = dask.array.arange(1000, chunks=100)
    kept = (numbers * 2).persist(scheduler=get)
    with dask.config.set(scheduler=get):
        assert kept.sum().compute() == 999_000
        assert dict(dask.bag.from_sequence(range(10)).map(lambda n: n % 3).frequencies().compute()) == {
            0: 4,
            1: 3,
            2: 3,
        }
        assert dask.compute(kept[5], {"x": [kept[6], 7]}) == (10, {"x": [12, 7]})


def test_a_graph_as_a_dictionary_is_computed(get: Callable[..., Any]) -> None:
    """As dask's documentation of graphs has it: tasks, names of others, plain values, and nested keys."""
    graph = {"x": 1, "y": (abs, -2), "z": (sum, ["x", "y", 10]), ("a", 0): "z"}
    assert get(graph, [["x", "z"], [("a", 0)]]) == [[1, 13], [13]]
    assert get(graph, "y") == 2


def test_what_two_nodes_need_is_computed_once_and_elsewhere(get: Callable[..., Any], wd: Path) -> None:
    """Nodes run in function workers; of three there are three files."""

    def note(*needs: int) -> int:
        Path(wd, f"{time.monotonic_ns()}-{os.getpid()}").touch()
        return len(needs) + sum(needs)

    first = dask.delayed(note)()
    assert dask.delayed(note)(first, dask.delayed(note)(first)).compute(scheduler=get) == 3
    pids = [path.name.partition("-")[2] for path in wd.iterdir()]
    assert len(pids) == 3
    assert str(os.getpid()) not in pids


def test_a_node_may_need_very_many(get: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a list or a dictionary among the arguments of a call may have."""
    monkeypatch.setattr("pilotfish.api.executor.inputs._MOST_ELEMENTS", 10)
    parts = [dask.delayed(abs, pure=False)(-1) for _ in range(30)]
    assert dask.delayed(lambda *all: sum(all))(*parts).compute(scheduler=get) == 30


def test_the_failure_of_a_node_is_raised_and_the_others_are_stopped(executor: Executor, wd: Path) -> None:
    """As it was raised, although what needs it only knows that it has failed."""

    def never() -> None:
        while not (wd / "never").exists():
            time.sleep(0.005)

    wrong = dask.delayed(abs)(dask.delayed(int)("x"))
    with pytest.raises(ValueError, match="'x'"):
        dask.compute(dask.delayed(never)(), wrong, scheduler=dask_scheduler(executor))
    cores = executor.pilot.resources()["total_cores"]
    assert executor.options(cores=cores).submit(abs, -1).result(PATIENCE_S) == 1  # once all cores are free


def test_each_node_asks_for_what_the_executor_says(executor: Executor) -> None:
    get = dask_scheduler(executor.options(cores=2))
    assert dask.delayed(os.getenv)("QCG_PM_NPROCS").compute(scheduler=get) == "2"


def test_progress_of_a_graph(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last that is shown is that all nodes have ended."""
    monkeypatch.setattr("pilotfish.api.executor.progress.find_spec", lambda _: None)
    nodes = [dask.delayed(abs)(-number) for number in range(5)]
    assert dask.delayed(sum)(nodes).compute(scheduler=dask_scheduler(executor, progress=True)) == 10
    assert capsys.readouterr().err.endswith("\r6/6 calls\n")
