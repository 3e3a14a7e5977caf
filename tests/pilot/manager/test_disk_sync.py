"""The journal is synced beside the loop: what a sync promises, what it does not, and that nothing waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish.pilot.manager.disk_sync import DiskSync
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.errors import TransientError
from pilotfish.pilot.wire.journal import HEADER, encode
from pilotfish.pilot.wire.records import Closed


class SlowDisk:
    """fdatasync returns when it is let, or fails when it is told to."""

    def __init__(self) -> None:
        self.may_return = threading.Event()
        self.calls = 0
        self.error: OSError | None = None

    def fdatasync(self, descriptor: int) -> None:
        self.calls += 1
        assert self.may_return.wait(PATIENCE_S)
        self.may_return.clear()
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk()
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    return disk


@pytest.fixture
def store(disk: SlowDisk, tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "journal.pilotfish")
    yield store
    disk.may_return.set()
    store.close()


def note(store: Store, number: float) -> None:
    store.append(Closed(number, True))
    store.write()


def test_a_new_journal_waits_for_no_disk(store: Store, disk: SlowDisk) -> None:
    assert disk.calls == 0
    assert store.needs_sync


def test_records_are_written_while_a_sync_runs_and_wait_for_the_next(
    store: Store, disk: SlowDisk, wait_until: Callable[..., Any]
) -> None:
    note(store, 1.0)
    assert store.next_sync == 1
    assert store.begin_sync()
    wait_until(lambda: disk.calls, "the sync begins")
    note(store, 2.0)
    assert store.path.read_bytes() == HEADER + encode(Closed(1.0, True)) + encode(Closed(2.0, True))
    assert not store.begin_sync()  # one is enough
    assert store.next_sync == 2
    disk.may_return.set()
    assert store._disk.wait(PATIENCE_S)
    assert store.end_sync() == 1
    assert store.needs_sync
    assert store.begin_sync()
    disk.may_return.set()
    assert store._disk.wait(PATIENCE_S)
    assert store.end_sync() == 2
    assert not store.needs_sync
    assert not store.begin_sync()


def test_after_a_failed_sync_all_is_written_again_also_what_came_meanwhile(store: Store, disk: SlowDisk) -> None:
    note(store, 1.0)
    store.begin_sync()
    note(store, 2.0)
    disk.error = OSError(5, "Input/output error")
    disk.may_return.set()
    assert store._disk.wait(PATIENCE_S)
    with pytest.raises(TransientError, match="cannot be synced: Input/output error"):
        store.end_sync()
    os.truncate(store.path, len(HEADER))  # the kernel has dropped the pages
    store.write()
    assert store.path.read_bytes() == HEADER + encode(Closed(1.0, True)) + encode(Closed(2.0, True))
    disk.error = None
    store.begin_sync()
    disk.may_return.set()
    assert store._disk.wait(PATIENCE_S)
    assert store.end_sync() == 2
    assert not store.needs_sync


def test_the_end_waits_for_a_slow_disk_only_so_long(store: Store, disk: SlowDisk) -> None:
    note(store, 1.0)
    assert not store.sync(0.01)
    disk.may_return.set()
    assert store.sync(PATIENCE_S)
    assert not store.needs_sync


def test_only_a_disk_that_was_fast_the_last_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the loop notices nothing of a slow one, and of one that becomes slow no more than a moment."""
    clock, sync = [0.0], DiskSync()
    monkeypatch.setattr("pilotfish.pilot.manager.disk_sync.time.monotonic", lambda: clock[0])
    waits: list[float] = []
    waits_so_far = []
    for took_s in (0.0001, 5.0, 0.0001, 0.0001):
        sync.begin(lambda: None)
        with monkeypatch.context() as patched:
            patched.setattr(sync, "wait", waits.append)
            assert not sync.ends_at_once()
        waits_so_far.append(len(waits))
        assert sync.wait(PATIENCE_S)
        clock[0] += took_s
        sync.end()
    sync.close()
    assert waits_so_far == [0, 1, 1, 2], "after the calls that were fast, the first and the third"


def test_a_sync_that_is_over_in_a_moment_needs_no_other_turn() -> None:
    sync = DiskSync()
    while not sync.ends_at_once():  # a busy machine is not that fast each time
        if sync.runs:
            assert sync.wait(PATIENCE_S)
            sync.end()
        sync.begin(lambda: None)
    assert sync.end() is None
    sync.close()
