"""The journal file on disk: one owner, group commit, and a full disk that loses nothing.

Records pile up in memory (`append`), go to the file in one write per loop turn (`write`), and are promised to others only
after `sync`. All bytes since the last good `sync` are kept: after a failed write or sync they are written again at the
same place. After a failed fdatasync that is the only safe way, because the kernel may have dropped the pages and would
report success the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .. import locks
from ..model.errors import JournalError, PilotfishError, RefusedError, TransientError
from ..wire import journal, ownership
from ..wire.records import Record


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

    @classmethod
    def create(cls, path: Path) -> Store:
        """A new, empty journal, on disk when this returns.

        Raises:
            RefusedError: there is a journal already, or another manager has it.
            TransientError: it cannot be written.
        """
        store = cls._locked(path, os.O_CREAT | os.O_EXCL)
        store._folder_due = True
        store._unsynced += journal.HEADER
        try:
            store.write()
            store.sync()
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
        with suppress(FileNotFoundError):  # killed in `replace`
            os.unlink(_draft(path))
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
            raise RefusedError(
                "there is a journal already", where=str(path), remedy="go on with it: --resume"
            ) from None
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

    def records(self) -> Iterator[Record]:
        """All that has been written, from the beginning."""
        with open(self.path, "rb", buffering=1 << 20) as file:
            yield from journal.Reader(file, str(self.path))

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

    def sync(self) -> None:
        """Put everything written onto the disk: a crash of the machine no longer loses it. Errors as `write`."""
        if self._written or self._folder_due:
            self._attempt("synced", self._sync)

    def replace(self, records: Iterable[Record]) -> None:
        """Put `records` in the place of all there are; everything must have been synced.

        Killed at any moment, the old or the new ones are there, whole. Raises TransientError; the old ones stay.
        """
        assert not self._unsynced
        self._attempt("rewritten", lambda: self._replace(records))
        self.sync()

    def close(self) -> None:
        """Give the journal to others. What was not written is lost."""
        os.close(self._descriptor)
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

    def _replace(self, records: Iterable[Record]) -> None:
        draft = _draft(self.path)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", buffering=1 << 20, closefd=False) as file:
                file.write(journal.HEADER)
                for record in records:
                    file.write(journal.encode(record))
                size = file.tell()
            os.fsync(descriptor)
            os.replace(draft, self.path)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(draft)
            raise
        os.close(self._descriptor)
        self._descriptor, self._synced, self._folder_due = descriptor, size, True

    def _sync(self) -> None:
        if self._folder_due:
            self._sync_folder()
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._written = 0  # all of it again, over what is there
            raise
        del self._unsynced[: self._written]
        self._synced += self._written
        self._written = 0

    def _attempt(self, done: str, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            raise TransientError(
                f"the journal cannot be {done}: {error.strerror}",
                where=str(self.path),
                remedy="free space or repair the disk; accepted jobs are kept and nothing new is acknowledged until then",
            ) from error

    def _sync_folder(self) -> None:
        """A new file survives a crash of the machine only when its folder's entry is on disk too."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._folder_due = False


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".new")


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
