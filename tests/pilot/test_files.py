"""Small files are put in place whole, for their owner only; and what a site refuses is one line."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pilotfish.pilot.console import why_not
from pilotfish.pilot.files import open_private, write_atomically


@pytest.fixture(params=[0o000, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("fsync", [True, False])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "file"
    for wanted in (0o600, 0o644):
        write_atomically(path, b"text", mode=wanted, fsync=fsync)
        assert (path.read_bytes(), mode(path)) == (b"text", wanted)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.usefixtures("umask")
def test_a_private_file_is_never_open_to_others(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w", opener=open_private):
        assert mode(tmp_path / "file") & 0o077 == 0


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    path.with_name("file.new").write_bytes(b"left by one that was killed")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, b"new", fsync=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "x", "/a"), "/a: No space left on device; make room, then start again"),
        (OSError(errno.EMFILE, "x"), "Too many open files; raise the limit of open files (ulimit -n)"),
        (zmq.ZMQError(errno.EMFILE), "Too many open files; raise the limit of open files (ulimit -n)"),
        (OSError(errno.EPIPE, "x"), "Broken pipe"),
        (
            MemoryError(),
            "Cannot allocate memory; raise the limit of memory (ulimit -v), or end some programs",
        ),
        (
            RuntimeError("can't start new thread"),
            "Resource temporarily unavailable; raise the limits of processes (ulimit -u) and of memory (ulimit -v)",
        ),
        (RuntimeError("ours"), None),
        (ValueError("ours"), None),
        (ImportError("no module"), None),
    ],
)
def test_what_a_site_refuses_is_one_line_and_a_bug_is_none(error: Exception, line: str | None) -> None:
    assert why_not(error) == line


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_sync_folders_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The file itself is synced; any other error of the folder counts."""
    synced: list[bool] = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append(is_folder)
        if is_folder:
            raise OSError(errors[-1], os.strerror(errors[-1]))

    errors = [number]
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"text", fsync=True)
    assert (tmp_path / "file").read_bytes() == b"text"
    assert synced == [False, True]
    errors.append(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "file", b"text", fsync=True)
