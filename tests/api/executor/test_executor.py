"""An executor on a pilot of its own: results, exceptions, output, in the words of concurrent.futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import Command, Executor, task
from pilotfish.api.executor import CommandError, Future, LostCallError, RemoteError
from pilotfish.api.executor.future import NO_OUTPUT, settle, settle_with_error
from pilotfish.pilot.functions import values
from pilotfish.pilot.functions.worker import EXCEPTION


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot  # it is there before the first test, and so not left behind by it
        yield found


def test_a_call_gives_its_result(executor: Executor) -> None:
    """A function of a module is called with all its arguments."""
    assert executor.submit(divmod, 17, 5).result(PATIENCE_S) == (3, 2)


def test_a_function_without_a_module(executor: Executor) -> None:
    """Lambdas and closures are taken along."""
    factor = 3
    assert executor.submit(lambda number: factor * number, 14).result(PATIENCE_S) == 42


def test_map_gives_results_in_order(executor: Executor) -> None:
    """Results come in the order of the arguments."""
    assert list(executor.map(pow, range(50), [2] * 50)) == [number**2 for number in range(50)]


def test_an_exception_comes_back_as_itself(executor: Executor) -> None:
    """With its class and arguments, and where it was raised as its cause."""
    future = executor.submit(int, "seven")
    error = future.exception(PATIENCE_S)
    assert type(error) is ValueError
    assert "seven" in str(error)

    def fails() -> None:
        raise KeyError("missing", 7)

    error = executor.submit(fails).exception(PATIENCE_S)
    assert type(error) is KeyError
    assert error.args == ("missing", 7)
    assert "in fails" in str(error.__cause__)


def test_what_a_call_prints_is_kept(executor: Executor) -> None:
    """The output of a call, also of what it starts, is that of its future and of no other."""

    def speaks(word: str) -> None:
        print(word)
        os.system(f"echo {word} too")

    first, second = executor.submit(speaks, "one"), executor.submit(speaks, "two")
    concurrent.futures.wait([first, second], PATIENCE_S)
    assert first.output == "one\none too\n"
    assert second.output == "two\ntwo too\n"
    in_one_process = [executor.options(cores=2).submit(speaks, word) for word in "abc"]
    concurrent.futures.wait(in_one_process, PATIENCE_S)
    assert [future.output for future in in_one_process] == [f"{word}\n{word} too\n" for word in "abc"]


def test_futures_serve_asyncio_and_wait(executor: Executor) -> None:
    """They are futures of concurrent.futures: `wait`, `as_completed` and asyncio take them."""
    futures = [executor.submit(abs, -number) for number in range(3)]
    assert concurrent.futures.wait(futures, PATIENCE_S).not_done == set()
    assert {future.result() for future in concurrent.futures.as_completed(futures)} == {0, 1, 2}

    async def in_a_loop() -> int:
        return await asyncio.get_running_loop().run_in_executor(executor, abs, -5)

    assert asyncio.run(in_a_loop()) == 5


def test_the_process_of_a_call_dies(executor: Executor) -> None:
    """That costs the call, which says why, and no other."""
    future = executor.submit(os._exit, 7)
    others = [executor.submit(abs, -number) for number in range(20)]
    error = future.exception(PATIENCE_S)
    assert isinstance(error, RuntimeError)
    assert [other.result(PATIENCE_S) for other in others] == list(range(20))


def test_the_last_attempt_counts(executor: Executor, wd: Path) -> None:
    """What an earlier one has raised is not what became of a call whose process died in the end."""
    marker = wd / "tried"

    def raises_then_dies(path: str) -> None:
        if os.path.exists(path):
            os._exit(3)
        open(path, "x").close()
        raise KeyError("the first time")

    error = executor.options(retries=1).submit(raises_then_dies, str(marker)).exception(PATIENCE_S)
    assert isinstance(error, LostCallError)
    assert "exit code 3" in str(error)


def test_after_shutdown_nothing_is_taken() -> None:
    """`shutdown` waits for what was submitted; then `submit` raises RuntimeError."""
    executor = Executor(1)
    future = executor.submit(abs, -1)
    executor.shutdown()
    assert future.result(0) == 1
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)


def test_a_process_that_ends_well_during_a_call_is_lost_all_the_same(executor: Executor) -> None:
    """There is no result, so the call has failed, whatever the exit code of its process."""
    error = executor.submit(os._exit, 0).exception(PATIENCE_S)
    assert isinstance(error, LostCallError)
    assert "exit code 0 during the call" in str(error)
    assert error.state == "FAILED"


def test_an_exception_that_cannot_be_rebuilt(executor: Executor) -> None:
    """Its kind, text and traceback are known all the same."""

    def fails() -> None:
        class TwoArguments(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__(f"{one} and {two}")

        raise TwoArguments(1, 2)

    error = executor.submit(fails).exception(PATIENCE_S)
    assert isinstance(error, RemoteError)
    assert (error.kind, error.text) == ("TwoArguments", "1 and 2")
    assert "in fails" in str(error.__cause__)


def test_options_of_a_call(executor: Executor) -> None:
    """A view of the executor, or the function itself, says what a call asks for."""
    assert executor.options(cores=2, env={"WORD": "x"}).submit(os.getenv, "WORD").result(PATIENCE_S) == "x"

    @task(cores=2)
    def cores() -> str | None:
        return os.getenv("QCG_PM_NPROCS")

    assert executor.submit(cores).result(PATIENCE_S) == "2"
    assert executor.submit(task(os.getenv, cores=1), "QCG_PM_NPROCS").result(PATIENCE_S) == "1"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mem": "2X"}, 'mem: "2X" is not an amount of memory; write 500M or 2G'),
        ({"cores": 0}, "cores: 0 is too few; ask for at least 1"),
        ({"cores": "four"}, "cores: .*four"),
        ({"wt": -3}, "wt: -3 is not a time"),
        ({"after": [7]}, "after: 7 is not a future"),
        ({"max_mem": 7}, "max_mem: 7 is not an amount"),
        ({"env": {"A=B": "x"}}, "cannot be a variable"),
    ],
)
def test_wrong_options_are_refused_where_they_are_named(
    executor: Executor, options: dict[str, Any], error: str
) -> None:
    """As ValueError, with the name of the option."""
    with pytest.raises(ValueError, match=error):
        executor.options(**options)
    with pytest.raises(ValueError, match=error):
        task(abs, **options)


def test_more_than_there_is_is_an_error_of_the_future(executor: Executor) -> None:
    """What only the pilot can know the call raises; others are not touched."""
    too_much, other = executor.options(cores=3).submit(abs, -1), executor.submit(abs, -2)
    assert "Not enough resources" in str(too_much.exception(PATIENCE_S))
    assert other.result(PATIENCE_S) == 2


def test_a_call_is_stopped_at_its_limit(executor: Executor) -> None:
    """A wall time holds for calls, and says so."""
    error = executor.options(wt=0.2).submit(time.sleep, PATIENCE_S).exception(PATIENCE_S)
    assert str(error) == "wall time limit of 0.2 s reached"


def test_a_call_that_executes_is_interrupted(executor: Executor, wait_until: Callable[..., None]) -> None:
    """`cancel` is not for calls that execute, `interrupt` is; the next call finds a new process."""
    future = executor.submit(time.sleep, PATIENCE_S)
    wait_until(future.running, "the call runs")
    assert not future.cancel()
    assert executor.interrupt(future)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE_S)
    assert not executor.interrupt(future)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1


def _returns_when_it_is_stopped(begun: str, value: object) -> object:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    Path(begun).touch()
    while not stopped:
        time.sleep(0.001)
    return value


@pytest.mark.parametrize("value", [None, "x" * 200_000], ids=["small", "in a file"])
def test_a_call_that_returns_while_it_is_stopped(
    executor: Executor, wd: Path, wait_until: Callable[..., None], value: object
) -> None:
    """It is cancelled all the same, and the value that nobody wants leaves no file; everything else goes on."""
    begun = wd / "begun"
    future = executor.submit(_returns_when_it_is_stopped, str(begun), value)
    wait_until(begun.exists, "the call has begun")
    executor.interrupt(future)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE_S)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1
    folder = Path(executor._core._link.folder())
    wait_until(lambda: not list(folder.glob("value-*")), "the values are gone")


def test_the_end_of_a_call_that_was_cancelled_here_before(executor: Executor) -> None:
    """Whatever the pilot tells of it is of no use any more: a value, an exception, damage, nothing."""
    value = values.write(None, "")
    for data in (b"", NO_OUTPUT, NO_OUTPUT + value, NO_OUTPUT + EXCEPTION + b"\xc1", NO_OUTPUT + b"?"):
        for state in ("CANCELED", "FAILED", "SUCCEED"):
            canceled: Future[None] = Future()
            assert canceled.cancel()
            open_one: Future[None] = Future()
            for future in (canceled, open_one):
                (settle(future, data) if state == "SUCCEED" else settle_with_error(future, data, "", state))
            assert canceled.cancelled()
            assert open_one.done()
            assert (state == "SUCCEED" and data[4:] == value) == (open_one._exception is None)


def test_a_call_that_waits_is_cancelled(executor: Executor, wait_until: Callable[..., None]) -> None:
    """Here, and in the pilot: it never runs."""
    both = executor.options(cores=2)
    blocker = both.submit(time.sleep, PATIENCE_S)
    wait_until(blocker.running, "the call runs")
    waiting = both.submit(os._exit, 1)
    wait_until(lambda: waiting.task, "the call was sent")
    assert waiting.cancel()
    assert waiting.cancelled()
    assert concurrent.futures.wait([waiting], PATIENCE_S).done == {waiting}
    executor.interrupt(blocker)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, [2.5, {"a": (b"x", "y")}], True),
        {1: 2, (3, "x"): [None]},
        bytearray(b"abc"),
        2**70,
        "\ud800",
        {1, 2},
        range(3),
        "x" * 200_000,
        [[0.5] * 300] * 300,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_were(executor: Executor, value: object) -> None:
    """With their types, small and large."""
    found = executor.submit(lambda given: given, value).result(PATIENCE_S)
    assert found == value
    assert type(found) is type(value)


def test_arrays_go_there_and_back(executor: Executor) -> None:
    """Small and large ones, in C and Fortran order; they may be written to."""
    numpy = pytest.importorskip("numpy")
    for array in (
        numpy.arange(12.0).reshape(3, 4),
        numpy.asfortranarray(numpy.arange(12).reshape(3, 4)),
        numpy.arange(100_000).reshape(100, -1),
        numpy.array(["2001-01-01"], dtype="datetime64[D]"),
        numpy.zeros((0, 3)),
        numpy.arange(100_000)[::2],
    ):
        found = executor.submit(lambda given: given, array).result(PATIENCE_S)
        assert (found == array).all()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.flags.writeable
    table = {"a": numpy.arange(50_000), "b": [numpy.ones(50_000)]}
    found = executor.submit(lambda given: given, table).result(PATIENCE_S)
    assert (found["b"][0] == 1).all()


def test_a_command(executor: Executor, wd: Path) -> None:
    """Its result has the exit code, what it printed, and the files it was asked for."""
    command = Command(
        "sh", "-c", "echo out; echo err >&2; echo data > 'x.dat'; exit $0", 3, wd=wd / "new", files="*.dat"
    )
    result = executor.submit(command).result(PATIENCE_S)
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert result.files == (wd / "new" / "x.dat",)
    with pytest.raises(CommandError, match="sh ended with exit code 3: err"):
        result.check()
    assert isinstance(executor.submit(Command("no-such-program")).exception(PATIENCE_S), FileNotFoundError)


def test_map_in_chunks(executor: Executor) -> None:
    """Results come one by one and in order, whatever the size of a chunk; wrong sizes are refused."""
    for size in (1, 3, 100):
        assert list(executor.map(lambda a, b: a - b, range(10), range(20, 30), chunksize=size)) == [-20] * 10
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)
    with pytest.raises(TimeoutError):
        list(executor.map(time.sleep, [PATIENCE_S], timeout=0.05))


def test_a_function_that_has_changed_is_sent_anew(executor: Executor) -> None:
    """What a function without a module refers to counts as it is at the time of the call."""
    factor = 2

    def scaled(number: int) -> int:
        return factor * number

    assert executor.submit(scaled, 5).result(PATIENCE_S) == 10
    factor = 3
    assert executor.submit(scaled, 5).result(PATIENCE_S) == 15


def test_an_initializer() -> None:
    """It is called in each function worker before its first call; when it fails, so do all calls."""

    def prepare(word: str) -> None:
        os.environ["WORD"] = word

    with Executor(1, initializer=prepare, initargs=("ready",)) as executor:
        assert executor.submit(os.getenv, "WORD").result(PATIENCE_S) == "ready"

    def fails() -> None:
        raise OSError("no licence")

    with Executor(1, initializer=fails) as executor:
        error = executor.submit(abs, -1).exception(PATIENCE_S)
        assert isinstance(error, concurrent.futures.BrokenExecutor)
        assert "no licence" in str(error.__cause__)


def test_function_workers_are_changed(executor: Executor) -> None:
    """After so many calls as they may make."""
    once = executor.options(max_calls=1, env={"KIND": "once"})
    pids = [once.submit(os.getpid).result(PATIENCE_S) for _ in range(3)]
    assert len(set(pids)) == 3
    kept = executor.options(cores=2)
    assert len({kept.submit(os.getpid).result(PATIENCE_S) for _ in range(3)}) == 1


def test_a_pilot_that_cannot_start_breaks_the_executor() -> None:
    """All calls say why."""
    executor = Executor(server_args=["--nodes", "none"])
    with pytest.raises(concurrent.futures.BrokenExecutor, match="none"):
        executor.submit(abs, -1).result(PATIENCE_S)
    executor.shutdown()


def test_a_call_that_forks_is_one_call(executor: Executor) -> None:
    """The child that it leaves takes no other calls, and tells of no end."""

    def forks() -> int:
        return os.fork() and 1

    futures = [executor.submit(forks) for _ in range(5)]
    assert [future.result(PATIENCE_S) for future in futures] == [1] * 5
    assert list(executor.map(abs, range(20))) == list(range(20))


def test_the_end_of_a_child_of_the_program_is_not_that_of_the_pilot(executor: Executor) -> None:
    """Its calls go over a connection of its own, and shutting down there ends only that."""
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if executor.submit(abs, -2).result(PATIENCE_S) == 2 else 2
            executor.shutdown()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_program_that_does_not_shut_down_ends_when_its_calls_have(wd: Path) -> None:
    """As with the executors of the standard library."""
    program = "from pilotfish import Executor; e = Executor(1); print(e.submit(pow, 2, 5).result()); e.submit(print)"
    done = subprocess.run([sys.executable, "-c", program], cwd=wd, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("32\n", "")
