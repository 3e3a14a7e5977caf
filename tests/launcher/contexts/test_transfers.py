"""Files travel as they are: holes, permission bits, times; progress counts what travels; what cannot be read is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from liar import Liar
from sshd import Sshd

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import Context
from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext

from ..submission.test_bad_results import other_user

WAYS = ["Local", "archive", "rsync", "large"]
MIB = 1 << 20


@pytest.fixture(params=WAYS)
def context(request: pytest.FixtureRequest, wd: Path, liar: Liar) -> Iterator[Context]:
    """Of each way by which files travel; `rsync` takes over from 1 MiB on, `large` is for files one by one."""
    (wd / "there").mkdir()
    (wd / "here").mkdir()
    profile = {**liar.lie().profile, "rsync": request.param == "rsync"}
    if request.param == "large":
        profile["archive_chunk_size"] = 1
    local = LocalContext(wd, str(wd / "there"), {"symlink": False})
    with local if request.param == "Local" else SSHContext(wd, str(wd / "there"), profile) as made:
        made.__dict__["size"] = rsync.FROM_BYTES if request.param == "rsync" else 50_000
        yield made


def test_a_file_with_holes_takes_no_more_room_at_home(context: Context, wd: Path) -> None:
    """Holes at the beginning, between and at the end; what is between them is all there."""
    with open(wd / "there/sparse", "wb") as file:
        for position in (4 * MIB + 5, 8 * MIB):
            file.seek(position)
            file.write(b"data")
        file.truncate(12 * MIB)
    context.get(str(wd / "there"), ["sparse"], wd / "here")
    assert (wd / "here/sparse").read_bytes() == (wd / "there/sparse").read_bytes()
    assert (wd / "here/sparse").stat().st_blocks * 512 < 2 * MIB


def test_times_and_permission_bits_come_home(context: Context, wd: Path) -> None:
    """What is newer than what counts for whoever builds with the results."""
    size = context.__dict__["size"]
    for number, name in enumerate(["first", "second"]):
        (wd / "there" / name).write_bytes(b"x" * size)
        (wd / "there" / name).chmod(0o750 - number * 0o10)
        os.utime(wd / "there" / name, (1e9 + number, 1e9 + number))
    context.get(str(wd / "there"), ["first", "second"], wd / "here")
    found = [(wd / "here" / name).stat() for name in ("first", "second")]
    assert [int(each.st_mtime) for each in found] == [1_000_000_000, 1_000_000_001]
    assert [each.st_mode & 0o777 for each in found] == [0o750, 0o740]


def test_times_and_permission_bits_go_there(context: Context, wd: Path) -> None:
    (wd / "here/in").write_bytes(b"x" * context.__dict__["size"])
    (wd / "here/in").chmod(0o751)
    os.utime(wd / "here/in", (1e9, 1e9))
    context.put(str(wd / "there"), staging.forward(["in"], wd / "here", ""))
    found = (wd / "there/in").stat()
    assert (int(found.st_mtime), found.st_mode & 0o777) == (1_000_000_000, 0o751)


def test_a_time_that_no_file_system_has_is_left_out(wd: Path, liar: Liar) -> None:
    """A machine may say that a file is of the year 10^11."""
    (wd / "there").mkdir()
    (wd / "there/out").write_text("1")
    server = liar.lie(stat="echo 644 -999999999999999999")
    with SSHContext(wd, str(wd), {**server.profile, "rsync": False, "archive_chunk_size": 1}) as context:
        context.get(str(wd / "there"), ["out"], wd / "here")
    assert (wd / "here/out").read_text() == "1"


def test_progress_counts_what_travels(context: Context, wd: Path) -> None:
    """It only grows, ends with all, and what is there already is no part of it."""
    size = context.__dict__["size"]
    for name in ("a", "b", "same"):
        (wd / "here" / name).write_bytes(os.urandom(size))
    files = staging.forward(["*"], wd / "here", "")
    root = str(wd / "there")
    context.put(root, [file for file in files if file.path == "same"])
    calls: list[tuple[int, int]] = []
    context.put(root, files, (), lambda done, whole: calls.append((done, whole)))
    for name in ("a", "b"):
        (wd / "here" / name).unlink()
    back: list[tuple[int, int]] = []
    context.get(root, ["a", "b"], wd / "here", lambda done, whole: back.append((done, whole)))
    for told in (calls, back):
        assert {whole for _, whole in told} == {2 * size}
        assert told[-1][0] == 2 * size
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_progress_after_a_cut_counts_nothing_twice(sshd: Sshd, wd: Path) -> None:
    """A large file goes on where it stopped, and so does its bar."""
    (wd / "there").mkdir()
    (wd / "there/big").write_bytes(os.urandom(4 * MIB))
    profile = {**sshd.profile, "rsync": False, "archive_chunk_size": 1, "tar_compress": False}
    calls: list[tuple[int, int]] = []

    def watch(done: int, whole: int) -> None:
        if done >= MIB > max((before for before, _ in calls), default=0):
            sshd.cut()
        calls.append((done, whole))

    with SSHContext(wd, str(wd), profile) as context:
        context.get(str(wd / "there"), ["big"], wd / "here", watch)
    assert (wd / "here/big").read_bytes() == (wd / "there/big").read_bytes()
    assert calls[-1] == (4 * MIB, 4 * MIB)
    assert [done for done, _ in calls].count(4 * MIB) == 1, "not before all is there"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_input_that_must_not_be_read_is_an_error_with_its_name(wd: Path, kind: str) -> None:
    """A folder that cannot be read looks empty otherwise, and the program runs without what is in it."""
    if os.geteuid():
        pytest.skip("needs root")
    with other_user(wd):
        (wd / "in/closed").mkdir(parents=True)
        (wd / "in/closed/x").write_text("1")
        (wd / "in/closed/x" if kind == "file" else wd / "in/closed").chmod(0)
        with pytest.raises(MissingFileError, match=r"in/closed.* cannot be read: Permission denied"):
            staging.forward(["in"], wd, "")
        (wd / "in/closed").chmod(0o700)
