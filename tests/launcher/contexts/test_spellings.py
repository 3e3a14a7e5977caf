"""A folder is one folder, however it is spelled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liar import Liar

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import RemoteFile
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

ROOT = ["", ".", "./", "././", "./.", ".//"]
BELOW = ["a/b", "./a/b", "a//b", "a/./b", "a/b/", "././a/b/.", "a/b//"]
FILES = ["out", "./out", ".//out", "./././out"]
CONTEXTS = ["Local", "LazyLocal", "SSH"]


@pytest.fixture
def machine(liar: Liar) -> Callable[[str], dict[str, Any]]:
    """The keys of a machine with this context."""

    def made(context: str) -> dict[str, Any]:
        more = {"remote_profile": liar.lie().profile} if context == "SSH" else {}
        return {"context_type": context, **more}

    return made


@settings(deadline=None)
@given(
    st.sampled_from([*ROOT, *BELOW]),
    st.sampled_from(FILES),
    st.lists(st.sampled_from([".", ""]), max_size=3),
    st.booleans(),
)
def test_what_comes_back_does_not_depend_on_spelling(folder: str, pattern: str, noise: list[str], slash: bool) -> None:
    """Noise of `.` and doubled slashes may be anywhere in the task's folder and in a pattern."""
    parts = ["." if each == "." else "" for each in noise]
    folder = "/".join([folder or ".", *parts]) + ("/" if slash else "")
    place = "a/b/" if "a" in folder else ""
    listing = [RemoteFile(f"{place}{name}", 0, 0.0) for name in ("out", "d/out", "other")] + [
        RemoteFile("x/out", 0, 0.0)
    ]
    assert staging.backward([pattern], folder, listing) == ([f"{place}out"], [])
    assert staging.backward([f"d/{pattern}"], folder, listing) == ([f"{place}d/out"], [])
    assert staging.backward(["d/"], folder, listing) == ([f"{place}d/out"], [])


@settings(deadline=None)
@given(st.sampled_from([*ROOT, *BELOW]), st.sampled_from(FILES))
def test_hashes_are_those_of_what_was_written(folder: str, name: str) -> None:
    """DPDispatcher's tasks are known again by them: another spelling is another hash."""
    task = Task("true", folder, forward_files=(name,))
    assert (task.task_hash == Task("true", ".", forward_files=["out"]).task_hash) is ((folder, name) == (".", "out"))
    assert task.folder == ("a/b" if "a" in folder else ".")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("folders", [ROOT, BELOW], ids=["root", "below"])
def test_results_come_home_however_folders_and_files_are_spelled(
    machine: Callable[[str], dict[str, Any]],
    wd: Path,
    submission: Callable[..., Placement],
    context: str,
    folders: list[str],
) -> None:
    """Those in folders below the task's as well; inputs go to where the task looks for them."""
    below = wd / "here/w" / ("a/b" if folders is BELOW else "")
    below.mkdir(parents=True)
    (below / "in").write_text("1\n")
    tasks = [
        {
            "command": f"mkdir -p sub; cp in out{number}; cp in sub/deep{number}; cat $REMOTE_ROOT/common >>out{number}",
            "task_work_path": folder,
            "forward_files": [FILES[number % len(FILES)].replace("out", "in")],
            "backward_files": [FILES[number % len(FILES)] + str(number), f"./sub//deep{number}"],
            "outlog": f"./log{number}",
        }
        for number, folder in enumerate(folders)
    ]
    (wd / "here/w/common").write_text("2\n")
    common = {"forward_common_files": ["./common"], "backward_common_files": [".//common", "./"]}
    made = submission(*tasks, machine=machine(context), work_base="./w//.", resources={"group_size": 0}, **common)
    assert made.run(check_interval_s=0.5).over
    for number in range(len(folders)):
        assert (below / f"out{number}").read_text() == "1\n2\n"
        assert (below / f"sub/deep{number}").read_text() == "1\n"


@pytest.mark.parametrize(
    ("context", "folder"), [*[("Local", each) for each in ("./", "", ".//a/")], ("LazyLocal", "./"), ("SSH", "./")]
)
def test_logs_of_a_failed_task_come_home_however_its_folder_is_spelled(
    machine: Callable[[str], dict[str, Any]],
    wd: Path,
    submission: Callable[..., Placement],
    context: str,
    folder: str,
) -> None:
    task = {
        "command": "echo out; echo err >&2; false",
        "task_work_path": folder,
        "outlog": "./x.log",
        "errlog": ".//x.err",
    }
    with pytest.raises(SubmissionFailedError):
        submission(task, machine=machine(context)).run(check_interval_s=0.5)
    below = wd / "here/w" / ("a" if "a" in folder else "")
    assert [(below / name).read_text() for name in ("x.log", "x.err")] == ["out\n", "err\n"]


@pytest.mark.parametrize("folder", ["./", "", "./a//"])
def test_a_second_run_knows_what_was_done_in_a_folder_however_it_is_spelled(
    wd: Path, submission: Callable[..., Placement], folder: str
) -> None:
    """Changed inputs are seen too, and only the task that they matter to runs again."""
    below = wd / "here/w" / ("a" if "a" in folder else "")
    below.mkdir(parents=True)
    task = {
        "command": "cat in >out; echo x >>count",
        "task_work_path": folder,
        "forward_files": ["./in"],
        "backward_files": ["out", "count"],
    }
    other = {"command": "echo x >>count", "task_work_path": "b", "backward_files": ["count"]}
    for text in ("1", "1", "2"):
        (below / "in").write_text(text)
        submission(task, other).run(clean=False, check_interval_s=0.5)
    assert (below / "out").read_text() == "2"
    assert (below / "count").read_text() == "x\nx\n"
    assert (wd / "here/w/b/count").read_text() == "x\n"


@pytest.mark.parametrize("folder", ["./", "", "./a//"])
def test_commands_find_a_task_by_its_folder_and_bring_its_files(
    wd: Path, submission: Callable[..., Placement], folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner

    from pilotfish.launcher.cli.submissions import submissions

    task = {"command": "echo hi; echo 1 >out", "task_work_path": folder, "backward_files": ["./out"]}
    submission(task).run(clean=False, check_interval_s=0.5)
    below = "a/" if "a" in folder else ""
    shown = CliRunner().invoke(submissions, ["logs", "last", os.path.normpath(folder), "--stdout", "--json"])
    assert json.loads(shown.stdout)["logs"] == {f"{below}log": "hi\n"}
    (wd / "here/w" / below / "out").unlink()
    moved = CliRunner().invoke(submissions, ["download", "last", "--json"])
    assert json.loads(moved.stdout)["files"] == [f"{below}out"]
    assert (wd / "here/w" / below / "out").read_text() == "1\n"
