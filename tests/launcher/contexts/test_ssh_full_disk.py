"""A small disk on the machine that fills up: while inputs go up, and while jobs run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import only_when_thorough
from sshd import Sshd

from pilotfish.launcher.contexts.base import TransferError
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.submission.placement import Placement

both = pytest.mark.usefixtures("transport")
MIB = 1 << 20


@pytest.fixture
def disk(wd: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = wd / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def more_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


@pytest.fixture
def placed(sshd: Sshd, disk: Path, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    def make(*tasks: dict[str, Any], **given: Any) -> Placement:
        machine = {"context_type": "SSH", "remote_profile": sshd.profile, "remote_root": str(disk / "scratch")}
        return submission(*tasks, machine=machine, **given)

    return make


@both
@only_when_thorough
def test_an_upload_without_room_is_an_error_with_the_free_space_and_goes_on_when_there_is(
    placed: Callable[..., Placement], disk: Path, wd: Path
) -> None:
    tasks = []
    for name in "abcdef":
        (wd / "here/w" / name).mkdir(parents=True)
        (wd / "here/w" / name / "in").write_bytes(os.urandom(MIB))
        tasks.append(
            {"command": "cp in out", "task_work_path": name, "forward_files": ["in"], "backward_files": ["out"]}
        )
    with pytest.raises(TransferError, match="KiB are free there"):
        placed(*tasks).run(check_interval_s=0.2)
    more_room(disk)
    told: list[str] = []
    assert placed(*tasks, tools={"tell": told.append}).run(check_interval_s=0.2).over
    assert "0 were there" not in "".join(told), "what had arrived is not sent again"
    assert all((wd / "here/w" / name / "out").stat().st_size == MIB for name in "abcdef")


@only_when_thorough
def test_jobs_that_fill_the_disk_run_again_when_there_is_room(
    placed: Callable[..., Placement], disk: Path, wd: Path
) -> None:
    """Not even the job's own record, or the script of the next attempt, can be written until somebody makes room."""
    command = f"echo x >>{wd}/starts; head -c {8 * MIB} /dev/zero >out"
    tasks = [{"command": command, "task_work_path": name, "backward_files": ["out"]} for name in "ab"]
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if "trying again" in text and "KiB are free there" in text and (wd / "starts").exists():
            more_room(disk)

    assert placed(*tasks, tools={"tell": tell}).run(check_interval_s=0.2).over
    assert any("0 KiB are free there" in text for text in told)
    assert [(wd / "here/w" / name / "out").stat().st_size for name in "ab"] == [8 * MIB] * 2
    rows = json.loads((wd / "here/w/results.json").read_text())
    assert {row["exit_code"] for row in rows} == {0}


@both
@pytest.mark.parametrize(
    "way",
    [{"rsync": True}, {"rsync": False}, {"rsync": False, "archive_chunk_size": 1}],
    ids=["rsync", "archive", "parts"],
)
def test_a_disk_that_is_full_here_is_told_and_the_download_goes_on_when_there_is_room(
    sshd: Sshd, disk: Path, wd: Path, way: dict[str, Any]
) -> None:
    (wd / "there").mkdir()
    for name in "abc":
        (wd / "there" / name).write_bytes(os.urandom(2 * MIB))
    with SSHContext(wd, str(wd), sshd.profile | way) as there:
        with pytest.raises(TransferError, match="cannot be written here: No space left"):
            there.get(str(wd / "there"), ["a", "b", "c"], disk / "home")
        more_room(disk)
        there.get(str(wd / "there"), ["a", "b", "c"], disk / "home")
    assert all((disk / "home" / name).read_bytes() == (wd / "there" / name).read_bytes() for name in "abc")
    assert sorted(os.listdir(disk / "home")) == ["a", "b", "c"]
