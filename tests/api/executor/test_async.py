"""Executors and pilots under asyncio: results are awaited, and the event loop never stops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import AsyncExecutor, AsyncManager, Command, Executor, Jobs, LocalManager
from pilotfish.api.errors import ConnectionError, TimeoutElapsed


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


@pytest.fixture
def connected(executor: Executor) -> Callable[[], AsyncExecutor]:
    """An AsyncExecutor on the pilot of this module."""
    return lambda: AsyncExecutor(connect=executor.pilot.where)


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))


async def under_way(executor: AsyncExecutor, count: int) -> None:
    """So many calls have been submitted, and one of them executes."""
    while len(futures := executor.executor._core._link.unfinished()) < count or not any(
        future.running() for future in futures
    ):
        await asyncio.sleep(0.01)


def waits_for(file: str, value: int) -> int:
    """A call that ends when the file is there."""
    while not os.path.exists(file):
        time.sleep(0.005)
    return value


def test_calls_are_awaited(connected: Callable[[], AsyncExecutor]) -> None:
    """A call gives its result or raises its exception; commands and options are those of an Executor."""

    async def work() -> None:
        async with connected() as executor:
            assert await executor.submit(divmod, 17, 5) == (3, 2)
            assert await asyncio.gather(*(executor.submit(pow, number, 2) for number in range(20))) == [
                number**2 for number in range(20)
            ]
            assert (await executor.submit(Command("echo", "here"))).stdout == "here\n"
            assert await executor.options(env={"WORD": "on"}).submit(os.getenv, "WORD") == "on"
            with pytest.raises(ValueError, match="seven"):
                await executor.submit(int, "seven")

    run(work())


def test_results_are_iterated_over(connected: Callable[[], AsyncExecutor], wd: Path) -> None:
    """`map` gives results in the order of the arguments, `as_completed` in that of the ends; both raise what a call raises."""

    async def work() -> None:
        async with connected() as executor:
            assert [result async for result in executor.map(pow, range(1200), [2] * 1200)] == [
                number**2 for number in range(1200)
            ]
            files = [str(wd / "late"), str(wd)]
            seen = []
            async for result in executor.as_completed(waits_for, files, (1, 2)):
                seen.append(result)
                (wd / "late").touch()
            assert seen == [2, 1]
            for iterate in (executor.map, executor.as_completed):
                with pytest.raises(ValueError, match="x"):
                    assert not [result async for result in iterate(int, ["x"])]

    run(work())


def test_the_event_loop_goes_on(wd: Path) -> None:
    """A task that sleeps 5 ms at a time goes on while the pilot starts, large arguments travel, and the pilot ends."""

    async def work() -> tuple[int, float]:
        gaps = []

        async def tick() -> None:
            last = time.monotonic()
            while True:
                await asyncio.sleep(0.005)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()

        ticking = asyncio.create_task(tick())
        async with AsyncExecutor(1) as executor:
            at_start = asyncio.create_task(
                executor.submit(len, bytes(1 << 20))
            )  # goes by a file of the pilot that starts
            assert await at_start == 1 << 20
            started = len(gaps)
            assert [number async for number in executor.map(abs, range(300))] == list(range(300))
        ticking.cancel()
        return started, sum(gaps)

    began = time.monotonic()
    started, ticked_s = run(work())
    assert started >= 10  # the pilot takes at least 100 ms
    assert ticked_s > 0.5 * (time.monotonic() - began)


def test_a_call_that_waits_is_cancelled_with_its_task(connected: Callable[[], AsyncExecutor], wd: Path) -> None:
    """What has begun goes on; what has not never runs, be it awaited alone or iterated over."""

    async def work() -> None:
        async with connected() as executor:
            one_at_a_time = executor.options(cores=2)
            begun = asyncio.create_task(one_at_a_time.submit(waits_for, str(wd / "go"), 7))
            alone = asyncio.create_task(one_at_a_time.submit(Path(wd / "alone").touch))

            async def all_of_them() -> None:
                async for _ in one_at_a_time.map(Path.touch, [wd / "first", wd / "second"]):
                    pass

            many = asyncio.create_task(all_of_them())
            await under_way(executor, 4)
            alone.cancel()
            many.cancel()
            for task in (alone, many):
                with pytest.raises(asyncio.CancelledError):
                    await task
            (wd / "go").touch()
            assert await begun == 7
        assert not {"alone", "first", "second"} & set(os.listdir(wd))

    run(work())


def test_leaving_by_an_exception_cancels_what_waits(connected: Callable[[], AsyncExecutor], wd: Path) -> None:
    """The block ends with the call that runs, and those that wait are not made."""

    async def work() -> None:
        async with connected() as executor:
            one_at_a_time = executor.options(cores=2)
            calls = [one_at_a_time.submit(waits_for, str(wd / "go"), number) for number in range(3)]
            tasks = [asyncio.create_task(call) for call in calls]
            await under_way(executor, 3)
            threading.Timer(0.1, (wd / "go").touch).start()
            ended.append(tasks)
            raise KeyError("left")

    ended: list[list[asyncio.Task[int]]] = []

    async def work_and_look() -> list[bool]:
        with pytest.raises(KeyError, match="left"):
            await work()
        done = await asyncio.gather(*ended[0], return_exceptions=True)
        return [isinstance(one, asyncio.CancelledError) for one in done]

    assert sorted(run(work_and_look())) == [False, True, True], "whichever was first"


def test_cancelling_the_block_stops_what_executes(connected: Callable[[], AsyncExecutor], wd: Path) -> None:
    """As after Ctrl-C: the end of the block does not wait for a call that takes for ever."""

    async def work() -> None:
        async def block() -> None:
            async with connected() as executor:
                used.append(executor)
                await executor.submit(waits_for, str(wd / "never"), 1)

        used: list[AsyncExecutor] = []
        task = asyncio.create_task(block())
        while not used:
            await asyncio.sleep(0)
        await under_way(used[0], 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


def test_threads_have_event_loops_of_their_own(connected: Callable[[], AsyncExecutor]) -> None:
    """One executor serves the event loops of several threads."""
    executor = connected()
    found: list[int] = []

    async def work(number: int) -> None:
        found.append(await executor.submit(pow, number, 2))

    threads = [threading.Thread(target=run, args=(work(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    run(executor.shutdown())
    assert sorted(found) == [0, 1, 4, 9]


def in_child(work: Callable[[], object]) -> str:
    """What it returns in a forked child."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = repr(error)
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end) as file:
        said = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


