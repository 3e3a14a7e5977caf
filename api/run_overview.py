"""What a person wants to know of a run first: counts, the first failures, the slowest tasks, how many ran on each node.

Of what has ended in large batches only the columns are looked at: a million tasks take half a second.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from ..pilot.wire.report import ReadEntry
from ..pilot.wire.report_columns import Ends, PlaceLine
from .task_records import NOT_ENDED, SUCCEEDED, Batch, TaskRecords, TaskRow, of_unstarted


@dataclass(frozen=True)
class Summary:
    """Counts of the tasks that are part of the run; `left` have not ended."""

    tasks: int
    succeeded: int
    failed: int
    left: int
    by_state: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, by_state: Mapping[str, int]) -> Summary:
        tasks, succeeded, left = sum(by_state.values()), by_state.get(SUCCEEDED, 0), by_state.get(NOT_ENDED, 0)
        return cls(tasks, succeeded, tasks - succeeded - left, left, {name: n for name, n in by_state.items() if n})


@dataclass(frozen=True)
class Overview:
    """`failures`: the first of them, one for all tasks that their job took with it before they were started; `more`: how many
    others have failed. `slowest`: those that took longest; `by_node`: how many ran there.
    """

    summary: Summary
    failures: list[TaskRow]
    more: int
    slowest: list[TaskRow]
    by_node: Mapping[str, int]


def overview_of(records: TaskRecords, most_failures: int = 10, most_slowest: int = 3) -> Overview:
    """In one pass over the report."""
    counting = _Counting(records, most_failures, most_slowest)
    if records.ledger.drops:
        for batch in records.batches():
            counting.add(batch)
    else:
        counting.add_all()
    return counting.result()


class _Counting:
    def __init__(self, records: TaskRecords, most_failures: int, most_slowest: int) -> None:
        self._records = records
        self._most_failures = most_failures
        self._most_slowest = most_slowest
        self._by_state: Counter[str] = Counter()
        self._by_node: Counter[str] = Counter()
        self._by_place: Counter[int] = Counter()
        self._places: dict[int, tuple[str, str]] = {}
        self._ended: Counter[str] = Counter()
        """By job."""
        self._failures: list[TaskRow] = []
        self._told = 0
        """How many tasks these stand for."""
        self._slowest: list[tuple[int, int, TaskRow]] = []
        """With how many microseconds they took, in which all reports agree."""
        self._ticket = count()

    def add_all(self) -> None:
        """Of a run of which all tasks count."""
        jobs = self._records.jobs
        whole: dict[str, ReadEntry] = {}
        for line in self._records.lines():
            if isinstance(line, Ends):
                self._add_ends(line)
            elif isinstance(line, PlaceLine):
                self._count_places()
                self._places[line.place] = line.node, line.allocation
            else:
                batch = self._records.of_entry(line, whole)
                if batch is not None:
                    self._ended[batch.jobs[0].name] += 1
                    self.add(batch)
        self._count_places()
        for name, spec in jobs.items():
            left = spec.task_count - self._ended[name]
            state, reason = of_unstarted(whole.get(name))
            self._by_state[state] += left
            if left and state != NOT_ENDED and len(self._failures) < self._most_failures:
                self._failures.append(_row_of_unstarted(name, state, left, reason))
                self._told += left

    def _add_ends(self, ends: Ends) -> None:
        """Without making rows of its columns, unless one of them is needed."""
        if ends.job is None or ends.job not in self._records.jobs:
            batch = self._records.of_ends(ends, self._places)
            if batch is not None:
                self._ended.update(job.name for job in batch.jobs)
                self.add(batch)
            return
        self._ended[ends.job] += ends.count
        self._by_place.update(ends.place)
        if isinstance(ends.state, str):
            self._by_state[ends.state] += ends.count
        else:
            self._by_state.update(ends.state)
        is_slow = len(self._slowest) < self._most_slowest or max(ends.took_us) > self._slowest[0][0]
        if is_slow or (ends.state != SUCCEEDED and len(self._failures) < self._most_failures):
            batch = self._records.of_ends(ends, self._places)
            if batch is not None:
                self._note(batch)

    def add(self, batch: Batch) -> None:
        self._by_state.update(batch.state)
        self._by_node.update(batch.node)
        self._note(batch)

    def _note(self, batch: Batch) -> None:
        """The failures and the slow ones."""
        self._note_failures(batch, [at for at, state in enumerate(batch.state) if state not in (SUCCEEDED, NOT_ENDED)])
        for at in range(len(batch)):
            if batch.pid[at] > 0:
                self._note_time(batch, at, round((batch.ended_s[at] - batch.started_s[at]) * 1e6))

    def _note_failures(self, batch: Batch, places: list[int]) -> None:
        for at in places[: self._most_failures - len(self._failures)]:
            self._failures.append(self._records.row(batch, at))
            self._told += 1

    def _note_time(self, batch: Batch, at: int, took_us: int) -> None:
        if len(self._slowest) < self._most_slowest:
            heapq.heappush(self._slowest, (took_us, next(self._ticket), self._records.row(batch, at)))
        elif took_us > self._slowest[0][0]:
            heapq.heapreplace(self._slowest, (took_us, next(self._ticket), self._records.row(batch, at)))

    def _count_places(self) -> None:
        """The numbers of places may get another meaning."""
        for place, tasks in self._by_place.items():
            self._by_node[self._places.get(place, ("", ""))[0]] += tasks
        self._by_place.clear()

    def result(self) -> Overview:
        del self._by_node[""]
        slowest = [row for _, _, row in sorted(self._slowest, reverse=True)]
        summary = Summary.of(self._by_state)
        return Overview(summary, self._failures, max(0, summary.failed - self._told), slowest, self._by_node)


def _row_of_unstarted(job: str, state: str, tasks: int, reason: str) -> TaskRow:
    """One row for all tasks of a job that ended with it."""
    text = f"{tasks} tasks were not started" + (f": {reason}" if reason else "")
    return TaskRow(job, state, None, text, {}, None, None, None, "", None, None, 0, None, None)
