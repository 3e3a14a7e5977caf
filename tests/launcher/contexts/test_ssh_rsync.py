"""Transfers by a real rsync through a real sshd: results as with an archive, less on the way, and it goes on after cuts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from patience import only_when_thorough
from sshd import Sshd

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import LocalFile, Transfer, TransferError
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext

both = pytest.mark.usefixtures("transport")
ODD = 'it\'s a "$folder"\n& \\n'
NAMES = ["plain", "-f", "#comment", ";semicolon", "with space", f"{ODD}/deep/{ODD}", "a:b", ".hidden", "host:/x"]
MIB = 1 << 20


@pytest.fixture(autouse=True)
def needs_rsync() -> None:
    if not rsync.is_here():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("not installed: rsync")


def context(server: Sshd, wd: Path, **changes: Any) -> SSHContext:
    return SSHContext(wd, str(wd / "there" / ODD), {**server.profile, **changes})


def make_files(work: Path, size: int) -> list[LocalFile]:
    for name in NAMES:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(os.urandom(size))
    (work / "plain").chmod(0o751)
    return staging.forward(["."], work, "")


def there_and_back(there: SSHContext, work: Path, back: Path) -> tuple[Transfer, Transfer]:
    files = staging.forward(["."], work, "")
    root = there.root_for("hash", "w")
    up = there.put(root, files, ["empty"])
    down = there.get(root, [file.path for file in files], back)
    for file in files:
        assert (back / file.path).read_bytes() == file.source.read_bytes()
        assert (back / file.path).stat().st_mode & 0o777 == file.mode
    return up, down


def left_overs(*folders: Path) -> list[Path]:
    return [
        path for folder in folders for pattern in (f"**/{rsync.PARTIAL}", "*.rsync") for path in folder.glob(pattern)
    ]


@both
def test_names_and_modes_come_as_with_an_archive(sshd: Sshd, wd: Path) -> None:
    make_files(wd / "w", MIB // 4)
    ways: dict[bool, tuple[Transfer, Transfer]] = {}
    for by_rsync in (True, False):
        shutil.rmtree(wd / "there", ignore_errors=True)
        told: list[str] = []
        with context(sshd, wd, rsync=by_rsync) as there:
            there.tell = told.append
            ways[by_rsync] = there_and_back(there, wd / "w", wd / f"back-{by_rsync}")
            assert (there._rsync.travelled_bytes > 0) is by_rsync
            root = there.root_for("hash", "w")
            assert len(there.list_files(root, ["**"])) == len(NAMES)
        assert told == []
        assert left_overs(wd / f"there/{ODD}/hash", wd / f"back-{by_rsync}") == []
    assert [each.moved for each in ways[True]] == [each.moved for each in ways[False]]


@both
def test_of_a_changed_file_only_the_change_travels_both_ways(sshd: Sshd, wd: Path) -> None:
    make_files(wd / "w", MIB)
    with context(sshd, wd) as there:
        there_and_back(there, wd / "w", wd / "back")
        with open(wd / "w/plain", "r+b") as file:
            file.seek(MIB // 2)
            file.write(b"changed")
        up, down = there_and_back(there, wd / "w", wd / "back")
    assert up.moved == down.moved == ("plain",)
    assert len(up.same) == len(NAMES) - 1
    assert 0 < up.sent_bytes < MIB // 4
    assert 0 < down.sent_bytes < MIB // 4


def test_little_goes_as_an_archive_without_asking_for_rsync(sshd: Sshd, wd: Path) -> None:
    make_files(wd / "w", 100)
    with context(sshd, wd) as there:
        there_and_back(there, wd / "w", wd / "back")
        assert there._has_rsync is None


def test_progress_reaches_the_whole(sshd: Sshd, wd: Path) -> None:
    files = make_files(wd / "w", MIB)
    seen: list[tuple[int, int]] = []
    with context(sshd, wd) as there:
        there.put(there.root_for("hash", "w"), files, (), lambda done, whole: seen.append((done, whole)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(NAMES) * MIB, len(NAMES) * MIB)


def test_a_file_that_is_asked_for_and_gone_is_an_error(sshd: Sshd, wd: Path) -> None:
    files = make_files(wd / "w", MIB)
    with context(sshd, wd) as there:
        root = there.root_for("hash", "w")
        there.put(root, files)
        with pytest.raises(TransferError, match="not there"):
            there.get(root, ["plain", "none"], wd / "back")
        assert not (wd / "back").exists()


@both
def test_through_a_jump_host_over_the_one_connection(sshd: Sshd, wd: Path) -> None:
    make_files(wd / "w", MIB)
    with Sshd(wd / "first") as first:
        (first.folder / "user.pub").write_text((wd / "sshd/user.pub").read_text())
        (wd / "known").write_text("".join((each.folder / "known_hosts").read_text() for each in (first, sshd)))
        with context(sshd, wd, jump=f"root@127.0.0.1:{first.port}", known_hosts=str(wd / "known")) as there:
            there_and_back(there, wd / "w", wd / "back")
            assert there._rsync.travelled_bytes > len(NAMES) * MIB
        assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


# --- machines where it does not work --------------------------------------------------------------------------------------


@pytest.fixture
def programs(wd: Path) -> Path:
    """The folder in which a server's users find their programs; all but rsync."""
    folder = wd / "bin"
    folder.mkdir()
    for each in Path("/usr/bin").iterdir():
        if each.name != "rsync":
            (folder / each.name).symlink_to(each)
    return folder


