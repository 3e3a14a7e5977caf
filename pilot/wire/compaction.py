"""What of a journal still counts: everything but the jobs that clients have removed.

The result is a journal again, read like any other. It keeps the order and the numbers of jobs and nodes, so replaying it
gives the same state; a removed job stays while a job that is kept names it as a dependency, because whether that one was
released or omitted follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import msgspec

from ..model.ids import JobNo
from .records import Canceled, Compacted, Ended, Record, Removed, Sent, Submitted, Succeeded, Taken


class Survey:
    """Fed with a journal from its beginning, record by record, it tells which jobs to keep.

    `next_no` is the number of the next job that will be submitted.
    """

    def __init__(self) -> None:
        self.next_no = JobNo(1)
        self._names: dict[JobNo, str] = {}  # the jobs that are there
        self._numbers: dict[str, JobNo] = {}
        self._needs: dict[JobNo, list[JobNo]] = {}  # dependencies of all jobs ever: those of removed jobs may count too

    def take(self, record: Record) -> None:
        if isinstance(record, Submitted):
            self._take_submitted(record)
        elif isinstance(record, Removed):
            for no in record.job_nos:
                name = self._names.pop(no, None)
                if name is not None and self._numbers.get(name) == no:
                    del self._numbers[name]
        elif isinstance(record, Compacted):
            self.next_no = record.next_no

    def _take_submitted(self, record: Submitted) -> None:
        jobs = list(zip(record.numbers, record.jobs, strict=False))  # a record of which that is not true does not count
        for no, spec in jobs:
            self._names[no] = spec.name
            self._numbers[spec.name] = no
            self.next_no = JobNo(no + 1)
        for no, spec in jobs:  # only now, because they may name jobs behind them
            if spec.after:
                self._needs[no] = [self._numbers[one.job] for one in spec.after if one.job in self._numbers]

    def to_keep(self) -> set[JobNo]:
        """Jobs that are there, and those they depend on, and so on."""
        kept = set(self._names)
        todo = [no for no in kept if no in self._needs]
        while todo:
            for needed in self._needs[todo.pop()]:
                if needed not in kept:
                    kept.add(needed)
                    if needed in self._needs:
                        todo.append(needed)
        return kept


def without_others(journal: Iterable[Record], kept: Container[JobNo]) -> Iterator[Record]:
    """The records of `journal` that say something of jobs in `kept`, or of no job, reduced to that."""
    for record in journal:
        reduce = _REDUCE.get(type(record))
        reduced = record if reduce is None else reduce(record, kept)
        if reduced is not None:
            yield reduced


def _reduce_submitted(record: Submitted, kept: Container[JobNo]) -> Record | None:
    jobs = [(no, spec) for no, spec in zip(record.numbers, record.jobs, strict=False) if no in kept]
    if len(jobs) == len(record.jobs):
        return record
    numbers = [no for no, _ in jobs]
    return Submitted(numbers[0], record.time_s, [spec for _, spec in jobs], numbers) if jobs else None


def _reduce_tasks(record: Sent | Taken, kept: Container[JobNo]) -> Record | None:
    tasks = [key for key in record.tasks if key[0] in kept]
    return msgspec.structs.replace(record, tasks=tasks) if tasks else None


def _reduce_ended(record: Ended, kept: Container[JobNo]) -> Record | None:
    results = [result for result in record.results if result.job_no in kept]
    return Ended(results) if results else None


def _reduce_removed(record: Removed, kept: Container[JobNo]) -> Record | None:
    numbers = [no for no in record.job_nos if no in kept]
    return Removed(numbers) if numbers else None


_REDUCE: dict[type[Record], Callable[[Any, Container[JobNo]], Record | None]] = {
    Submitted: _reduce_submitted,
    Sent: _reduce_tasks,
    Succeeded: lambda record, kept: record if record.results.job_no in kept else None,
    Taken: _reduce_tasks,
    Ended: _reduce_ended,
    Canceled: lambda record, kept: record if record.job_no in kept else None,
    Removed: _reduce_removed,
    Compacted: lambda record, kept: None,  # the new one takes its place
}
