"""What people see in a notebook, and a notebook that is executed for real."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from process_state import has_ended

from pilotfish import AsyncExecutor, Executor, JobInfo, Jobs, LocalManager, Run, as_completed, wait
from pilotfish.api.executor.progress import Line

RUNNER = """
import asyncio, json, pathlib, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

cells, marker = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
client = NotebookClient(notebook, kernel_name="python3", allow_errors=True)


async def interrupt():
    while not (marker.exists() and marker.read_text()):
        await asyncio.sleep(0.02)
    await client.km.interrupt_kernel()


async def main():
    interrupting = asyncio.create_task(interrupt())
    await client.async_execute()
    await interrupting


asyncio.run(main())
print(json.dumps([cell.outputs for cell in notebook.cells]))
"""

CELLS = [
    """
from pilotfish import Executor
executor = Executor(1)
future = executor.submit(lambda number: number + 1, 41)
future.result()
future
""",
    """
from pilotfish import as_completed
sorted(future.result() for future in as_completed([executor.submit(abs, -n) for n in range(3)], progress=True))
""",
    "list(executor.map(abs, range(3), progress=True))",
    """
def long():
    import os, time
    open("pid", "w").write(str(os.getpid()))
    time.sleep(1000)

with Executor(1) as other:
    other.submit(long).result()
""",
    """
import os, pathlib
alive = os.path.exists(f"/proc/{pathlib.Path('pid').read_text()}")
found = executor.submit(abs, -1).result(), alive
executor.shutdown()
found
""",
]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as found:
        assert found.pilot
        yield found


def _text(outputs: list[dict[str, Any]], name: str) -> str:
    return "".join(one.get("text", "") for one in outputs if one.get("name") == name)


def _shown(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The value of a cell; what it prints may come before or after it."""
    (data,) = [one["data"] for one in outputs if "data" in one]
    return dict(data)


