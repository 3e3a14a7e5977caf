"""The journal file on disk: one owner, group commit, and a full disk that loses nothing.

Records pile up in memory (`append`), go to the file in one write per loop turn (`write`), and are promised to others only
after `sync`. All bytes since the last good `sync` are kept: after a failed write or sync they are written again at the
same place. After a failed fdatasync that is the only safe way, because the kernel may have dropped the pages and would
report success the next time.

A disk may take seconds for a sync, so the running manager does that beside its loop: `begin_sync`, then `end_sync` when
`sync_ended` is readable. Such a sync is a promise for what was written before it began, never for what came while it ran. Syncs
are numbered, so that whoever waits for one knows which: what is written now is on disk when sync number `next_sync` has ended
well, or any later one. `sync` does the same and waits; it is for the start and the end.

The journal is replaced by a shorter one in the same way (`replace_with`). A draft has what is safe in the present file but for
the last bytes; those a sync brings to it, so that then both have all that anybody was promised, on the disk. What was written
since follows in the turn that takes the end of that sync, which gives the draft the journal's name, and the next sync is of the
new file and its folder. So at no moment does the name stand for a file that lacks something promised, or something written.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import locks
from ..files import sync_folder
from ..model.errors import JournalError, PilotfishError, RefusedError, TransientError
from ..wire import journal, ownership
from ..wire.records import Record
from .disk_sync import DiskSync
from .journal_draft import Draft, draft_path

_LONG_S = 3600.0


class _Successor(NamedTuple):
    """A journal that is about to take the place of the present one."""

    draft: Draft
    copied: int
    """The offset in the present file up to which the draft has what it needs of it."""
    on_end: Callable[[OSError | None], None]


class Store:
    """Made by `create` or `open`; after `open`, `replay` must be read to its end before the first `write`."""

    def __init__(self, path: Path, lock: _HeldFile, descriptor: int) -> None:
        self.path = path
        self.torn: journal.TornTail | None = None
        self.senseless: list[str] = []
        """Records that were left out, because their values cannot be."""
        self.is_stuck = False
        """The last write has failed: what is noted waits for room on the disk."""
        self._lock = lock
        self.lock_weakness = lock.weakness
        """Why the file system's own lock could not be had; empty when it could."""
        self._descriptor = descriptor
        self._folder_due = False  # its entry for the file is not on disk
        self._unsynced = bytearray()
        self._written = 0  # how many bytes of `_unsynced` are in the file, from offset `_synced` on
        self._synced = 0
        self._disk = DiskSync()
        self._syncing = 0  # how many bytes of `_unsynced` the sync that runs is for
        self._successor: _Successor | None = None
        self._finishing: _Successor | None = None
        """The same, from when the sync has begun that brings it what it lacks."""
        self._replaced: int | None = None
        """The file that was the journal before. To close it gives back its space, which may take as long as a sync."""
        self.sync_ended = self._disk.readable
        """A descriptor to be watched: `end_sync` is due when it can be read."""
        self.next_sync = 1
        """The number of the next sync that will begin."""

    @classmethod
    def create(cls, path: Path) -> Store:
        """A new, empty journal; its name is on disk with the first sync, before anything is promised.

        Raises:
            RefusedError: there is a journal already, or another manager has it.
            TransientError: it cannot be written.
        """
        store = cls._locked(path, os.O_CREAT | os.O_EXCL)
        store._folder_due = True
        store._unsynced += journal.HEADER
        try:
            store.write()
        except PilotfishError:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, path: Path, patience_s: float = 0.0) -> Store:
        """An existing journal, to go on with; read `replay` first. `patience_s`: how long to wait for another manager to end.

        Raises:
            JournalError: there is none, or it cannot be opened.
            RefusedError: another manager has it, or it is not ours alone.
        """
        store = cls._locked(path, 0, patience_s)
        with suppress(FileNotFoundError):  # killed over one
            os.unlink(draft_path(path))
        return store

    @classmethod
    def _locked(cls, path: Path, flags: int, patience_s: float = 0.0) -> Store:
        lock = _HeldFile(path, patience_s)
        try:
            return cls(path, lock, ownership.open_file(path, os.O_RDWR | flags))
        except RefusedError:
            lock.close()
            raise
        except FileExistsError:
            lock.close()
            raise RefusedError("there is a journal already", where=str(path), remedy="continue it: --resume") from None
        except OSError as error:
            lock.close()
            raise JournalError(f"cannot be opened: {error.strerror}", where=str(path)) from error

    def replay(self) -> Iterator[Record]:
        """The records, oldest first. At the end a torn tail is cut off and described in `torn`.

        Raises JournalError (damage before the last record, another version) without changing the file.
        """
        with open(self._descriptor, "rb", buffering=1 << 20, closefd=False) as file:
            reader = journal.Reader(file, str(self.path))
            yield from reader
        self.torn, self.senseless = reader.torn, reader.senseless
        self._synced = reader.end
        if reader.torn is not None:
            self._attempt("repaired", lambda: os.ftruncate(self._descriptor, reader.end))
        if reader.end == 0:  # killed before its header was whole
            self._unsynced += journal.HEADER

    def append(self, record: Record) -> None:
        """Note a record; nothing is on disk yet."""
        self._unsynced += journal.encode(record)

    @property
    def needs_sync(self) -> bool:
        """Whether there are records that a crash of the machine would lose."""
        return bool(self._unsynced) or self._folder_due

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return self._synced + len(self._unsynced)

    @property
    def safe_size(self) -> int:
        """Bytes of those records that are on the disk."""
        return self._synced

    @property
    def descriptor(self) -> int:
        """The file, to be read by those who `replace_with` another; it stays this one until then."""
        return self._descriptor

    def records(self) -> Iterator[Record]:
        """All that has been written, from the beginning."""
        return (record for record in self.records_until(None) if record is not None)

    def records_until(self, size: int | None) -> Iterator[Record | None]:
        """Those in the first `size` bytes; None after what gives none by itself. Raises JournalError when they are damaged."""
        with open(self.path, "rb", buffering=1 << 20) as file:
            reader = journal.Reader(file, str(self.path), size)
            yield from reader.each()
            if size is not None and reader.torn is not None:
                raise JournalError("damaged", where=f"{self.path} at byte {reader.end}")

    def write(self) -> None:
        """Put everything noted into the file: a killed manager no longer loses it.

        Raises TransientError when the disk takes no more; everything is kept, and a later call tries again.
        """
        if self._written < len(self._unsynced):
            self.is_stuck = True
            self._attempt("written", self._write)
        self.is_stuck = False

    def write_now(self, record: Record) -> None:
        """Note one record and put it into the file, or neither: what cannot be written was never accepted.

        Raises TransientError as `write`.
        """
        self.write()
        before = len(self._unsynced)
        self.append(record)
        try:
            self.write()
        except TransientError:
            del self._unsynced[before:]
            raise

    @property
    def is_syncing(self) -> bool:
        """A sync has begun, and its end has not been taken yet."""
        return self._disk.runs

    def begin_sync(self) -> bool:
        """Begin to put everything written onto the disk, unless that is being done or not needed; whether it was begun."""
        if self._disk.runs or not (self._written or self._folder_due or self._successor):
            return False
        self.next_sync += 1
        self._syncing = self._written
        descriptor, folder = self._descriptor, self.path.parent if self._folder_due else None
        stop, successor = self._synced + self._syncing, self._successor
        replaced, self._replaced, self._finishing = self._replaced, None, successor

        def act() -> None:
            if replaced is not None:
                os.close(replaced)
            _sync(descriptor, folder)
            if successor is not None:
                successor.draft.finish(descriptor, successor.copied, stop)

        self._disk.begin(act)
        return True

    def ends_at_once(self) -> bool:
        """Whether the sync that was begun has ended, or does within a moment; a disk that is not so fast is not waited for."""
        return self._disk.ends_at_once()

    def end_sync(self) -> int:
        """The sync that was begun has ended, as `sync_ended` tells; returns its number. What was written before is safe now.

        Raises TransientError when it has failed; everything is kept, and written and synced again.
        """
        error = self._disk.end()
        finished, self._finishing = self._finishing, None
        if error is not None:
            self._written = 0  # all of it again, over what is there
            raise self._error("synced", error) from error
        self._folder_due = False
        del self._unsynced[: self._syncing]
        self._synced += self._syncing
        self._written -= self._syncing
        if finished is not None:
            self._hand_over(finished)
        return self.next_sync - 1

    def sync(self, patience_s: float = math.inf) -> bool:
        """Put everything noted onto the disk and wait for that so long; whether it is there. Errors as `end_sync`."""
        self.write()
        until = time.monotonic() + patience_s
        while self._disk.runs or self.begin_sync():
            if not self._disk.wait(min(until - time.monotonic(), _LONG_S)) and time.monotonic() >= until:
                return False
            if self._disk.wait(0):
                self.end_sync()
        return True

    def replace(self, records: Iterable[Record]) -> None:
        """Put `records` in the place of all there are, at once; everything must have been synced.

        Killed at any moment, the old or the new ones are there, whole. Raises TransientError; the old ones stay.
        """
        assert not self.needs_sync
        assert not self.is_syncing
        errors: list[OSError | None] = []
        self._attempt("rewritten", lambda: self.replace_with(self._draft_of(records), self._synced, errors.append))
        self.sync()
        if errors[0] is not None:
            raise self._error("rewritten", errors[0])

    def _draft_of(self, records: Iterable[Record]) -> Draft:
        draft = Draft(self.path)
        try:
            for record in records:
                draft.append(record)
                if draft.is_full:
                    draft.write()
            draft.write()
        except BaseException:
            draft.discard()
            raise
        return draft

    def replace_with(self, draft: Draft, copied: int, on_end: Callable[[OSError | None], None]) -> None:
        """Let `draft`, which has what it needs of the first `copied` bytes, take the journal's place with the next sync.

        What comes behind those bytes is brought to it as it is. `on_end`: called with None when it has taken the place, else
        with the reason why not; then the journal stays as it was.
        """
        assert self._successor is None
        self._successor = _Successor(draft, copied, on_end)

    def _hand_over(self, successor: _Successor) -> None:
        """The draft has all that is safe here: with what was written since, it becomes the journal."""
        draft, size, failure = successor.draft, successor.draft.size, successor.draft.error
        self._successor = None
        if failure is None:
            try:
                draft.add(self._unsynced[: self._written])
                draft.publish()
            except OSError as error:
                failure = error
        if failure is None:
            self._replaced, self._descriptor = self._descriptor, draft.descriptor
            self._synced, self._folder_due = size, True
        else:
            draft.discard()
        successor.on_end(failure)

    def close(self) -> None:
        """Give the journal to others. What was not written is lost."""
        self._disk.close()
        for descriptor in (self._descriptor, self._replaced):
            if descriptor is not None:
                os.close(descriptor)
        with suppress(OSError):  # one that was not finished
            os.unlink(draft_path(self.path))
        self._lock.close()

    def _write(self) -> None:
        written_before = self._written
        try:
            with memoryview(self._unsynced) as view:
                while self._written < len(view):
                    self._written += os.pwrite(self._descriptor, view[self._written :], self._synced + self._written)
        except OSError:
            # Half a record may have got in. The next attempt writes the same bytes over it; cutting it off just spares
            # a manager killed before that the torn tail.
            self._written = written_before
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._synced + self._written)
            raise

    def _attempt(self, done: str, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            raise self._error(done, error) from error

    def _error(self, done: str, error: OSError) -> TransientError:
        return TransientError(
            f"the journal cannot be {done}: {error.strerror}",
            where=str(self.path),
            remedy="free space or repair the disk; accepted jobs are kept and nothing new is acknowledged until then",
        )


def _sync(descriptor: int, folder: Path | None) -> None:
    """In the thread. A new file survives a crash of the machine only when its folder's entry is on disk too."""
    if folder is not None:
        sync_folder(folder)
    os.fdatasync(descriptor)


class _HeldFile:
    """`<journal>.lock`, held: it says by whom.

    A file of its own, because a lock on the journal would stay with the old file if it were replaced by renaming.
    """

    def __init__(self, journal_path: Path, patience_s: float) -> None:
        """Wait so long for whoever has it. Raises JournalError, RefusedError (somebody still has it), TransientError."""
        path = journal_path.with_name(journal_path.name + ".lock")
        try:
            self._descriptor = ownership.open_file(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise JournalError(f"cannot be opened: {error.strerror}", where=str(path)) from error
        try:
            self._lock = locks.take(self._descriptor, path, patience_s, takes_note=True)
        except locks.HeldError as error:
            os.close(self._descriptor)
            elsewhere = error.owner is not None and not error.owner.is_here and error.link is not None
            gone = f", or remove {error.link} if it is gone" if elsewhere else ""
            raise RefusedError(
                f"another manager, {error.holder}, works with this journal",
                where=str(journal_path),
                remedy=f"stop that one first{gone}",
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise TransientError(f"cannot be locked: {error.strerror}", where=str(path)) from error
        self.weakness = self._lock.weakness

    def close(self) -> None:
        self._lock.release()
        os.close(self._descriptor)
