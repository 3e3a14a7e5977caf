"""Which work the jobs of a pilot are, kept in its folder by `pilotfish run`: what a later `--continue` compares a file with.

The pilot knows jobs by name, and a name says nothing of what a job does. So each run writes down, before it submits anything,
what every job it submits is (`identity`), and of which file. Jobs that others submit are not in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from ..pilot.files import write_atomically
from ..pilot.model.errors import PilotfishError, TransientError, UsageError
from ..pilot.wire import codec, ownership

FILE_NAME = "run-tasks.json"
_VERSION = 1


class Entry(msgspec.Struct, omit_defaults=True):
    """One job in the pilot.

    Attributes:
        name: in the pilot.
        source: the file it is of.
        label: its name in that file, when it was last found there.
        work, limits: see `identity`.
        output: where what its tasks print was told to go; its files are called `stem` there.
        after: the jobs in the pilot that it waits for.
        start: index of its first iteration.
        count: how many iterations there are; None when it has none.
        keys: of the iterations; None when these are only numbered.
        dropped: ranges of indices [from, to) that are not in the file any more, and do not count; without iterations index 0.
    """

    name: str
    source: str
    label: str
    stem: str
    work: str
    limits: str
    output: str = ""
    after: list[str] = []
    start: int = 0
    count: int | None = None
    keys: list[str] | None = None
    dropped: list[tuple[int, int]] = []

    @property
    def indices(self) -> range:
        return range(self.start, self.start + (1 if self.count is None else self.count))

    def task(self, index: int) -> str:
        """The name of one of its tasks in the pilot."""
        return self.name if self.count is None else f"{self.name}:{index}"

    def key(self, index: int) -> str:
        if self.count is None:
            return ""
        return str(index) if self.keys is None else self.keys[index - self.start]

    def is_dropped(self, index: int) -> bool:
        return any(first <= index < end for first, end in self.dropped)

    @property
    def wanted_count(self) -> int:
        return len(self.indices) - sum(end - first for first, end in self.dropped)


class _Content(msgspec.Struct):
    version: int
    jobs: list[Entry]


class Ledger:
    """The entries of one pilot by job name, in order of submission."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._by_name = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Entry | None:
        return self._by_name.get(name)

    @cached_property
    def drops(self) -> bool:
        """Whether there are tasks that do not count any more."""
        return any(entry.dropped for entry in self)

    def counts(self, task: str) -> bool:
        """Whether a task of the pilot (`JOB` or `JOB:INDEX`) is part of the run; what others submitted is."""
        job, _, index = task.partition(":")
        entry = self._by_name.get(job)
        if entry is None or not entry.dropped:
            return True
        return (
            entry.wanted_count > 0 if entry.count is not None and not index else not entry.is_dropped(int(index or 0))
        )

    @property
    def task_count(self) -> int:
        """All tasks of all jobs."""
        return sum(len(entry.indices) for entry in self)

    @property
    def wanted_count(self) -> int:
        """Those that count."""
        return sum(entry.wanted_count for entry in self)

    def write(self, aux: Path) -> None:
        """Put it into a pilot's folder in one step, on disk when this returns. Raises TransientError."""
        path = aux / FILE_NAME
        try:
            write_atomically(path, codec.dump(_Content(_VERSION, list(self))), fsync=True)
        except OSError as error:
            raise TransientError(f"cannot be written: {error.strerror}", where=str(path)) from error


class LedgerOfJobs(Ledger):
    """What to count of a run when only some of its jobs are asked for."""

    def __init__(self, jobs: Collection[str]) -> None:
        super().__init__()
        self._jobs = jobs

    @cached_property
    def drops(self) -> bool:
        return True

    def counts(self, task: str) -> bool:
        return task.partition(":")[0] in self._jobs


def read(aux: Path, in_pilot: Mapping[str, object]) -> Ledger:
    """What is written down of those jobs that are `in_pilot`; others were never accepted, or have been removed.

    Raises PilotfishError when it cannot be read; nothing at all is an empty ledger.
    """
    path = aux / FILE_NAME
    try:
        with open(ownership.open_file(path, os.O_RDONLY), "rb") as file:
            content = codec.load(file.read(), _Content)
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise PilotfishError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except msgspec.DecodeError as error:
        remedy = "continue without FILE, or start anew without --continue"
        raise UsageError(f"is not what a run has written: {error}", where=str(path), remedy=remedy) from error
    if content.version != _VERSION:
        raise UsageError(f"has version {content.version}, this Pilotfish knows {_VERSION}", where=str(path))
    return Ledger(entry for entry in content.jobs if entry.name in in_pilot)


def ranges(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending indices as ranges [from, to)."""
    stretches: list[tuple[int, int]] = []
    for index in indices:
        if stretches and stretches[-1][1] == index:
            stretches[-1] = (stretches[-1][0], index + 1)
        else:
            stretches.append((index, index + 1))
    return stretches
