"""The output of earlier attempts stays: `NAME.1` beside the latest attempt's `NAME`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_manager import POOL, FakeManager

from pilotfish.pilot.agent import earlier_output
from pilotfish.pilot.model.ids import TaskKey
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames


def attempt(manager: FakeManager, number: int, execution: Execution, run: int | None = None) -> frames.Finished:
    """Run one attempt of a task to its end."""
    job = manager.job("task", execution)
    start = frames.TaskStart(job.job_no, 0, run or number, None, None, number)
    manager.work([job], [manager.grant()], {POOL: [start]})
    return manager.finished(TaskKey(job.job_no, 0, run or number))


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name.startswith(("out", "err"))}


TELLING = Execution(script="echo o$PILOTFISH_RUN; echo e$PILOTFISH_RUN >&2", stdout="out", stderr="err")


def test_each_attempt_has_files_of_its_own(manager: FakeManager) -> None:
    for number in (1, 2, 3):
        attempt(manager, number, TELLING)
    assert texts(manager.folder) == {
        "out.1": "o1\n", "out.2": "o2\n", "out": "o3\n", "err.1": "e1\n", "err.2": "e2\n", "err": "e3\n"
    }  # fmt: skip


def test_one_file_for_both_streams_is_kept_once(manager: FakeManager) -> None:
    both = Execution(script="echo o$PILOTFISH_RUN; echo e$PILOTFISH_RUN >&2", stdout="out", stderr="out")
    attempt(manager, 1, both)
    attempt(manager, 2, both)
    assert texts(manager.folder) == {"out.1": "o1\ne1\n", "out": "o2\ne2\n"}


def test_what_was_sent_out_and_came_back_unstarted_is_no_attempt(manager: FakeManager) -> None:
    """A file of that name is of an earlier pilot: it is written over, as by a shell."""
    (manager.folder / "out").write_text("old")
    attempt(manager, 1, TELLING, run=3)
    assert texts(manager.folder) == {"out": "o3\n", "err": "e3\n"}


def test_a_file_of_that_name_is_not_replaced(manager: FakeManager) -> None:
    (manager.folder / "out.1").write_text("mine")
    (manager.folder / "out.1-2").write_text("mine too")
    attempt(manager, 1, TELLING)
    attempt(manager, 2, TELLING)
    found = texts(manager.folder)
    assert (found["out.1"], found["out.1-2"], found["out.1-3"], found["out"]) == ("mine", "mine too", "o1\n", "o2\n")


def test_an_attempt_that_printed_nothing_has_an_empty_file(manager: FakeManager) -> None:
    silent = Execution(exec="true", stdout="out")
    attempt(manager, 1, silent)
    attempt(manager, 2, silent)
    assert texts(manager.folder) == {"out.1": "", "out": ""}


def test_what_is_no_plain_file_stays_where_it_is(manager: FakeManager) -> None:
    os.mkfifo(manager.folder / "out")
    (manager.folder / "err").symlink_to("/dev/null")
    reader = os.open(manager.folder / "out", os.O_RDONLY | os.O_NONBLOCK)
    attempt(manager, 1, TELLING)
    attempt(manager, 2, TELLING)
    assert os.read(reader, 100) == b"o1\no2\n"
    os.close(reader)
    assert sorted(path.name for path in manager.folder.glob("[oe]*")) == ["err", "out"]


def test_output_is_looked_for_where_the_task_runs(manager: FakeManager) -> None:
    below = Execution(script="echo o$PILOTFISH_RUN", wd="w", stdout="deep/out")
    attempt(manager, 1, below)
    attempt(manager, 2, below)
    assert texts(manager.folder / "w/deep") == {"out.1": "o1\n", "out": "o2\n"}


def test_a_file_system_without_links_keeps_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "link", refuse)
    Path("out").write_text("first")
    Path("out.1").write_text("mine")
    earlier_output.keep(Execution(exec="true", stdout="out"), 1)
    assert texts(tmp_path) == {"out.1": "mine", "out.1-2": "first"}
