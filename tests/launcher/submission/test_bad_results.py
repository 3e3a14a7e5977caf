"""One result that cannot be had keeps no other away: the rest comes home, and that one is told and missing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from liar import Liar
from sshd import Sshd

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import Context, TransferError
from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.submission.placement import Placement

LATIN_1 = os.fsdecode(b"caf\xe9 \xff")
ODD = [
    LATIN_1,
    "line\nbreak",
    "form\x0cfeed",
    "return\r",
    "next\u2028line",
    "back\\slash",
    "-dash",
    "é" * 120,
    "x" * 255,
]
WAYS = ["Local", "archive", "rsync", "large", "openssh"]


@pytest.fixture(params=WAYS)
def context(request: pytest.FixtureRequest, wd: Path, liar: Liar) -> Iterator[Context]:
    """Of each way by which results come; with `rsync` files must be large."""
    (wd / "there").mkdir()
    profile = {**liar.lie().profile, "rsync": request.param == "rsync"}
    if request.param == "large":
        profile["archive_chunk_size"] = 1
    if request.param == "openssh":
        profile["transport"] = "openssh"
    local = LocalContext(wd, str(wd / "there"), {})
    with local if request.param == "Local" else SSHContext(wd, str(wd / "there"), profile) as made:
        made.__dict__["size"] = rsync.FROM_BYTES if request.param == "rsync" else 10
        yield made


def fill(context: Context, folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * context.__dict__["size"])


def test_files_whose_names_are_no_text_come_home(context: Context, wd: Path) -> None:
    """Bytes that are no UTF-8, signs that end lines, and names as long as a file system takes."""
    fill(context, wd / "there", *ODD)
    listed = [file.path for file in context.list_files(str(wd / "there"), ["**"])]
    assert sorted(listed) == sorted(ODD)
    assert sorted(context.get(str(wd / "there"), listed, wd / "here", partly=True).moved) == sorted(ODD)
    assert sorted(path.name for path in (wd / "here").iterdir()) == sorted(ODD)


def test_inputs_whose_names_are_no_text_go_there(context: Context, wd: Path) -> None:
    fill(context, wd / "here", *ODD)
    files = staging.forward(["."], wd / "here", "")
    context.put(str(wd / "there"), files)
    assert context.put(str(wd / "there"), files).moved == ()
    assert sorted(path.name for path in (wd / "there").iterdir()) == sorted(ODD)


def test_what_is_no_file_any_more_is_told_and_the_rest_comes(context: Context, wd: Path) -> None:
    """Gone, a folder, a pipe, a socket, a link that leads nowhere: what may become of a name after it was listed."""
    there = wd / "there"
    fill(context, there, "a", "d/b", "z")
    (there / "folder").mkdir()
    os.mkfifo(there / "pipe")
    (there / "link").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(there / "socket"))
    asked = ["a", "d/b", "folder", "gone", "link", "pipe", "socket", "z"]
    moved = context.get(str(there), asked, wd / "here", partly=True)
    assert sorted(moved.moved) == ["a", "d/b", "z"]
    assert moved.lost == {
        "folder": "is no plain file there",
        "gone": "is not there any more",
        "link": "is not there any more",
        "pipe": "is no plain file there",
        "socket": "is no plain file there",
    }
    with pytest.raises(TransferError):
        context.get(str(there), asked, wd / "other")
    assert not (wd / "other").exists()


def test_two_names_of_one_file_both_come(context: Context, wd: Path) -> None:
    fill(context, wd / "there", "a")
    os.link(wd / "there/a", wd / "there/b")
    assert context.get(str(wd / "there"), ["a", "b"], wd / "here").moved == ("a", "b")


def test_a_place_here_that_is_taken_keeps_only_that_file_away(context: Context, wd: Path) -> None:
    fill(context, wd / "there", "a", "sub/b", "z")
    fill(context, wd / "here", "sub")
    with pytest.raises(TransferError, match="sub/b"):
        context.get(str(wd / "there"), ["a", "sub/b", "z"], wd / "here", partly=True)
    assert sorted(path.name for path in (wd / "here").iterdir()) == ["a", "sub", "z"]


def test_a_file_that_always_changes_is_told(liar: Liar, wd: Path) -> None:
    fill_root = wd / "there"
    fill_root.mkdir()
    for name in ("a", "busy", "z"):
        (fill_root / name).write_text(name)
    lie = "/usr/bin/sha256sum \"$@\" | sed '/busy$/s/^......../00000000/'"
    with SSHContext(wd, str(wd), liar.lie(sha256sum=lie).profile) as context:
        moved = context.get(str(fill_root), ["a", "busy", "z"], wd / "here", partly=True)
    assert moved.moved == ("a", "z")
    assert list(moved.lost) == ["busy"]
    assert "changed while it was fetched" in moved.lost["busy"]


# --- a user who may not read everything -----------------------------------------------------------------------------------

MAKES = (
    "echo 1 >good; mkdir sub closed; echo 2 >sub/good; echo 3 >locked; echo 4 >closed/x; chmod 000 locked closed; mkfifo pipe;"
    " ln -s . loop; touch \"$(printf 'caf\\351 \\377')\""
)


@contextmanager
def other_user(wd: Path) -> Iterator[None]:
    """Work as a user to whom modes matter; root reads everything."""
    os.chmod(wd, 0o777)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_must_not_be_read_here_is_told(wd: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    context = LocalContext(wd, str(wd / "there"), {})
    with other_user(wd):
        assert context.run(users(f"mkdir there && cd there && {MAKES}"), cwd=str(wd)).code == 0
        listed = context.list_files(str(wd / "there"), ["**"], with_folders=True)
        assert {file.path for file in listed if file.closed} == {"closed"}
        moved = context.get(str(wd / "there"), ["good", "locked", "sub/good"], wd / "here", partly=True)
    assert (moved.moved, list(moved.lost)) == (("good", "sub/good"), ["locked"])
    assert "permission denied" in moved.lost["locked"]


@pytest.mark.parametrize("by_rsync", [False, True], ids=["archive", "rsync"])
def test_over_ssh_the_rest_comes_home_and_the_run_ends(
    sshd: Sshd, wd: Path, user: str, submission: Callable[..., Placement], by_rsync: bool
) -> None:
    """As a user who may not read all that was made there; no other job is held up, and a second run says the same."""
    os.chmod(wd, 0o777)
    (wd / "there").mkdir()
    os.chmod(wd / "there", 0o777)
    makes = f"{MAKES}; head -c {2 * rsync.FROM_BYTES if by_rsync else 10} /dev/zero >big"
    tasks = [
        {"command": makes, "task_work_path": "a", "backward_files": ["*"]},
        {"command": "echo 5 >out", "task_work_path": "b", "backward_files": ["out"]},
    ]
    profile = {**sshd.profile, "username": user, "rsync": by_rsync}
    machine = {"context_type": "SSH", "remote_profile": profile}
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(MissingFileError) as caught:
            submission(*tasks, machine=machine, tools={"tell": told.append}).run(check_interval_s=0.5)
        assert "a/closed is a folder that cannot be read there: permission denied (and 1 more)" in str(caught.value)
    here = wd / "here/w"
    home = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert {"a/good", "a/sub/good", "a/big", f"a/{LATIN_1}", "b/out"} <= home
    assert not {"a/locked", "a/pipe"} & home
    locked = [line for line in told if "a/locked cannot be read there: permission denied" in line]
    assert len(locked) == 2, "once in each run"
    assert not [line for line in told if line.startswith("trying again")]


# --- folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context_type", ["Local", "LazyLocal", "SSH"])
def test_empty_folders_go_and_come_as_folders(
    liar: Liar, wd: Path, submission: Callable[..., Placement], context_type: str
) -> None:
    (wd / "here/w/a/out/deep").mkdir(parents=True)
    task = {
        "command": "echo 1 >out/deep/count; mkdir -p plots more/empty",
        "task_work_path": "a",
        "forward_files": ["out"],
        "backward_files": ["plots", "more", "out/*"],
    }
    machine: dict[str, Any] = {"context_type": context_type}
    if context_type == "SSH":
        machine["remote_profile"] = liar.lie().profile
    assert submission(task, machine=machine).run(check_interval_s=0.5).over
    assert (wd / "here/w/a/out/deep/count").read_text() == "1\n"
    assert (wd / "here/w/a/plots").is_dir()
    assert (wd / "here/w/a/more/empty").is_dir()


def test_links_that_lead_back_are_passed_over(wd: Path, submission: Callable[..., Placement]) -> None:
    """To the folder itself, or to one it is in; a link to a folder beside it is followed."""
    (wd / "here/w/a/in/deep").mkdir(parents=True)
    (wd / "here/w/a/in/x").write_text("1")
    (wd / "here/w/a/in/self").symlink_to(".")
    (wd / "here/w/a/in/deep/up").symlink_to("..")
    (wd / "here/w/beside").mkdir()
    (wd / "here/w/beside/y").write_text("2")
    (wd / "here/w/a/in/link").symlink_to("../../beside")
    assert [file.path for file in staging.forward(["in"], wd / "here/w", "a")] == ["a/in/link/y", "a/in/x"]
    task = {
        "command": "cat in/x in/link/y >out; ln -s . loop",
        "task_work_path": "a",
        "forward_files": ["in"],
        "backward_files": ["o*", "loo*"],
    }
    with pytest.raises(MissingFileError, match=r"loo\*"):
        submission(task).run(check_interval_s=0.5)
    assert (wd / "here/w/a/out").read_text() == "12"


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_an_input_folder_with_what_cannot_be_sent_is_an_error(wd: Path, kind: str) -> None:
    """It is told, and not waited for."""
    (wd / "in").mkdir()
    if kind == "pipe":
        os.mkfifo(wd / "in/pipe")
    else:
        (wd / "in/link").symlink_to("nowhere")
    with pytest.raises(MissingFileError, match=f"in/{kind} is "):
        staging.forward(["in"], wd, "")