def test_a_machine_without_rsync_gets_an_archive(wd: Path, sshd: Sshd, programs: Path) -> None:
    make_files(wd / "w", MIB)
    told: list[str] = []
    with Sshd(wd / "other", f"SetEnv PATH={programs}") as server, context(server, wd) as there:
        there.tell = told.append
        there_and_back(there, wd / "w", wd / "back")
        assert there._has_rsync is False
    assert told == []


@both
def test_an_rsync_that_fails_is_told_once_and_an_archive_goes_instead(wd: Path, sshd: Sshd, programs: Path) -> None:
    make_files(wd / "w", MIB)
    (programs / "rsync").write_text(
        '#!/bin/sh\n[ "$1" != --version ] || { echo "rsync  version 3.2.7  protocol version 31"; exit 0; }\n'
        "echo this one is broken >&2\nexit 5\n"
    )
    (programs / "rsync").chmod(0o755)
    told: list[str] = []
    with Sshd(wd / "other", f"SetEnv PATH={programs}") as server, context(server, wd) as there:
        there.tell = told.append
        there_and_back(there, wd / "w", wd / "back")
    assert len(told) == 1
    assert "this one is broken" in told[0]
    assert told[0].endswith("files go as an archive instead")


def test_a_full_disk_is_told_as_without_rsync_and_parts_do_not_fill_it(sshd: Sshd, wd: Path) -> None:
    disk = wd / "disk"
    disk.mkdir()
    files = make_files(wd / "w", 2 * MIB)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], check=True)
    try:
        with SSHContext(wd, str(disk), sshd.profile) as there:
            root = there.root_for("h", "")
            with pytest.raises(TransferError, match="KiB are free there"):
                there.put(root, files)
            assert left_overs(disk / "h") == []
            subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
            there.put(root, files)
            there.get(root, [file.path for file in files], wd / "back")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("text", "is_usable"),
    [
        ("rsync  version 3.1.0  protocol version 31\n", True),
        ("rsync  version v3.2.3-17  protocol version 31", True),
        ("rsync  version 2.6.9  protocol version 29", False),
        ("openrsync: protocol version 29\nrsync version 2.6.9 compatible\n", False),
        ("", False),
    ],
)
def test_versions(text: str, is_usable: bool) -> None:
    assert rsync.usable(text) is is_usable


# --- cuts -----------------------------------------------------------------------------------------------------------------


class Relay:
    """A port that leads to another one; connections through it die after so many bytes. `budgets` are of the next ones."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.budgets: list[int] = []
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                budget = [self.budgets.pop(0) if self.budgets else 1 << 40]
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink, budget), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
        with suppress(OSError):
            while (block := source.recv(1 << 14)) and budget[0] > 0:
                budget[0] -= len(block)
                sink.sendall(block)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    made = Relay(sshd.port)
    with open(sshd.folder / "known_hosts", "a") as known:
        known.write((sshd.folder / "known_hosts").read_text().replace(f":{sshd.port}", f":{made.port}"))
    yield made
    made.close()


@both
@only_when_thorough
@pytest.mark.parametrize("count", [1, 8], ids=["one large file", "several"])
def test_a_transfer_that_is_cut_again_and_again_goes_on(sshd: Sshd, wd: Path, relay: Relay, count: int) -> None:
    """Each connection dies after 3 MiB of 8: what had arrived does not travel again."""
    work = wd / "w"
    work.mkdir()
    for number in range(count):
        (work / f"f{number}").write_bytes(os.urandom(8 * MIB // count))
    files = staging.forward(["*"], work, "")
    paths = [file.path for file in files]
    with context(sshd, wd, port=relay.port) as there:
        root = there.root_for("hash", "w")
        relay.budgets = [3 * MIB, 3 * MIB]
        up = there.put(root, files)
        assert relay.connections == 3
    with context(sshd, wd, port=relay.port) as there:
        relay.connections, relay.budgets = 0, [3 * MIB, 3 * MIB]
        down = there.get(root, paths, wd / "back")
        assert relay.connections == 3
    for each in (up, down):
        assert each.moved == tuple(paths)
        assert 7 * MIB < each.sent_bytes < 12 * MIB
    for file in files:
        assert (wd / "back" / file.path).read_bytes() == file.source.read_bytes()
    assert left_overs(wd / "there", wd / "back") == []