def test_a_forked_child_uses_the_same_pilot(executor: Executor) -> None:
    """Executor, AsyncExecutor and AsyncManager of the parent work in a child, over connections of its own."""
    both = AsyncExecutor(connect=executor.pilot.where)
    manager = AsyncManager(executor.pilot.where)

    async def work() -> object:
        return await both.submit(abs, -4), (await manager.resources())["total_cores"]

    assert run(work()) == (4, 2)
    assert in_child(lambda: run(work())) == "(4, 2)"
    assert in_child(lambda: executor.submit(abs, -5).result(PATIENCE_S)) == "5"
    assert in_child(lambda: executor.shutdown()) == "None"
    assert executor.submit(abs, -6).result(PATIENCE_S) == 6
    run(both.shutdown())
    run(manager.close())


def test_requests_are_awaited(executor: Executor) -> None:
    """An AsyncManager has the methods of a Manager; its waits end in time, and when they are cancelled."""

    async def work() -> None:
        async with AsyncManager(executor.pilot.where) as manager:
            assert await manager.submit(Jobs().add(name="one", exec="true")) == ["one"]
            assert await manager.wait4("one", PATIENCE_S) == {"one": "SUCCEED"}
            assert (await manager.list())["one"]["status"] == "SUCCEED"
            assert (await manager.status("one"))["jobs"]["one"]["data"]["status"] == "SUCCEED"
            assert (await manager.info_parsed("one"))["one"].exit_code == 0
            await manager.submit(Jobs().add(name="long", exec="sleep", args=["1000"]))
            with pytest.raises(TimeoutElapsed):
                await manager.wait4(["long"], 0.01)
            waiting = asyncio.create_task(manager.wait4all())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await manager.cancel("long")
            assert await manager.wait4("long") == {"long": "CANCELED"}
            await manager.remove(["one", "long"])
            with pytest.raises(ConnectionError, match="one"):
                await manager.wait4("one")

    run(work())


def test_a_run_is_awaited(wd: Path) -> None:
    """As `LocalManager.run`."""

    async def work(pilot: LocalManager) -> None:
        async with AsyncManager(pilot) as manager:
            found = await manager.run(name="two", exec="true", timeout=PATIENCE_S)
            assert [(row.task, row.state) for row in found.tasks()] == [("two", "SUCCEED")]

    with LocalManager(wd=wd, cfg={"log_file": os.devnull}) as pilot:
        run(work(pilot))


def test_events_are_iterated_over(executor: Executor) -> None:
    """Those from now on, or all that the pilot still has."""

    async def work() -> None:
        manager = AsyncManager(executor.pilot)

        async def until_end_of(job: str, after: int | None) -> set[str]:
            found = set()
            async for event in manager.events(after):
                found.add(event.get("job", ""))
                if (event.get("job"), event["state"], "it" in event) == (job, "SUCCEED", False):
                    return found
            raise AssertionError("the events have ended")

        await manager.submit(Jobs().add(name="seen", exec="true"))
        assert "seen" in await until_end_of("seen", 0)
        later = asyncio.create_task(until_end_of("later", None))
        await asyncio.sleep(0.1)
        await manager.submit(Jobs().add(name="later", exec="true"))
        assert await later <= {"later", ""}
        await manager.close()  # it was lent, and stays open
        await manager.remove(["seen", "later"])

    run(work())
