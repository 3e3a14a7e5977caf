"""The journal on disk: one owner, group commit, and what happens when the disk says no."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.errors import JournalError, RefusedError, TransientError
from pilotfish.pilot.wire.journal import HEADER, TornTail, encode
from pilotfish.pilot.wire.records import Closed, Opened, Record

OLD = [Closed(float(number), True) for number in range(20)]


def record(number: int, filling: str = "") -> Record:
    return Opened(f"r{number}", filling, float(number))


def stored(path: Path) -> list[Record]:
    store = Store.open(path)
    try:
        return list(store.replay())
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.pilotfish"


def test_written_records_are_there_after_the_manager_was_killed(path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from pilotfish.pilot.manager.store import Store;"
        "from pilotfish.pilot.wire.records import Closed; store = Store.create(Path(sys.argv[1]));"
        "store.append(Closed(1.0, True)); store.write(); store.append(Closed(2.0, True));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert stored(path) == [Closed(1.0, True)]


def test_an_opened_journal_goes_on_after_its_last_record(path: Path) -> None:
    store = Store.create(path)
    store.append(record(1))
    store.write()
    store.sync()
    assert not store.needs_sync
    store.close()
    store = Store.open(path)
    assert list(store.replay()) == [record(1)]
    store.append(record(2))
    assert store.needs_sync
    store.write()
    store.close()
    assert stored(path) == [record(1), record(2)]


def test_a_torn_tail_is_cut_off_and_told(path: Path) -> None:
    whole = HEADER + encode(record(1))
    path.write_bytes(whole + encode(record(2))[:-1])
    store = Store.open(path)
    assert list(store.replay()) == [record(1)]
    assert store.torn == TornTail(len(whole), len(encode(record(2))) - 1)
    assert path.read_bytes() == whole
    store.append(record(3))
    store.write()
    store.close()
    assert stored(path) == [record(1), record(3)]


def test_killed_while_it_was_created_it_becomes_an_empty_journal(path: Path) -> None:
    path.write_bytes(HEADER[:5])
    store = Store.open(path)
    assert list(store.replay()) == []
    store.append(record(1))
    store.write()
    store.close()
    assert stored(path) == [record(1)]


def test_damage_before_the_last_record_is_an_error_and_changes_nothing(path: Path) -> None:
    data = bytearray(HEADER + encode(record(1)) + encode(record(2)))
    data[len(HEADER) + 14] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=f"at byte {len(HEADER)}"):
        stored(path)
    assert path.read_bytes() == data


def test_a_second_manager_is_told_who_has_the_journal(path: Path) -> None:
    store = Store.create(path)
    with pytest.raises(RefusedError, match=f"process {os.getpid()}"):
        Store.open(path)
    store.close()
    assert stored(path) == []


def test_a_manager_that_is_just_ending_is_waited_for(path: Path) -> None:
    """Its starter may have been killed a moment ago, and whoever starts it again must not have to try twice."""
    store = Store.create(path)
    ending = threading.Timer(0.1, store.close)
    ending.start()
    Store.open(path, PATIENCE_S).close()
    ending.join()


def test_create_does_not_touch_a_journal_that_is_there(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(RefusedError, match="--resume"):
        Store.create(path)
    assert path.read_bytes() == b"precious"


def test_open_of_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        Store.open(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_the_same_write_works_once_there_is_room(small_disk: Path) -> None:
    path = small_disk / "j"
    store = Store.create(path)
    (small_disk / "ballast").write_bytes(bytes(32 << 10))
    store.append(record(1))
    store.write()
    store.append(record(2, "x" * (40 << 10)))
    for _ in range(2):
        with pytest.raises(TransientError, match="No space left"):
            store.write()
        assert path.read_bytes() == HEADER + encode(record(1))
    store.append(record(3))
    (small_disk / "ballast").unlink()
    store.write()
    store.sync()
    store.close()
    assert stored(path) == [record(1), record(2, "x" * (40 << 10)), record(3)]


def test_a_write_that_gets_in_halfway_is_taken_back(path: Path) -> None:
    store = Store.create(path)
    store.append(record(1, "x" * 8000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the first write is short, the second fails
    try:
        with pytest.raises(TransientError, match="File too large"):
            store.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == HEADER
    store.write()
    store.close()
    assert stored(path) == [record(1, "x" * 8000)]


def test_after_a_failed_sync_all_unsynced_records_are_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(path)
    store.append(record(1))
    store.write()

    def lose_the_pages(descriptor: int) -> None:
        os.ftruncate(descriptor, len(HEADER))
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lose_the_pages)
        with pytest.raises(TransientError, match="cannot be synced: Input/output error"):
            store.sync()
    assert store.needs_sync
    store.append(record(2))
    store.write()
    store.sync()
    store.close()
    assert stored(path) == [record(1), record(2)]


def filled(path: Path) -> Store:
    store = Store.create(path)
    for old in OLD:
        store.append(old)
    store.write()
    store.sync()
    return store


def test_a_replaced_journal_has_the_new_records_and_goes_on_after_them(path: Path) -> None:
    store = filled(path)
    store.replace([record(1), record(2)])
    assert list(store.records()) == [record(1), record(2)]
    assert store.size == path.stat().st_size
    store.append(record(3))
    store.write()
    with pytest.raises(RefusedError):
        Store.open(path)
    store.close()
    assert stored(path) == [record(1), record(2), record(3)]
    assert sorted(os.listdir(path.parent)) == [path.name, path.name + ".lock"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace", "after"])
def test_killed_while_it_is_replaced_the_journal_is_the_old_or_the_new_one(path: Path, step: str) -> None:
    """`after`: between the renaming and the sync of the folder. The draft of a killed one is cleared away."""
    filled(path).close()
    program = f"""
import os, signal, sys
from pathlib import Path
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.wire.records import Closed

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def records():
    yield Closed(100.0, True)
    if {step!r} == "write":
        die()

store = Store.open(Path(sys.argv[1]))
assert len(list(store.replay())) == 20
if {step!r} in ("fsync", "replace"):
    setattr(os, {step!r}, die)
if {step!r} == "after":
    from pilotfish.pilot.manager import store as module
    module.sync_folder = die
store.replace(records())
"""
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (path.parent / (path.name + ".new")).exists() == (step != "after")
    assert stored(path) == ([Closed(100.0, True)] if step == "after" else OLD)
    assert sorted(os.listdir(path.parent)) == [path.name, path.name + ".lock"]


def test_a_disk_too_full_for_a_new_journal_keeps_the_old_one(small_disk: Path) -> None:
    store = filled(small_disk / "j")
    with pytest.raises(TransientError, match="cannot be rewritten: No space left"):
        store.replace([record(1, "x" * (100 << 10))])
    store.append(record(2))
    store.write()
    store.close()
    assert stored(small_disk / "j") == [*OLD, record(2)]


def test_a_folder_that_could_not_be_synced_is_synced_before_anything_is_promised(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new journal's name might not survive a crash of the machine, and with it what is written to it now."""
    store = filled(path)

    def fail(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(TransientError, match="cannot be synced"):
            store.replace([record(1)])
        store.append(record(2))
        store.write()
        with pytest.raises(TransientError, match="cannot be synced"):
            store.sync()
        assert store.needs_sync
    store.sync()
    assert not store.needs_sync
    store.close()
    assert stored(path) == [record(1), record(2)]
