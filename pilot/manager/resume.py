"""Going on after a manager has ended or was killed: the journal through the core again, in the order it was written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from .. import clock
from ..model.decisions import Changes
from ..model.errors import RefusedError
from ..model.ids import JobNo, NodeNo, TaskKey
from ..model.jobs import Job
from ..model.scheduler import Scheduler
from ..wire import records
from .replay_checks import RecordChecks

log = logging.getLogger(__name__)

_MOST_LOGGED = 20


@dataclass(slots=True)
class Replayed:
    """What else the journal told: of each node the agents that may live, by their ids, how many records there were, and
    what could not be true.

    At most one of them has reported; the others, if any, came after it.
    """

    agents: dict[NodeNo, dict[str, records.AgentExpected | records.AgentUp]] = field(default_factory=dict)
    records: int = 0
    left_out: int = 0
    """How many things in it were left out, or put right; the log has the first of them."""

    def leave_out(self, reason: str) -> None:
        """Something in the present record cannot be."""
        self.left_out += 1
        if self.left_out <= _MOST_LOGGED:
            log.warning("journal.record_not_possible", extra={"record": self.records, "reason": reason})


def replay(
    journal: Iterable[records.Record],
    scheduler: Scheduler,
    tell: Callable[[list[Changes]], None],
    told: Callable[[int], None],
    returned: Callable[[JobNo, int, list[int], list[bytes]], None] = lambda job_no, run, positions, data: None,
) -> Replayed:
    """Bring a fresh scheduler to where the journal ends.

    `tell` gets the changes, for the report; `told` how many bytes of an older report have them all so far, and more;
    `returned` what calls have returned. A record that cannot be costs what it says, never the others.
    """
    found = Replayed()
    checks = RecordChecks(scheduler, found.leave_out)
    for record in journal:
        found.records += 1
        try:
            possible = checks.possible(record)
            if isinstance(possible, records.Returned):
                returned(possible.job_no, possible.run, possible.pos, possible.data)
            elif possible is not None:
                _apply(possible, scheduler, found, told)
            changes = scheduler.take_decisions().changes
            if changes:
                tell(changes)
        except Exception as error:  # what the checks have missed
            found.leave_out(f"{type(record).__name__}: {error!r}")
            scheduler.take_decisions()
    # What was sent to a node in the turn in which it left comes after that in the journal; that it waits again is recorded with
    # the first turn.
    scheduler.recovery.drop_left(clock.now())
    return found


def _apply(record: records.Record, scheduler: Scheduler, found: Replayed, told: Callable[[int], None]) -> None:
    if isinstance(record, records.Compacted):
        scheduler.jobs.next_no = JobNo(max(scheduler.jobs.next_no, record.next_no))
        if record.report_bytes is not None:
            told(record.report_bytes)
    elif isinstance(record, records.AgentUp | records.AgentExpected | records.AgentDown):
        _apply_to_agents(record, scheduler, found)
    elif isinstance(record, records.Closed):
        for node in scheduler.nodes:
            node.agent = ""  # an orderly end leaves nothing running
    elif isinstance(record, records.NodeJoined):
        number = scheduler.on_node_joined(record.spec)
        if record == records.UNKNOWN_NODE:  # it only keeps the numbers of those behind it
            scheduler.on_node_left(number, 0.0)
    elif isinstance(record, records.NodeLeft):
        scheduler.on_node_left(record.node, record.time_s)
    else:
        _apply_to_jobs(record, scheduler)


def _apply_to_agents(
    record: records.AgentUp | records.AgentExpected | records.AgentDown, scheduler: Scheduler, found: Replayed
) -> None:
    if isinstance(record, records.AgentUp):
        found.agents[record.node] = {record.agent_id: record}
        scheduler.on_agent(record.node, record.agent_id)
        if record.core_ids:
            scheduler.nodes.name_cores(record.node, record.core_ids)
    elif isinstance(record, records.AgentExpected):
        found.agents.setdefault(record.node, {})[record.agent_id] = record
    else:
        found.agents.get(record.node, {}).pop(record.agent_id, None)
        if scheduler.nodes[record.node].agent == record.agent_id:
            scheduler.recovery.replay_agent_gone(record.node)


def _apply_to_jobs(record: records.Record, scheduler: Scheduler) -> None:
    if isinstance(record, records.Submitted):
        scheduler.replay_submitted(record.jobs, record.time_s, record.numbers)
    elif isinstance(record, records.Sent):
        _send(record, scheduler)
    elif isinstance(record, records.Succeeded):
        _succeed(record, scheduler)
    elif isinstance(record, records.Ended):
        for result in record.results:
            scheduler.recovery.replay_result(result)
    elif isinstance(record, records.Taken):
        for key in record.tasks:
            scheduler.recovery.replay_taken(TaskKey(*key))
    elif isinstance(record, records.Canceled):
        _cancel(record, scheduler)
    elif isinstance(record, records.Removed):
        for number in record.job_nos:
            scheduler.remove(_job(scheduler, number))


def _send(record: records.Sent, scheduler: Scheduler) -> None:
    if not scheduler.recovery.plain.sent(record.node, record.tasks, record.time_s):
        for key in record.tasks:
            scheduler.recovery.replay_sent(record.node, TaskKey(*key), record.time_s)


def _succeed(record: records.Succeeded, scheduler: Scheduler) -> None:
    if not scheduler.recovery.plain.succeeded(record.results):
        for result in record.results.each():
            scheduler.recovery.replay_result(result)


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
