"""What of a journal still counts: everything but the jobs that clients have removed.

The result is a journal again, read like any other. It keeps the order and the numbers of jobs and nodes, so replaying it
gives the same state; a removed job stays while a job that is kept names it as a dependency, because whether that one was
released or omitted follows from it.

A running manager does this between other work, so all of it can be done in slices: a submit of a million jobs is one record.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec

from ..model.ids import JobNo
from ..model.job_spec import JobSpec
from ..model.large import ByName, ByNumber
from ..model.steps import SLICE, Pause, Steps
from .records import (
    Canceled,
    Compacted,
    Ended,
    Record,
    Removed,
    Returned,
    Sent,
    Submitted,
    SubmittedPart,
    Succeeded,
    Taken,
    portions,
)

_NUMBERS = 10 * SLICE
"""Of jobs, in one slice."""


class Survey:
    """Fed with a journal from its beginning, record by record, it tells which jobs to keep.

    `next_no` is the number of the next job that will be submitted.
    """

    def __init__(self) -> None:
        self.next_no = JobNo(1)
        self._names: ByNumber[str] = ByNumber()  # the jobs that are there
        self._numbers: ByName[JobNo] = ByName()
        self._needs: ByNumber[list[JobNo]] = (
            ByNumber()
        )  # dependencies of all jobs ever: those of removed jobs may count too

    def take(self, record: Record) -> Steps[None]:
        if isinstance(record, Submitted):
            yield from self._take_submitted(record)
        elif isinstance(record, Removed):
            for no in record.job_nos:
                name = self._names.get(no)
                if name is not None:
                    del self._names[no]
                    if self._numbers.get(name) == no:
                        del self._numbers[name]
        elif isinstance(record, Compacted):
            self.next_no = record.next_no

    def _take_submitted(self, record: Submitted) -> Steps[None]:
        for place, (no, spec) in enumerate(_numbered(record), 1):
            self._names[no] = spec.name
            self._numbers[spec.name] = no
            self.next_no = JobNo(no + 1)
            if not place % SLICE:
                yield Pause.MORE
        for place, (no, spec) in enumerate(_numbered(record), 1):  # only now: they may name jobs behind them
            if spec.after:
                self._needs[no] = [self._numbers[one.job] for one in spec.after if one.job in self._numbers]
            if not place % SLICE:
                yield Pause.MORE

    def to_keep(self, also: Iterable[int] = ()) -> Steps[Container[int]]:
        """Jobs that are there, those of `also`, and those they depend on, and so on."""
        kept: ByNumber[None] = ByNumber()
        for some in chain(_slices(self._names), _slices(also)):
            for no in some:
                kept[no] = None
            yield Pause.MORE
        todo: list[int] = []
        for some in _slices(self._needs):
            todo += [no for no in some if no in kept]
            yield Pause.MORE
        while todo:
            for _ in range(min(SLICE, len(todo))):
                for needed in self._needs.get(todo.pop()) or ():
                    if needed not in kept:
                        kept[needed] = None
                        todo.append(needed)
            yield Pause.MORE
        return kept


def _slices(numbers: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(numbers)
    while some := list(islice(rest, _NUMBERS)):
        yield some


def without_others(journal: Iterable[Record | None], kept: Container[int]) -> Iterator[Record | None]:
    """The records of `journal` that say something of jobs in `kept`, or of no job, reduced to that.

    None where a slice of the work gives no record; of a `journal` that has None for that (`journal.Reader.each`), too.
    """
    for record in journal:
        if isinstance(record, Submitted):
            yield from _reduce_submitted(record, kept)
            continue
        reduce = _REDUCE.get(type(record))
        yield record if reduce is None else reduce(record, kept)


def _reduce_submitted(record: Submitted, kept: Container[int]) -> Iterator[Record | None]:
    """Again in parts, so that no record is a long one to read or write."""
    jobs: list[JobSpec] = []
    numbers: list[JobNo] = []
    for place, (no, spec) in enumerate(_numbered(record), 1):
        if no in kept:
            jobs.append(spec)
            numbers.append(no)
        if not place % _NUMBERS:
            yield None
    if not jobs:
        return
    rest = portions(jobs)
    last, parts = next(rest), 0
    for portion in rest:
        yield SubmittedPart(_PARTS_NO, parts, last)
        parts, last = parts + 1, portion
    all_there = len(jobs) == len(record.jobs)
    of_them = record.job_nos if all_there else numbers
    yield Submitted(numbers[0], record.time_s, last, of_them, _PARTS_NO if parts else 0, parts)


_PARTS_NO = 1
"""Of all submits: nothing else stands between the parts of one here."""


def _numbered(record: Submitted) -> Iterator[tuple[JobNo, JobSpec]]:
    """None of a record with other numbers than jobs, as a replay has it."""
    numbers = record.numbers
    return zip(numbers, record.jobs, strict=True) if len(numbers) == len(record.jobs) else iter(())


def _reduce_tasks(record: Sent | Taken, kept: Container[int]) -> Record | None:
    tasks = [key for key in record.tasks if key[0] in kept]
    return msgspec.structs.replace(record, tasks=tasks) if tasks else None


def _reduce_ended(record: Ended, kept: Container[int]) -> Record | None:
    results = [result for result in record.results if result.job_no in kept]
    return Ended(results) if results else None


def _reduce_removed(record: Removed, kept: Container[int]) -> Record | None:
    numbers = [no for no in record.job_nos if no in kept]
    return Removed(numbers) if numbers else None


_REDUCE: dict[type[Record | None], Callable[[Any, Container[int]], Record | None]] = {
    Sent: _reduce_tasks,
    Succeeded: lambda record, kept: record if record.results.job_no in kept else None,
    Taken: _reduce_tasks,
    Ended: _reduce_ended,
    Canceled: lambda record, kept: record if record.job_no in kept else None,
    Removed: _reduce_removed,
    Returned: lambda record, kept: record if record.job_no in kept else None,
    Compacted: lambda record, kept: None,  # the new one takes its place
}
