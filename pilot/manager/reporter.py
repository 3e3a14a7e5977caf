"""Writes `jobs.report` and `final_status.json`. They are for people and scripts; the truth is in the journal.

So a full disk here never stops the service: entries wait in memory and each turn tries again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..files import write_atomically
from ..model.decisions import Change, Changes, Succeeded
from ..model.states import State
from ..wire import codec, report_columns
from ..wire.replies import Status
from ..wire.report import ENCODERS, Format, ReportEntry
from .column_report import ColumnReport
from .job_info import Views

_CHUNK_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Reporter:
    """One report file, in place of any older one, which stays until the first `write` has made the new one complete.

    On resume the manager adds what the journal holds before that, so that each ending is in the report exactly once.
    """

    def __init__(self, path: Path, report_format: Format) -> None:
        self.path = path
        self._draft: Path | None = path.with_name(path.name + ".new")  # None once it is in place
        self._encode = ENCODERS[report_format]
        self._is_json = report_format == "json"
        self._columns = ColumnReport() if report_format == "columns" else None
        self._waiting = bytearray() if self._columns is None else bytearray(self._columns.begin())
        self._descriptor: int | None = None
        self._failing = False

    def add(self, entry: ReportEntry) -> None:
        """Note an entry for the next `write`."""
        self._waiting += self._encode(entry)
        self._flush_if_long()

    def _flush_if_long(self) -> None:
        if len(self._waiting) > _CHUNK_BYTES and not self._failing:
            self._guarded_flush()

    def add_ended(self, changes: Iterable[Changes], views: Views) -> None:
        """Note an entry for each job or task that has ended with these changes."""
        if self._columns is not None:
            self._waiting += self._columns.lines(changes, views)
            self._flush_if_long()
            return
        for change in changes:
            if isinstance(change, Change):
                self._add_ended(change, views)
            elif isinstance(change, Succeeded):
                lines = views.report_lines(change) if self._is_json else None
                if lines is not None:
                    self._waiting += lines.encode()
                    continue
                for one in change:
                    self._add_ended(one, views)
        self._flush_if_long()

    def _add_ended(self, change: Change, views: Views) -> None:
        if change.state < State.SUCCEED:
            return
        line = views.report_line(change) if self._is_json else None
        if line is None:
            self.add(views.report_entry(change))
        else:
            self._waiting += line.encode()

    def begin_with(self, size: int) -> None:
        """Begin with the first `size` bytes of the older report instead of what was added so far; before any `write`.

        When the older report does not have as much, or is of another format, what was added stays.
        """
        with suppress(FileNotFoundError), open(self.path, "rb") as older:
            if os.fstat(older.fileno()).st_size < size or self._is_other_format(older.peek(len(report_columns.HEADER))):
                return
            if self._columns is not None:
                self._columns.begin()
            self._waiting.clear()
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, 0)
            while chunk := older.read(min(size, _CHUNK_BYTES)):
                size -= len(chunk)
                self._waiting += chunk
                self._guarded_flush()

    def _is_other_format(self, begin: bytes) -> bool:
        return begin.startswith(report_columns.HEADER) is (self._columns is None)

    def sync(self) -> int | None:
        """Put all entries onto the disk; returns the size of the report. None: that is not possible now."""
        self.write()
        try:
            self.sync_file()
        except OSError:
            return None
        return self.size

    @property
    def size(self) -> int | None:
        """Bytes of the report, once all entries are in the file; None while they are not."""
        if self._waiting or self._draft is not None or self._descriptor is None:
            return None
        try:
            return os.fstat(self._descriptor).st_size
        except OSError:
            return None

    def sync_file(self) -> None:
        """Put what is in the file onto the disk; also beside the loop. Raises OSError."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def write(self) -> None:
        """Bring what waits into the file; called once per loop turn. A failure is logged once and tried again."""
        if self._waiting or self._draft is not None:
            self._guarded_flush(then_publish=True)

    def close(self) -> None:
        """Write the rest, as far as that is possible, and close the file."""
        self.write()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _guarded_flush(self, then_publish: bool = False) -> None:
        try:
            self._flush()
            if then_publish:
                self._publish()
        except OSError as error:
            if not self._failing:
                log.error("report.failed", extra={"path": str(self.path), "reason": error.strerror})
            self._failing = True
        else:
            if self._failing:
                log.warning("report.recovered", extra={"path": str(self.path)})
            self._failing = False

    def _flush(self) -> None:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._draft or self.path, flags | (os.O_TRUNC if self._draft else 0), 0o600)
        while self._waiting:
            # What got in before the disk was full stays; the rest of that line follows with the next attempt.
            del self._waiting[: os.write(self._descriptor, self._waiting)]

    def _publish(self) -> None:
        if self._draft is not None:
            os.replace(self._draft, self.path)
            self._draft = None


def write_final_status(path: Path, status: Status) -> None:
    """`final_status.json`: the reply data of `status`, in one step. Raises OSError."""
    write_atomically(path, codec.dump(status, indent=2) + b"\n")
