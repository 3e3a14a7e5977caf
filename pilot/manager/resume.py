"""Going on after a manager has ended or was killed: the journal through the core again, in the order it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from ..model.errors import JournalError, RefusedError
from ..model.ids import JobNo, NodeNo, TaskKey
from ..model.registry import Job
from ..model.scheduler import Scheduler
from ..model.turn import Change
from ..wire import records
from ..wire.journal import HEADER
from .auxdir import AuxDir


@dataclass(slots=True)
class Replayed:
    """What else the journal told: of each node the agents that may live, by their ids, and how many records there were.

    At most one of them has reported; the others, if any, came after it.
    """

    agents: dict[NodeNo, dict[str, records.AgentExpected | records.AgentUp]] = field(default_factory=dict)
    reported: dict[NodeNo, str] = field(default_factory=dict)
    """The last agent of each node that has reported, gone or not: what it ran may still be there."""
    records: int = 0


def check_not_emptied(aux: AuxDir) -> None:
    """A pilot tells where it is only when its journal has begun: one without a beginning has been emptied since.

    Raises JournalError.
    """
    with suppress(FileNotFoundError):
        if aux.connection.exists() and aux.journal.stat().st_size < len(HEADER):
            raise JournalError(
                "the journal is empty: what was in it is lost",
                where=str(aux.journal),
                remedy="restore it from a copy, or start a new pilot without --resume",
            )


def replay(
    journal: Iterable[records.Record],
    scheduler: Scheduler,
    tell: Callable[[list[Change]], None],
    told: Callable[[int], None],
) -> Replayed:
    """Bring a fresh scheduler to where the journal ends.

    `tell` gets the changes, for the report; `told` how many bytes of an older report have them all so far, and more.
    """
    found = Replayed()
    for record in journal:
        found.records += 1
        if isinstance(record, records.Compacted):
            scheduler.jobs.next_no = record.next_no
            if record.report_bytes is not None:
                told(record.report_bytes)
            continue
        _apply(record, scheduler, found)
        changes = scheduler.take_turn().changes
        if changes:
            tell(changes)
    return found


def _apply(record: records.Record, scheduler: Scheduler, found: Replayed) -> None:
    if isinstance(record, records.AgentUp):
        found.agents[record.node] = {record.agent_id: record}
        found.reported[record.node] = record.agent_id
        if record.core_ids:
            scheduler.nodes.name_cores(record.node, record.core_ids)
    elif isinstance(record, records.AgentExpected):
        found.agents.setdefault(record.node, {})[record.agent_id] = record
    elif isinstance(record, records.AgentDown):
        found.agents.get(record.node, {}).pop(record.agent_id, None)
    elif isinstance(record, records.Closed):
        found.reported.clear()  # an orderly end leaves nothing running
    elif isinstance(record, records.NodeJoined):
        scheduler.on_node_joined(record.spec)
    elif isinstance(record, records.NodeLeft):
        scheduler.on_node_left(record.node, record.time_s)
    else:
        _apply_to_jobs(record, scheduler)


def _apply_to_jobs(record: records.Record, scheduler: Scheduler) -> None:
    if isinstance(record, records.Submitted):
        scheduler.replay_submitted(record.jobs, record.time_s, record.numbers)
    elif isinstance(record, records.Sent):
        for key in record.tasks:
            scheduler.replay_sent(record.node, TaskKey(*key), record.time_s)
    elif isinstance(record, records.Ended):
        for result in record.results:
            scheduler.replay_result(result)
    elif isinstance(record, records.Taken):
        for key in record.tasks:
            scheduler.replay_taken(TaskKey(*key))
    elif isinstance(record, records.Canceled):
        _cancel(record, scheduler)
    elif isinstance(record, records.Removed):
        for number in record.job_nos:
            scheduler.remove(_job(scheduler, number))


def _cancel(record: records.Canceled, scheduler: Scheduler) -> None:
    job = _job(scheduler, record.job_no)
    try:
        if record.pos is None:
            scheduler.cancel(job, record.time_s)
        else:
            scheduler.cancel_task(job, record.pos, record.time_s)
    except RefusedError:
        pass  # cancelled twice while it was being stopped: both were accepted, one is enough


def _job(scheduler: Scheduler, number: JobNo) -> Job:
    return cast(Job, scheduler.jobs.by_no(number))
