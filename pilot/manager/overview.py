"""The `overview` request: what a pilot does now, gathered in slices and answered in one reply of bounded size.

What is counted at the beginning may have changed by the end; each entry was true when its slice came. Attempts and grants are
looked through once, whatever their number, which takes a twentieth of a second for a hundred thousand of them.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from typing import TypeVar

from ..model.attempts import Attempt
from ..model.explain import needed, why_waiting
from ..model.ids import NodeNo
from ..model.jobs import Entry, Shape
from ..model.running import running, unreported
from ..model.scheduler import Scheduler
from ..model.states import NodeState, State
from ..model.steps import Pause, Steps
from ..model.stock import Stock
from ..wire import overview as wire
from .parts import Parts

T = TypeVar("T")

_SLICE = 2000
_MOST_COUNTED = 20_000
"""Jobs of one shape of which it is counted how many tasks wait."""
_MIB = 1 << 20


def overview(parts: Parts, limit: int, match: str) -> Steps[wire.Overview]:
    """`limit`: entries of each list, at most; `match`: of running tasks and of nodes only those with this in their names."""
    scheduler, now = parts.scheduler, parts.now()
    oldest, matching, running_at = yield from _running(scheduler, limit, match)
    listed = [_entry(parts, attempt) for attempt in oldest if attempt.key in scheduler.dispatch.attempts]
    nodes = _Nodes()
    yield from nodes.count(scheduler, running_at, limit, match)
    queue, depending, shape_count = yield from _queue(scheduler, limit, now)
    failures = list(islice(parts.recent.failures, limit))
    parts.recent.last_lines.look(failures, now)
    ready = scheduler.nodes.usable_count
    return wire.Overview(
        wire.VERSION,
        _pilot(parts, now),
        _tasks(parts),
        nodes.cores,
        nodes.gpus,
        nodes.mem_mib,
        scheduler.nodes.count,
        ready,
        nodes.listed,
        matching,
        listed,
        shape_count,
        depending,
        queue,
        failures,
        list(parts.recent.lines)[-limit:] if limit else [],
        _named(scheduler.nodes.named()),
    )


def _pilot(parts: Parts, now: float) -> wire.Pilot:
    return wire.Pilot(
        parts.aux.instance_id,
        socket.gethostname(),
        str(parts.settings.wd),
        now,
        parts.status.started_s,
        parts.scheduler.dispatch.ends_s,
        parts.status.problem,
        parts.status.warnings,
    )


def _tasks(parts: Parts) -> wire.Tasks:
    counts, rate = parts.scheduler.jobs.tasks_in, parts.recent.rate
    hidden = unreported(parts.scheduler)
    queued, sent = counts[State.QUEUED], counts[State.SCHEDULED] - hidden
    left = queued + sent + counts[State.EXECUTING] + hidden
    return wire.Tasks(
        sum(counts),
        queued,
        sent,
        running(parts.scheduler),
        counts[State.SUCCEED],
        counts[State.FAILED],
        counts[State.CANCELED],
        counts[State.OMITTED],
        rate.per_s,
        rate.left_s(left) if left else None,
    )


# --- running ------------------------------------------------------------------------------------------------------------


def _running(scheduler: Scheduler, limit: int, match: str) -> Steps[tuple[list[Attempt], int, Counter[NodeNo]]]:
    """The oldest of those that run, how many match, and how many run on each node."""
    oldest: list[Attempt] = []
    matching = 0
    running_at: Counter[NodeNo] = Counter()
    sent_at: Counter[NodeNo] = Counter()
    for attempts in _portions(list(scheduler.dispatch.attempts.values())):
        started = [attempt for attempt in attempts if attempt.started_s]
        running_at.update(attempt.node for attempt in started)
        sent_at.update(attempt.node for attempt in attempts if not attempt.started_s)
        if match:
            started = [attempt for attempt in started if match in _name(scheduler, attempt)]
        matching += len(started)
        oldest = nsmallest(limit, [*oldest, *started], key=lambda attempt: attempt.started_s)
        yield Pause.MORE
    if unreported(scheduler):
        granted_at: Counter[NodeNo] = Counter()
        for grants in _portions(list(scheduler.dispatch.grants.values())):
            granted_at.update(grant.shares[0].node for grant in grants)
            yield Pause.MORE
        for node, sent in sent_at.items():
            running_at[node] += max(0, min(sent, granted_at[node] - running_at[node]))
    return oldest, matching, running_at


def _name(scheduler: Scheduler, attempt: Attempt) -> str:
    """What a filter looks in."""
    return f"{attempt.job.spec.task_name(attempt.key.pos)} {scheduler.nodes.specs[attempt.node].name}"


def _entry(parts: Parts, attempt: Attempt) -> wire.Running:
    job, pos, shares = attempt.job, attempt.key.pos, attempt.record().shares
    cores = sum(int(share.cores, 16).bit_count() for share in shares)
    files = parts.views.files(job, pos, shares) if shares else ("", "")
    node = parts.scheduler.nodes.specs[attempt.node].name
    return wire.Running(job.spec.task_name(pos), node, attempt.started_s, cores, job.attempts(pos), *files)


def _portions(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + _SLICE] for start in range(0, len(items), _SLICE))


# --- nodes --------------------------------------------------------------------------------------------------------------


class _Nodes:
    """The sums over all nodes, and the entries of some."""

    def __init__(self) -> None:
        self.cores, self.gpus, self.mem_mib = wire.Amount(0, 0), wire.Amount(0, 0), wire.Amount(0, 0)
        self.listed: list[wire.Node] = []

    def count(self, scheduler: Scheduler, running_at: Counter[NodeNo], limit: int, match: str) -> Steps[None]:
        nodes = scheduler.nodes
        here = sorted(nodes.here, key=lambda node: nodes[node].state is NodeState.READY)
        for portion in _portions(here):
            for number in portion:
                entry = _node(scheduler, number, running_at[number])
                for amount, of_node in (
                    (self.cores, entry.cores),
                    (self.gpus, entry.gpus),
                    (self.mem_mib, entry.mem_mib),
                ):
                    amount.used += of_node.used
                    amount.total += of_node.total
                if len(self.listed) < limit and match in entry.name:
                    self.listed.append(entry)
            yield Pause.MORE


def _node(scheduler: Scheduler, number: NodeNo, running_there: int) -> wire.Node:
    nodes = scheduler.nodes
    spec, record = nodes.specs[number], nodes[number]
    cores, gpus = nodes.all_cores[number].bit_count(), len(spec.gpu_ids)
    return wire.Node(
        spec.name,
        record.state.name,
        running_there,
        wire.Amount(cores - nodes.free_cores[number].bit_count(), cores),
        wire.Amount(gpus - nodes.stocks.gpus[number].free, gpus),
        wire.Amount((spec.mem_bytes - nodes.free_mem[number]) // _MIB if spec.mem_bytes else 0, spec.mem_bytes // _MIB),
        record.reason,
        _named(nodes.stocks.named(number)),
    )


def _named(stocks: Iterable[Stock]) -> dict[str, wire.Amount]:
    """A thing that is shared counts as used."""
    amounts: dict[str, wire.Amount] = {}
    for stock in stocks:
        total, in_bytes = stock.resource.total, stock.resource.in_bytes
        amount = amounts.setdefault(stock.resource.name, wire.Amount(0, 0, in_bytes))
        amount.used += total - stock.free
        amount.total += total
    return amounts


# --- the queue ----------------------------------------------------------------------------------------------------------


def _queue(scheduler: Scheduler, limit: int, now: float) -> Steps[tuple[list[wire.Waiting], int, int]]:
    """What waits by shape, in the order in which it is looked at; how many tasks wait for other jobs, and how many shapes."""
    heads = nsmallest(limit, scheduler.queue.heads())
    shape_count = sum(shape.head() is not None for shape in scheduler.queue)
    entries = []
    in_shapes, all_counted = 0, len(heads) == shape_count
    for _, _, pending in heads:
        jobs, tasks, more = yield from _count(pending.shape)
        in_shapes, all_counted = in_shapes + tasks, all_counted and not more
        if tasks:  # else it waits in another shape first
            entries.append(_waiting(scheduler, pending, jobs, tasks, more, now))
    queued = scheduler.jobs.tasks_in[State.QUEUED]
    return entries, max(0, queued - in_shapes) if all_counted else 0, shape_count


def _count(shape: Shape) -> Steps[tuple[int, int, bool]]:
    """How many jobs and tasks wait in this shape, and whether there are more jobs than are counted."""
    listed, more = shape.first(_MOST_COUNTED)
    jobs = tasks = 0
    for portion in _portions(listed):
        jobs += sum(pending.live > 0 for pending in portion)
        tasks += sum(pending.live for pending in portion)
        yield Pause.MORE
    return jobs, tasks, more


def _waiting(scheduler: Scheduler, pending: Entry, jobs: int, tasks: int, more: bool, now: float) -> wire.Waiting:
    limit_s = pending.job.spec.resources.wt_s
    need = needed(pending.shape.need)
    pos = pending.job.tasks.first_queued() if pending.job.is_iteration else None
    first = pending.job.spec.name if pos is None else pending.job.spec.task_name(pos)
    reasons = why_waiting(scheduler, pending.primary, now) if pending.live else ["it is being started"]
    reasons[0] = reasons[0].removeprefix(f"it needs {need}; ")
    needs = f"{need}, {limit_s:.0f} s" if limit_s else need
    return wire.Waiting(needs, jobs, tasks, first, reasons, more)