def test_a_notebook_is_executed(wd: Path) -> None:
    """Functions of a notebook are called, futures and progress are shown; Ctrl-C of the kernel stops the call and its pilot."""
    home = {name: str(wd) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    command = [sys.executable, "-c", RUNNER, json.dumps(CELLS), str(wd / "pid")]
    ran = subprocess.run(
        command, cwd=wd, env={**os.environ, **home}, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, completed, mapped, stopped, last = json.loads(ran.stdout)
    assert "<td" in _shown(first)["text/html"]
    assert "42" in _shown(first)["text/html"]
    for shown in (completed, mapped):
        assert _shown(shown)["text/plain"] == "[0, 1, 2]"
        assert "3/3" in _text(shown, "stderr")
    assert stopped[-1]["ename"] == "KeyboardInterrupt"
    assert _shown(last)["text/plain"] == "(1, False)"
    assert has_ended(int((wd / "pid").read_text()))


def test_futures_are_shown(executor: Executor) -> None:
    """With their state, and what they have returned, raised and printed; no text becomes a tag."""
    good = executor.submit(lambda: print("<b>said</b>") or "<i>value</i>")
    assert good.result(PATIENCE_S) == "<i>value</i>"
    seen = good._repr_html_()
    for text in ("finished", "&lt;b&gt;said&lt;/b&gt;", "&lt;i&gt;value&lt;/i&gt;", good.task):
        assert text in seen
    bad = executor.submit(int, "<u>")
    assert bad.exception(PATIENCE_S) is not None
    assert "ValueError: " in bad._repr_html_()
    assert "<u>" not in bad._repr_html_()
    assert "open" in executor._repr_html_()


def test_jobs_and_runs_are_shown(wd: Path) -> None:
    """A job with its state and where it ran; a run with its counts and failures."""
    with LocalManager(["--wd", wd], {"log_file": os.devnull}) as pilot:
        pilot.submit(Jobs().add(name="bad", exec="false").add(name="good", exec="true"))
        pilot.wait4(["bad", "good"])
        info = pilot.info_parsed("good")["good"]
    seen = info._repr_html_()
    assert "<b>good</b>" in seen
    assert "SUCCEED" in seen
    assert "&lt;x&gt;" in JobInfo("<x>", "FAILED")._repr_html_()
    run = Run(wd=wd)._repr_html_()
    assert f"<b>Run {Run(wd=wd).name}</b>" in run
    assert ">bad</td>" in run
    assert ">good</td>" not in run


def test_descriptions_are_shown() -> None:
    """What each job runs, how often and after what; of very many the first."""
    jobs = Jobs().add(name="<a>", exec="echo", args=["${it}", 1], iteration=3)
    jobs.add(name="b", script="true", after=["<a>"]).add_std(name="c", execution={"exec": "true", "args": "x"})
    seen = jobs._repr_html_()
    for text in (
        ">3</td>",
        ">&lt;a&gt;</td>",
        ">echo ${it} 1</td>",
        ">{&quot;start&quot;: 0, &quot;stop&quot;: 3}</td>",
    ):
        assert text in seen
    assert ">true x</td>" in seen
    for number in range(100):
        jobs.add(name=f"job-{number}", exec="true")
    assert ">103</td>" in jobs._repr_html_()
    assert jobs._repr_html_().count("job-") == 17


@pytest.mark.parametrize("chunksize", [1, 4])
def test_progress_of_a_map(
    executor: Executor, chunksize: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The results are those without; the last that is shown is that all calls have ended, also without tqdm."""
    monkeypatch.setattr("pilotfish.api.executor.progress.find_spec", lambda _: None)
    assert list(executor.map(abs, range(10), chunksize=chunksize, progress=True)) == list(range(10))
    written = _until_written(capfd)
    assert written.endswith("\r10/10 calls\n")


def _until_written(capfd: pytest.CaptureFixture[str]) -> str:
    """The last line may come just after the last result."""
    written = ""
    while not written.endswith("\n"):
        written += capfd.readouterr().err
    return written


def test_progress_of_futures(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wd: Path
) -> None:
    """`wait` and `as_completed` do what those of the standard library do, and show how many are done while they wait."""
    monkeypatch.setattr("pilotfish.api.executor.progress.new_bar", Line)
    futures = [executor.submit(abs, -number) for number in range(4)]
    assert sorted(future.result() for future in as_completed([*futures, futures[0]], progress=True)) == [0, 1, 2, 3]
    assert capsys.readouterr().err.endswith("\r4/4 calls\n")
    done, not_done = wait(futures, progress=True)
    assert (done, not_done) == (set(futures), set())
    assert capsys.readouterr().err.endswith("\r4/4 calls\n")

    never = concurrent.futures.Future[int]()
    assert wait([*futures, never], 0, progress=True).not_done == {never}
    assert capsys.readouterr().err.endswith("\r4/5 calls\n")
    assert wait([*futures, never], return_when=concurrent.futures.FIRST_COMPLETED).not_done == {never}
    with pytest.raises(TimeoutError):
        list(as_completed([never], 0, progress=True))
    never.set_result(1)  # nothing is shown any more
    assert capsys.readouterr().err == "\r0/1 calls\n"


def test_progress_of_awaited_results(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """AsyncExecutor shows it too, in order and as calls end."""
    monkeypatch.setattr("pilotfish.api.executor.progress.new_bar", Line)
    awaiting = object.__new__(AsyncExecutor)
    awaiting.executor = executor

    async def work() -> None:
        assert [value async for value in awaiting.map(abs, [-1, -2], progress=True)] == [1, 2]
        assert sorted([value async for value in awaiting.as_completed(abs, [-1, -2], progress=True)]) == [1, 2]

    asyncio.run(work())
    assert capsys.readouterr().err.count("\r2/2 calls\n") == 2


def test_futures_that_are_taken_are_let_go() -> None:
    """As with the standard library's `as_completed`: a million results need not be in memory together."""
    futures = [concurrent.futures.Future[int]() for _ in range(3)]
    for future in futures:
        future.set_result(1)
    kept = [weakref.ref(future) for future in futures]
    del future
    taken = as_completed(futures)
    next(taken)
    futures.clear()
    gc.collect()
    assert sum(reference() is not None for reference in kept) == 2
    assert len(list(taken)) == 2


def test_a_map_without_calls_has_a_line_too(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to wait for."""
    monkeypatch.setattr("pilotfish.api.executor.progress.new_bar", Line)
    assert list(executor.map(abs, [], progress=True)) == []
    assert capsys.readouterr().err == "\r0/0 calls\n"


def test_ctrl_c_stops_the_calls_of_the_block(wd: Path, wait_until: Callable[..., None]) -> None:
    """Leaving the block by KeyboardInterrupt does not wait for what runs: it is told to end."""
    begun = wd / "begun"

    def long() -> None:
        import time

        begun.touch()
        time.sleep(1000)

    with pytest.raises(KeyboardInterrupt), Executor(1) as own:
        calls = [own.submit(long) for _ in range(3)]
        wait_until(begun.exists, "no call has begun")
        raise KeyboardInterrupt
    assert all(call.done() for call in calls)
