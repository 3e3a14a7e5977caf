"""The journal's bytes: a header, then records, each as it was accepted, in order.

A record is `MARK | length | crc32 | msgpack`, little endian; the crc covers length and msgpack. A manager that was killed
while it wrote leaves a *torn tail*: it was never acknowledged and may be cut off. Damage with a whole record after it is
something else (a failing disk, an edited file): going on would forget acknowledged work, so it is an error.

The MARK lets the search for such a later record skip quickly. Its 0xff bytes never occur in UTF-8, so no text of a client
can look like a record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, get_args
from zlib import crc32

import msgspec

from ..model.errors import JournalError
from .records import UNKNOWN_NODE, Record, Submitted, SubmittedPart

FILE_NAME = "journal.pilotfish"
VERSION = 8
_READABLE = frozenset({3, 4, 5, 6, 7, VERSION})
"""Version 3 has no AgentExpected; agents that had not reported were not known. Versions 3 and 4 have no SubmittedPart, versions
3 to 5 no Succeeded: each result stands by itself. Versions 3 to 6 have no calls of functions, and so no Returned. Versions 3 to
7 have no named resources.
"""
HEADER = b"pilotfish journal\n" + struct.pack("<H", VERSION)

_MAGIC_BYTES = len(HEADER) - 2
_MARK = b"\xff\xfeR\xff"
_HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
_KINDS = frozenset(kind.__name__ for kind in get_args(Record))


class TornTail(NamedTuple):
    """What an interrupted write has left: `dropped_bytes` bytes from `offset` to the end of the file."""

    offset: int
    dropped_bytes: int


def encode(record: Record) -> bytes:
    body = _encoder.encode(record)
    return _HEAD.pack(_MARK, len(body), crc32(body, crc32(_LENGTH.pack(len(body))))) + body


def has_record(path: Path) -> bool:
    """Whether there is a whole record in the file. Raises JournalError as reading does, and OSError."""
    with open(path, "rb") as file:
        return next(iter(Reader(file, str(path))), None) is not None


class Reader:
    """Iterate over it once; afterwards `end` is the offset after the last whole record and `torn` what follows it.

    Submits that were written in parts come as one record; parts of one that was never accepted do not come.

    A file shorter than its header (killed while it was created) has no records and is torn from offset 0.
    """

    def __init__(
        self, file: BinaryIO, name: str, stop: int | None = None, kinds: Iterable[type[Record]] | None = None
    ) -> None:
        """`file` is open for reading at its start; `name` is for messages. `stop`: where to end; None: at its end.

        `kinds`: all others come as None, and are not looked into; None: all are wanted.
        """
        self.end = 0
        self.torn: TornTail | None = None
        self.senseless: list[str] = []
        """Records that were left out, and why."""
        self._file = file
        self._name = name
        self._stop = stop
        self._size = 0
        self._parts: dict[int, list[SubmittedPart]] = {}
        self._beginnings = None if kinds is None else tuple(map(_beginning, kinds))

    def __iter__(self) -> Iterator[Record]:
        """Raises JournalError for a file that is no journal, of another version, or damaged before its last record."""
        return (record for record in self.each() if record is not None)

    def each(self) -> Iterator[Record | None]:
        """The same for those who read on between other work: None after each record in the file that gives none to them."""
        self._size = self._file.seek(0, 2) if self._stop is None else self._stop
        self._file.seek(0)
        if self._read_header():
            while (body := self._next_body()) is not None:
                wanted = self._beginnings is None or body[1:40].startswith(self._beginnings)
                record = self._decode(body) if wanted else None
                if isinstance(record, (Submitted, SubmittedPart)):
                    record = self._joined(record)
                yield record
                self.end += _HEAD.size + len(body)
        self._file.seek(self.end)
        rest = self._file.read(self._size - self.end)
        if rest:
            self._check_is_tail(rest)
            self.torn = TornTail(self.end, len(rest))

    def _joined(self, record: Submitted | SubmittedPart) -> Submitted | None:
        """The whole submit when this completes one. A part is kept until then."""
        if isinstance(record, SubmittedPart):
            if record.place == 0:
                self._parts[record.parts_no] = []
            self._parts.get(record.parts_no, []).append(record)
            return None
        if not record.parts:
            return record
        parts = self._parts.pop(record.parts_no, [])
        if [part.place for part in parts] != list(range(record.parts)):
            self.senseless.append(f"Submitted at byte {self.end}: some of its {record.parts} parts are not there")
            return None
        jobs = [spec for part in parts for spec in part.jobs]
        return Submitted(record.first_job_no, record.time_s, jobs + record.jobs, record.job_nos)

    def _read_header(self) -> bool:
        header = self._file.read(len(HEADER))
        magic, version = header[:_MAGIC_BYTES], int.from_bytes(header[_MAGIC_BYTES:], "little")
        is_whole = len(header) == len(HEADER) and magic == HEADER[:_MAGIC_BYTES]
        if is_whole and version in _READABLE:
            self.end = len(HEADER)
            return True
        if HEADER.startswith(header):
            return False
        if magic == HEADER[:_MAGIC_BYTES]:
            raise JournalError(
                f"the journal has version {version}, this Pilotfish knows {VERSION}",
                where=self._name,
                remedy="resume with the Pilotfish that wrote it",
            )
        raise JournalError("this is not a Pilotfish journal", where=self._name)

    def _next_body(self) -> bytes | None:
        """The next record's msgpack, or None where no whole record begins."""
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(_MARK):
            return None
        _, length, crc = _HEAD.unpack(head)
        if length > self._size - self.end - _HEAD.size:  # asked first: read() would make room for a damaged length
            return None
        body = self._file.read(length)
        return body if _is_whole(body, length, crc) else None

    def _decode(self, body: bytes) -> Record | None:
        """None for one of a kind we know with values it cannot have: it is noted in `senseless`, and the others count."""
        try:
            record: Record = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            kind = _kind(body)
            if kind not in _KINDS:  # whole, yet not understood: written by something else
                raise JournalError(
                    f"the record cannot be read: {error}", where=f"{self._name} at byte {self.end}"
                ) from error
            self.senseless.append(f"{kind} at byte {self.end}: {error}")
            return UNKNOWN_NODE if kind == "NodeJoined" else None
        return record

    def _check_is_tail(self, rest: bytes) -> None:
        at = rest.find(_MARK, 1)
        while at >= 0:
            if len(rest) - at >= _HEAD.size:
                _, length, crc = _HEAD.unpack_from(rest, at)
                start = at + _HEAD.size
                if start + length <= len(rest) and _is_whole(rest[start : start + length], length, crc):
                    raise JournalError(
                        f"damaged, and whole records follow at byte {self.end + at}",
                        where=f"{self._name} at byte {self.end}",
                        remedy="restore the file from a copy; cutting it here would forget accepted work",
                    )
            at = rest.find(_MARK, at + 1)


def _kind(body: bytes) -> object:
    try:
        return msgspec.msgpack.decode(body, type=list[Any])[0]
    except (ValueError, IndexError, TypeError, RecursionError):
        return None


def _beginning(kind: type[Record]) -> bytes:
    """How a record begins, behind the byte that tells how many members it has: with its name."""
    return msgspec.msgpack.encode(kind.__name__)


def _is_whole(body: bytes, length: int, crc: int) -> bool:
    return len(body) == length and crc32(body, crc32(_LENGTH.pack(length))) == crc
