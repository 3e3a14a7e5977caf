"""What of a journal's record can be true: the rest costs itself, never the resume.

A whole record that nobody can have meant comes from a mistake (ours, of an agent that was believed, of somebody who copied
records): a time in the year 10^292, a job that was submitted twice. Numbers that do not matter for what becomes of a task are
put right; what else cannot be is left out, with a reason for the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ..model.ids import JobNo, NodeNo
from ..model.resources import GPU, MOST_IDS, PARTS, is_resource_name
from ..model.scheduler import Scheduler
from ..model.states import NodeState, State
from ..wire import ranges, records

_ENDS = (State.QUEUED, State.SUCCEED, State.FAILED, State.CANCELED)


class RecordChecks:
    """Checks records against `scheduler`, which has taken in those before. `left_out` is told the reasons."""

    def __init__(self, scheduler: Scheduler, left_out: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._left_out = left_out
        self._places: set[tuple[records.PlacedShare, ...]] = set()
        """Those that have been found to be possible: very many tasks run in the same few places."""
        self._checks: dict[type, Callable[[Any], records.Record | None]] = {
            records.Submitted: self._submitted,
            records.Sent: self._sent,
            records.Ended: self._ended,
            records.Succeeded: self._succeeded,
            records.Returned: self._returned,
            records.Canceled: self._canceled,
            records.Removed: self._removed,
            records.NodeJoined: self._joined,
            records.NodeLeft: self._left,
            records.AgentExpected: lambda record: record if self._is_node(record.node) else None,
            records.AgentUp: self._agent,
            records.AgentDown: lambda record: record if self._is_node(record.node) else None,
        }

    def possible(self, record: records.Record) -> records.Record | None:
        """What of the record can be true; None: nothing."""
        check = self._checks.get(type(record))
        return record if check is None else check(record)

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def _submitted(self, record: records.Submitted) -> records.Record | None:
        jobs = self._scheduler.jobs
        if len(record.numbers) != len(record.jobs):
            self._left_out("a submit has other numbers than jobs")
            return None
        next_no, names = jobs.next_no, set()
        kept = []
        for number, spec in zip(record.numbers, record.jobs, strict=True):
            if number < next_no or jobs.find(spec.name) is not None or spec.name in names:
                self._left_out(f"job {number} ({spec.name}) was submitted before")
                continue
            kept.append((number, spec))
            names.add(spec.name)
            next_no = JobNo(number + 1)
        if not kept:
            return None
        numbers = [number for number, _ in kept]
        return records.Submitted(numbers[0], _time(record.time_s), [spec for _, spec in kept], numbers)

    def _sent(self, record: records.Sent) -> records.Record | None:
        if not self._is_node(record.node):
            return None
        if self._scheduler.recovery.plain.stretch(record.tasks) is not None:
            return msgspec.structs.replace(record, time_s=_time(record.time_s))
        tasks = [key for key in record.tasks if self._can_be_sent(key)]
        return msgspec.structs.replace(record, tasks=tasks, time_s=_time(record.time_s))

    def _can_be_sent(self, key: Sequence[int]) -> bool:
        number, pos, run = key
        job = self._scheduler.jobs.by_no(JobNo(number))
        if job is None:
            return False  # removed since, or left out before
        if not 0 <= pos < job.spec.task_count or not job.tasks.run(pos) <= run <= ranges.MOST_RUNS:
            self._left_out(f"attempt {run} at position {pos} of job {number} cannot be")
            return False
        return True

    def _ended(self, record: records.Ended) -> records.Record:
        return records.Ended([found for result in record.results if (found := self._result(result)) is not None])

    def _succeeded(self, record: records.Succeeded) -> records.Record | None:
        """As it is, when all in it can be true; else its results one by one, as they have to be looked at."""
        if self._are_plain(record.results):
            return record
        try:
            return self._ended(records.Ended(list(record.results.each())))
        except (ValueError, IndexError):
            self._left_out("results in columns that do not belong together")
            return None

    def _are_plain(self, ends: records.Successes) -> bool:
        """Whether the columns are equally long, and all values possible."""
        columns = ends.pos, ends.place, ends.pid, ends.started_s, ends.ended_s, ends.cpu_s, ends.max_rss_kib
        if not ends.pos or any(len(column) != len(ends.pos) for column in columns):
            return False
        return (
            _all_within(ends.place, 0, len(ends.places) - 1)
            and _all_within(ends.pid, 1, ranges.MOST_PID)
            and 0 <= ends.scheduled_s <= ranges.LATEST_S
            and _all_within(ends.started_s, 0, ranges.LATEST_S)
            and _all_within(ends.ended_s, 0, ranges.LATEST_S)
            and _all_within(ends.cpu_s, 0, ranges.MOST)
            and _all_within(ends.max_rss_kib, 0, ranges.MOST)
            and all(map(self._is_place, ends.places))
        )

    def _returned(self, record: records.Returned) -> records.Record | None:
        if self._scheduler.jobs.by_no(record.job_no) is None:
            return None
        if len(record.pos) != len(record.data):
            self._left_out("values of calls in columns that do not belong together")
            return None
        return record

    def _result(self, result: records.Result) -> records.Result | None:
        if result.state not in _ENDS or (result.state is State.SUCCEED and result.pid <= 0):
            self._left_out(f"attempt {result[:3]} cannot have ended as {result.state.name}")
            return None
        if self._is_plain(result):
            return result
        self._left_out(f"the end of attempt {result[:3]} has numbers that cannot be; they are put right")
        return result._replace(
            exit_code=_within(result.exit_code, *ranges.EXIT_CODES),
            pid=_within(result.pid, -1, ranges.MOST_PID),
            scheduled_s=_time(result.scheduled_s),
            started_s=_time(result.started_s),
            ended_s=_time(result.ended_s),
            cpu_s=result.cpu_s if 0 <= result.cpu_s <= ranges.MOST else 0.0,
            max_rss_kib=_within(result.max_rss_kib, 0, ranges.MOST),
            shares=result.shares if self._is_place(result.shares) else (),
        )

    def _is_plain(self, result: records.Result) -> bool:
        """NaN is in no range."""
        return (
            ranges.EXIT_CODES[0] <= result.exit_code <= ranges.EXIT_CODES[1]
            and -1 <= result.pid <= ranges.MOST_PID
            and 0 <= result.scheduled_s <= ranges.LATEST_S
            and 0 <= result.started_s <= ranges.LATEST_S
            and 0 <= result.ended_s <= ranges.LATEST_S
            and 0 <= result.cpu_s <= ranges.MOST
            and 0 <= result.max_rss_kib <= ranges.MOST
            and self._is_place(result.shares)
        )

    def _is_place(self, shares: tuple[records.PlacedShare, ...]) -> bool:
        if shares in self._places:
            return True
        specs = self._scheduler.nodes.specs
        for share in shares:
            if not 0 <= share.node < len(specs):
                return False
            spec = specs[share.node]
            if not _is_mask(share.cores, len(spec.core_ids)) or not _is_mask(share.gpus, len(spec.gpu_ids)):
                return False
            if not all(map(_is_part, share.named)):
                return False
        self._places.add(shares)
        return True

    def _canceled(self, record: records.Canceled) -> records.Record | None:
        job = self._scheduler.jobs.by_no(record.job_no)
        if job is None or not (record.pos is None or 0 <= record.pos < job.spec.task_count):
            self._left_out(f"there is no position {record.pos} of a job {record.job_no} that can have been cancelled")
            return None
        return msgspec.structs.replace(record, time_s=_time(record.time_s))

    def _removed(self, record: records.Removed) -> records.Record:
        numbers = dict.fromkeys(record.job_nos)
        return records.Removed([number for number in numbers if self._can_be_removed(number)])

    def _can_be_removed(self, number: JobNo) -> bool:
        job = self._scheduler.jobs.by_no(number)
        if job is None or not job.state.final:
            self._left_out(f"job {number} is not one that can have been removed")
            return False
        return True

    # --- nodes ----------------------------------------------------------------------------------------------------------

    def _joined(self, record: records.NodeJoined) -> records.Record | None:
        nodes = self._scheduler.nodes
        if any(nodes.specs[node].name == record.spec.name for node in nodes.here):
            self._left_out(f"node {record.spec.name} has joined before")
            return None
        if record.spec.mem_bytes < 0:
            self._left_out(f"node {record.spec.name} cannot have {record.spec.mem_bytes} bytes of memory")
            record = records.NodeJoined(replace(record.spec, mem_bytes=0))
        if record.spec.ends_s is not None and not 0 < record.spec.ends_s <= ranges.LATEST_S:
            self._left_out(f"node {record.spec.name} cannot end at {record.spec.ends_s}")
            record = records.NodeJoined(replace(record.spec, ends_s=None))
        if not all(resource.is_possible for resource in record.spec.named):
            self._left_out(f"node {record.spec.name} cannot have such resources")
            record = records.NodeJoined(replace(record.spec, named=()))
        return record

    def _left(self, record: records.NodeLeft) -> records.Record | None:
        if not self._is_node(record.node):
            return None
        if self._scheduler.nodes[record.node].state is NodeState.LEFT:
            return None  # once is enough
        return msgspec.structs.replace(record, time_s=_time(record.time_s))

    def _agent(self, record: records.AgentUp) -> records.Record | None:
        if not self._is_node(record.node):
            return None
        if not 0 < record.pid <= ranges.MOST_PID:
            self._left_out(f"process {record.pid} cannot be the agent of node {record.node}")
            return None
        count = len(self._scheduler.nodes.specs[record.node].core_ids)
        if record.core_ids and not len(set(record.core_ids)) == len(record.core_ids) == count:
            self._left_out(f"node {record.node} cannot have these cores")
            return msgspec.structs.replace(record, core_ids=[])
        return record

    def _is_node(self, node: NodeNo) -> bool:
        if 0 <= node < len(self._scheduler.nodes.specs):
            return True
        self._left_out(f"there is no node {node}")
        return False


def _all_within(column: Sequence[float], least: float, most: float) -> bool:
    """NaN is in no range, and makes the sum one."""
    return min(column) >= least and max(column) <= most and not math.isnan(sum(column))


def _time(time_s: float) -> float:
    return time_s if math.isfinite(time_s) and 0 <= time_s <= ranges.LATEST_S else 0.0


def _within(number: int, least: int, most: int) -> int:
    return min(max(number, least), most)


def _is_part(part: records.PlacedPart) -> bool:
    """Of a resource that this pilot need not have any more: another allocation has others."""
    numbers = 0 <= part.amount <= ranges.MOST and 0 <= part.parts < PARTS
    return numbers and (part.name == GPU or is_resource_name(part.name)) and _is_mask(part.slots, MOST_IDS)


def _is_mask(text: str, bits: int) -> bool:
    try:
        return 0 <= int(text, 16) < 1 << bits
    except ValueError:
        return False
