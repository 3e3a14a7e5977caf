"""What type checkers make of programs that use Pilotfish: mypy (`make types`) and pyright check it; nothing here is run."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import pilotfish
from pilotfish import (
    AsyncExecutor,
    AsyncManager,
    Command,
    Executor,
    JobInfo,
    Jobs,
    LocalManager,
    Manager,
    Pool,
    Run,
    as_completed,
    task,
    wait,
)
from pilotfish.api.executor import CommandResult, Future, LostCallError
from pilotfish.api.task_records import TaskRow


def area(width: float, height: float) -> float:
    return width * height


@task(cores=2, wt="10m")
def simulate(steps: int, name: str = "") -> tuple[int, str]:
    return steps, name


def calls(executor: Executor) -> None:
    """A future has the type of what the function returns."""
    future = executor.submit(area, 6, height=7)
    assert_type(future, Future[float])
    assert_type(future.result(), float)
    assert_type(future.task, str)
    assert_type(executor.submit(area, future, 2).result(1.5), float)
    assert_type(executor.map(area, [1, 2], [3, 4], chunksize=10, progress=True), Iterator[float])
    assert_type(executor.submit(lambda: "text").result(), str)
    assert_type(executor.submit(simulate, 1000).result(), tuple[int, str])
    assert_type(simulate(3), tuple[int, str])
    assert_type(executor.submit(Command("./sim", "--x", 1)).result(), CommandResult)
    assert_type(executor.options(cores=4, gpus=1, mem="2G", wt=60, after=[future], files=Path("x")), Executor)
    standard: concurrent.futures.Executor = executor
    futures: list[concurrent.futures.Future[float]] = [standard.submit(area, 1, 2), executor.submit(area, 1, 2)]
    concurrent.futures.wait(futures)


def waits(executor: Executor) -> None:
    """Futures stay those that were given."""
    futures = [executor.submit(area, 1, 2)]
    for future in as_completed(futures, timeout=1, progress=True):
        assert_type(future, Future[float])
    done, not_done = wait(futures, progress=True)
    assert_type(done, set[concurrent.futures.Future[float]])
    assert_type(not_done, set[concurrent.futures.Future[float]])


async def awaited() -> None:
    async with AsyncExecutor(2) as executor:
        assert_type(await executor.submit(area, 6, height=7), float)
        assert_type(await executor.submit(Command("true")), CommandResult)
        assert_type(executor.map(area, [1], [2]), AsyncIterator[float])
        assert_type(await asyncio.gather(executor.submit(area, 1, 2), executor.submit(str, 1)), tuple[float, str])
    async with AsyncManager() as manager:
        assert_type(await manager.run(exec="true"), Run)
        assert_type(await manager.wait4("a"), dict[str, str])


def pools() -> None:
    with Pool(2) as pool:
        assert_type(pool.map(len, ["a", "bc"]), list[int])
        assert_type(pool.apply_async(area, (1, 2)).get(), float)
        assert_type(list(pool.imap(str, [1])), list[str])


def managers(where: Path) -> None:
    with LocalManager(nodes=(4, 2), wd=where, walltime=timedelta(hours=1), tags=["fast"], log="debug") as pilot:
        assert_type(pilot, LocalManager)
        assert_type(pilot.submit(Jobs().add(exec="true")), list[str])
        assert_type(pilot.info_parsed("a"), dict[str, JobInfo])
        run = pilot.run(exec="true", iteration=10)
        assert_type(run, Run)
        assert_type(run.tasks(), Iterator[TaskRow])
        assert_type(run.summary().failed, int)
    assert_type(Manager(where).resources(), dict[str, Any])


def errors(future: Future[int]) -> None:
    try:
        future.result()
    except LostCallError as error:
        assert_type(error.output, str)
    except pilotfish.errors.PilotfishError as error:
        assert_type(error.code, str)


def wrong(executor: Executor) -> None:
    """What must be refused: a comment that is not needed is an error for both."""
    executor.options(colour=1)  # type: ignore[call-arg]
    executor.map(area, [1], chunksize="2")  # type: ignore[arg-type]
    LocalManager(nodez=4)  # type: ignore[call-arg]
    LocalManager(log="loud")  # type: ignore[arg-type]
    text: str = executor.submit(area, 1, 2).result()  # type: ignore[assignment]
    print(text)
