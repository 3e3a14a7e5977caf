"""The contexts of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import NO_FOLDER, Context, TransferError
from pilotfish.launcher.contexts.lazy_local import LazyLocalContext
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.pilot.model.errors import TransientError


@pytest.fixture(params=[True, False], ids=["links", "copies"])
def context(wd: Path, request: pytest.FixtureRequest) -> Context:
    return LocalContext(wd / "here", str(wd / "there"), {"symlink": request.param})


def test_commands(wd: Path, context: Context) -> None:
    done = context.run(users("cat; echo err >&2; exit 3"), cwd=str(wd), stdin=b"in")
    assert (done.code, done.out, done.err) == (3, "in", "err\n")
    assert context.run(users("kill -9 $$")).code == 137
    assert context.run(users("touch ran"), cwd=str(wd / "gone")).code == NO_FOLDER
    with pytest.raises(TransientError, match="not done after"):
        context.run(users("sleep 60"), timeout_s=0.1)


def test_a_folder_into_which_an_ending_job_still_writes_is_removed(
    wd: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = wd / "there"
    (root / "a").mkdir(parents=True)
    true_one, late = os.rmdir, ["a/last", "last"]

    def after_a_last_word(*path: Any, **more: Any) -> None:
        if late:
            (root / late.pop(0)).touch()
        true_one(*path, **more)

    monkeypatch.setattr(os, "rmdir", after_a_last_word)
    context.remove(str(root))
    assert not root.exists()
    context.remove(str(root))


def test_inputs_go_there_once(wd: Path, context: Context) -> None:
    work = wd / "here"
    (work / "d").mkdir(parents=True)
    (work / "d/x").write_text("x")
    files = staging.forward(["d"], work, "")
    root = context.root_for("hash", "w")
    assert context.put(root, files, ["empty"]).moved == ("d/x",)
    assert context.put(root, files).same == ("d/x",)
    assert Path(root, "empty").is_dir()
    assert not Path(root, "d").is_symlink(), "what tasks write beside it must not land in the project"
    (work / "d/x").write_text("changed")
    context.put(root, staging.forward(["d"], work, ""))
    assert Path(root, "d/x").read_text() == "changed"


def test_results_come_back_whole_as_often_as_asked(wd: Path, context: Context) -> None:
    root = context.root_for("hash", "w")
    context.write({f"{root}/t/out": b"result"})
    Path(root, "t/link").symlink_to("out")
    for _ in range(2):
        context.get(root, ["t/out", "t/link"], wd / "here")
    assert (wd / "here/t/link").read_text() == "result"
    assert not (wd / "here/t/link").is_symlink()
    with pytest.raises(TransferError):
        context.get(root, ["t/none"], wd / "here")


def test_files_are_listed_below_folders(wd: Path, context: Context) -> None:
    root = context.root_for("hash", "w")
    context.write({f"{root}/{name}": b"12" for name in ("a", "t/b", "t/u/c", "v/d")})
    listed = [file.path for file in context.list_files(root, [".", "t", "none"])]
    assert listed == ["a", "t/b", "t/u/c"]
    assert [file.size for file in context.list_files(root, ["**"])] == [2, 2, 2, 2]
    context.remove(root)
    context.remove(root)
    assert context.list_files(root, ["**"]) == []


def test_writing_is_all_or_nothing_and_private(wd: Path, context: Context) -> None:
    context.write({str(wd / "x"): b"1"})
    assert (wd / "x").stat().st_mode & 0o777 == 0o600
    assert os.listdir(wd) == ["x"]
    assert context.read([str(wd / "x"), str(wd / "none")]) == {str(wd / "x"): b"1"}


def test_the_lazy_one_works_in_the_project_and_leaves_it_alone(wd: Path) -> None:
    context = LazyLocalContext(wd, None, {})
    root = context.root_for("hash", "w")
    assert root == str(wd / "w")
    context.put(root, [], ["t"])
    (wd / "w/t/out").write_text("result")
    context.get(root, ["t/out"], wd / "w")
    context.remove(root)
    assert (wd / "w/t/out").read_text() == "result"
