"""A program that is started again finds its results: by the executor's name, or in a cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Executor, LocalManager

PROGRAM = """
import os, sys, time
from pilotfish import Executor

def note(number):
    with open("log", "a") as file:
        file.write(f"{number} ")
    time.sleep(0.05)
    return number * 2

executor = Executor(1, name="study")
futures = [executor.submit(note, number) for number in range(8)]
if "crash" in sys.argv:
    futures[2].result()
    os._exit(9)
print([future.result() for future in futures])
executor.shutdown()
"""


def test_a_program_that_was_killed_goes_on(wd: Path) -> None:
    """What had ended is not computed again; what was under way is."""
    (wd / "program.py").write_text(PROGRAM)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "program.py", *words]
        return subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)

    assert run("crash").returncode == 9
    assert run().stdout == f"{[number * 2 for number in range(8)]}\n"
    made = (wd / "log").read_text().split()
    assert [made.count(str(number)) for number in range(3)] == [1, 1, 1]
    assert set(made) == {str(number) for number in range(8)}
    assert len(made) <= 9  # one may have been under way at the kill


def test_a_failed_call_is_made_again(wd: Path) -> None:
    """An earlier failure is no result."""
    marker = wd / "marker"

    def needs(path: str) -> str:
        return Path(path).read_text()

    for text in ("", "ready"):
        if text:
            marker.write_text(text)
        with Executor(1, name="again", folder=wd) as executor:
            future = executor.submit(needs, str(marker))
            if text:
                assert future.result(PATIENCE_S) == text
            else:
                assert isinstance(future.exception(PATIENCE_S), FileNotFoundError)


def test_names_that_cannot_be_are_refused() -> None:
    """They are part of a folder's name."""
    for name in ("", "a/b", "a b", "x" * 65):
        with pytest.raises(ValueError, match="name"):
            Executor(name=name)


def test_a_cache(wd: Path) -> None:
    """The same function with the same arguments and the same files is not called again, in any program."""
    log, data = wd / "log", wd / "data"
    data.write_text("one")

    def length(word: str, log: str, data: str) -> int:
        with open(log, "a") as file:
            file.write(f"{word} ")
        return len(word) + len(Path(data).read_text())

    for expected, content in ((6, "one"), (8, "three")):
        data.write_text(content)
        with Executor(1, cache=wd / "cache") as executor:
            with_files = executor.options(files=[data])
            assert with_files.submit(length, "abc", str(log), str(data)).result(PATIENCE_S) == expected
            assert with_files.submit(length, "abc", str(log), str(data)).result(PATIENCE_S) == expected
    assert log.read_text() == "abc abc "


def test_a_cache_that_others_can_write_is_refused(wd: Path) -> None:
    """There are pickles in it, which can run any code."""
    (wd / "cache").mkdir()
    (wd / "cache").chmod(0o777)
    with pytest.raises(ValueError, match="cache"):
        Executor(1, cache=wd / "cache")


def test_a_pilot_that_runs_on_keeps_what_was_taken(wd: Path) -> None:
    """Also from an executor with a name that has had its results: another life finds them, and makes what failed again."""

    def note(number: int, log: str) -> int:
        with open(log, "a") as file:
            file.write(f"{number} ")
        return 6 // number

    with LocalManager(["--nodes", 1, "--wd", wd]) as pilot:
        for _ in range(3):
            with Executor(connect=pilot.where, name="life") as executor:
                futures = [executor.submit(note, number, str(wd / "log")) for number in (1, 2, 0)]
                assert [future.result(PATIENCE_S) for future in futures[:2]] == [6, 3]
                assert isinstance(futures[2].exception(PATIENCE_S), ZeroDivisionError)
    assert sorted((wd / "log").read_text().split()) == ["0", "0", "0", "1", "2"]
