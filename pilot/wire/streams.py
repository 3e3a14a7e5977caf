"""Where the output of tasks is that have no files of their own: the names and the index of an auxiliary folder's `streams`.

What the tasks of a worker process have printed is in `WORKER.out` and `WORKER.err`, one task behind the other, in the order in
which they ended. `WORKER.index` is plain text: a line for each attempt of a task, with tabs in between:

    TASK  ATTEMPT  RUN  EXIT_CODE  OUT_FILE  OUT_FROM  OUT_BYTES  ERR_FILE  ERR_FROM  ERR_BYTES

OUT_FILE is what follows `WORKER.` in the name of the file: `out`, mostly. So what `sweep:3` has printed is, without any program
of ours,

    grep -P '^sweep:3\\t' streams/*.index
    tail -c +$((OUT_FROM + 1)) streams/WORKER.OUT_FILE | head -c $OUT_BYTES

A task that has run for a moment and still runs has a line with `-` for what is not known yet, and another one when it has
ended; until then it has files of its own, `WORKER.2.out` and `WORKER.2.err`. If its worker is killed with it, these stay, and
hold what it had written. A very long output is not copied: its file stays, and is named in the index. `WORKER.last` has the
last lines of tasks that have failed and whose stderr nobody keeps.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

FOLDER = "streams"
INDEX = "index"
OUT = "out"
ERR = "err"
LAST = "last"
HEADER = "# task\tattempt\trun\texit_code\tout_file\tout_from\tout_bytes\terr_file\terr_from\terr_bytes\n"
_UNKNOWN = "-"


class Kept(NamedTuple):
    """A part of a worker's file. `file` is the end of its name, None for none; `size` None: it may still grow."""

    file: str | None = None
    start: int = 0
    size: int | None = 0


NOTHING = Kept()


class Entry(NamedTuple):
    """One line of an index. `exit_code` is None while the task runs. `run` also counts attempts that do not count, as of a
    pilot that was stopped.
    """

    task: str
    attempt: int
    run: int
    exit_code: int | None
    out: Kept = NOTHING
    err: Kept = NOTHING

    @property
    def age(self) -> tuple[int, bool]:
        """The higher, the later it was written."""
        return self.run, self.exit_code is not None

    def line(self) -> str:
        words = [self.task, self.attempt, self.run, self.exit_code, *self.out, *self.err]
        return "\t".join([_UNKNOWN if word is None else str(word) for word in words]) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Entry | None:
        """None for the header, and for a line that is torn."""
        words = [None if word == _UNKNOWN else word for word in line.rstrip("\n").split("\t")]
        if line.startswith("#") or not line.endswith("\n") or len(words) != 4 + 2 * len(Kept._fields):
            return None
        with suppress(ValueError):
            attempt, run, exit_code, out_from, out_bytes, err_from, err_bytes = (
                None if words[place] is None else int(words[place] or "") for place in (1, 2, 3, 5, 6, 8, 9)
            )
            out, err = Kept(words[4], out_from or 0, out_bytes), Kept(words[7], err_from or 0, err_bytes)
            return cls(words[0] or _UNKNOWN, attempt or 0, run or 0, exit_code, out, err)
        return None


class Part(NamedTuple):
    """A part of a file. `size` None: it may still grow."""

    path: Path
    start: int = 0
    size: int | None = None

    @property
    def is_of_stream(self) -> bool:
        return self.path.parent.name == FOLDER

    def read(self, most: int | None = None, skip: int = 0) -> bytes:
        """The bytes behind the first `skip`, or the last `most` of them."""
        with open(self.path, "rb") as file:
            end = file.seek(0, os.SEEK_END) if self.size is None else self.start + self.size
            file.seek(self.start + skip if most is None else max(self.start, end - most))
            return file.read(max(0, end - file.tell()))

    def copy(self, to: BinaryIO) -> None:
        """Write all of it there."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            left = sys.maxsize if self.size is None else self.size
            while left and (piece := file.read(min(left, 1 << 20))):
                to.write(piece)
                left -= len(piece)


class Index:
    """All of a folder; read anew at each question, as it grows."""

    def __init__(self, aux: Path) -> None:
        self._folder = aux / FOLDER

    def find(self, task: str, attempt: int | None = None) -> tuple[str, Entry] | None:
        """The worker and the latest line of a task's attempt; None: the latest attempt."""
        latest: tuple[str, Entry] | None = None
        for path in sorted(self._folder.glob(f"*.{INDEX}")):
            for entry in _lines_of(path, task):
                if attempt in (None, entry.attempt) and (latest is None or entry.age >= latest[1].age):
                    latest = path.name.removesuffix(f".{INDEX}"), entry
        return latest

    def all(self) -> dict[str, tuple[str, Entry]]:
        """The worker and the latest line of each task."""
        latest: dict[str, tuple[str, Entry]] = {}
        for path in sorted(self._folder.glob(f"*.{INDEX}")):
            worker = path.name.removesuffix(f".{INDEX}")
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                for entry in filter(None, map(Entry.of_line, file)):
                    other = latest.get(entry.task)
                    if other is None or entry.age >= other[1].age:
                        latest[entry.task] = worker, entry
        return latest

    def part(self, task: str, of_stderr: bool, attempt: int | None = None) -> Part | None:
        """What a task has written; None when that was not kept."""
        match = self.find(task, attempt)
        return None if match is None else self.part_of(*match, of_stderr)

    def part_of(self, worker: str, entry: Entry, of_stderr: bool) -> Part | None:
        """What a line tells of."""
        file, start, size = entry.err if of_stderr else entry.out
        return None if file is None else Part(self._folder / f"{worker}.{file}", start, size)


def _lines_of(path: Path, task: str) -> Iterator[Entry]:
    """Those of one task, found without reading the others."""
    begin = b"\n" + task.encode(errors="surrogateescape") + b"\t"
    with (
        suppress(OSError, ValueError),  # ValueError: it is empty
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        at = data.find(begin)
        while at >= 0:
            end = data.find(b"\n", at + 1)
            entry = Entry.of_line(data[at + 1 : len(data) if end < 0 else end + 1].decode(errors="surrogateescape"))
            if entry is not None:
                yield entry
            at = -1 if end < 0 else data.find(begin, end)
