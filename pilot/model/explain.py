"""Why a task is not running: the first thing users ask, answered from the same facts the scheduler decides by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .capacity import why_none
from .ids import NodeNo
from .job_spec import Need, Placement, Want
from .jobs import Job, Pending
from .queue import pending_of
from .resources import APART, bits, fraction
from .scheduler import Scheduler
from .shortage import amount, wanted
from .states import State
from .stock import Stock, Stocks

_MIB = 1 << 20
_WHOLE = {Placement.SOCKET: "whole sockets", Placement.NUMA: "whole NUMA domains"}


def why_not_running(scheduler: Scheduler, job: Job, pos: int | None, now: float) -> list[str]:
    """Reasons in plain words, the first to be removed in front; for a whole job (`pos` None) those of its first queued task.

    `now` in seconds since the epoch. Never empty: of a task that runs or has ended it says so.
    """
    if job.state.final:
        return [f"it has ended: {job.state.name}"]
    if not job.is_iteration:
        pos = 0
    elif pos is None:
        queued = job.tasks.first_queued()
        if queued is None:
            return ["all its tasks have been started"]
        pos = queued
    state = job.tasks.state(pos)
    if state.final:
        return [f"it has ended: {state.name}"]
    if state is not State.QUEUED:
        return [_sent(scheduler, job, pos, now)]
    resting_s = scheduler.resting.get((job.no, pos), now) - now
    if resting_s > 0:
        return [f"it has failed {job.failures_of(pos)} times and starts again in {resting_s:.0f} s, as its rule says"]
    return _dependencies(scheduler, job, pos) or why_waiting(scheduler, pending_of(job, pos), now)


def _sent(scheduler: Scheduler, job: Job, pos: int, now: float) -> str:
    attempt = scheduler.attempt_of(job, pos)
    assert attempt is not None
    node = scheduler.nodes.specs[attempt.node].name
    if job.tasks.state(pos) is State.EXECUTING:
        return f"it has been running on {node} for {now - attempt.started_s:.0f} s"
    return f"it was sent to {node} and starts there when one of the tasks before it ends"


def _dependencies(scheduler: Scheduler, job: Job, pos: int) -> list[str]:
    """What it waits for, with the state of each."""
    reasons = []
    for dependency in job.spec.after:
        target = scheduler.jobs.find(dependency.job)
        if target is None:
            continue
        index = job.spec.index_of(pos) if dependency.same_index else dependency.index
        at = None if index is None else target.pos_of(index)
        state = target.state if at is None else target.tasks.state(at)
        if not state.final:
            name = target.spec.name if at is None else target.spec.task_name(at)
            reasons.append(f"it waits for {name}, which is {state.name}")
    return reasons


def why_waiting(scheduler: Scheduler, pending: Pending, now: float) -> list[str]:
    """Why this work, which waits for nothing but resources, does not start."""
    nodes, dispatch = scheduler.nodes, scheduler.dispatch
    never = why_none(nodes, [entry.shape.need for entry in pending.entries])
    if never is not None:
        return [f"it can never start on this pilot: {never}"]
    if not nodes.usable:
        return ["no agent is ready yet", *_trouble(scheduler)]
    if not dispatch.in_time(pending.shape, now):
        assert dispatch.ends_s is not None
        left_s = dispatch.ends_s - dispatch.margin_s - now
        return [f"{_takes(pending)}, and {max(0.0, left_s):.0f} s are left for tasks in this allocation"]
    over = dispatch.is_over_for(pending.shape, now) & nodes.usable
    if over == nodes.usable:
        left_s = max(nodes.times[NodeNo(node)] or now for node in bits(over)) - now
        return [f"{_takes(pending)}, and the node that stays longest has {max(0.0, left_s):.0f} s left for tasks"]
    needs = [entry.shape.need for entry in pending.entries]
    unmet = ["; ".join(_unmet(scheduler, need)) or "that is free" for need in needs]
    texts = [f"{needed(need)}; {reasons}" for need, reasons in zip(needs, unmet, strict=True)]
    reasons = [f"it needs {' - or '.join(texts)}"]
    reserved = dispatch.reserved
    if reserved is pending:
        reasons.append(f"held for it: {_held(scheduler)}")
    elif reserved is not None and reserved.key < pending.key:
        reasons.append(f"held for {reserved.job.spec.name}, which comes first: {_held(scheduler)}")
    elif pending.blocked_since is not None:
        waited_s = dispatch.uptime(now) - pending.blocked_since
        reasons.append(f"later work has been passing it for {waited_s:.0f} s")
    head = pending.shape.head()
    if head is not None and head.key < pending.key:
        reasons.append(f"{head.job.spec.name} needs the same and comes first")
    return reasons


def _takes(pending: Pending) -> str:
    resources = pending.job.spec.resources
    if resources.min_time_s is not None:
        return f"it needs {resources.min_time_s:.0f} s to be of use"
    return f"it may take {resources.wt_s or 0.0:.0f} s"


def _trouble(scheduler: Scheduler) -> list[str]:
    """Why agents could not be started, where that is known: each reason once, with the first node that has it."""
    first: dict[str, str] = {}
    for node in scheduler.nodes:
        if node.reason:
            first.setdefault(node.reason, scheduler.nodes.specs[node.number].name)
    return [f"node {name} has no agent: {reason}" for reason, name in first.items()]


def _held(scheduler: Scheduler) -> str:
    dispatch = scheduler.dispatch
    nodes = [scheduler.nodes.specs[node].name for node in bits(dispatch.held)]
    return ", ".join([*sorted(dispatch.held_of_pool), *nodes])


def needed(need: Need) -> str:
    """A need in words: `4 cores, 1 GPU, on 1 node`."""
    parts = ["all cores" if need.cores is None else _count(need.cores.min, "core")]
    parts += [_count(need.gpus, "GPU")] if need.gpus else []
    parts += [f"{need.mem_bytes / _MIB:.0f} MiB of memory"] if need.mem_bytes else []
    if need.nodes is not None:
        parts.append(f"on {'each of ' * (need.nodes.min != 1)}{_count(need.nodes.min, 'node')}")
    parts += [f"tagged {', '.join(need.tags)}"] if need.tags else []
    parts += map(wanted, need.named)
    parts += ["alone on its node"] if need.placement is Placement.EXCLUSIVE else []
    parts += [f"of {_WHOLE[need.placement]}"] if need.placement in _WHOLE else []
    return ", ".join(parts)


def _unmet(scheduler: Scheduler, need: Need) -> list[str]:
    """What of a need is not free now, each with the most that is free and the most there is, on a node and in all."""
    nodes = scheduler.nodes
    usable = [NodeNo(node) for node in bits(nodes.usable & (nodes.with_tags(need.tags) if need.tags else -1))]
    if not usable:
        return [f"no node tagged {', '.join(need.tags)} is ready"]
    count = 1 if need.nodes is None else need.nodes.min
    anywhere = need.nodes is None and not nodes.is_per_node(need)
    parts, fitting = _unmet_of_pool(nodes.stocks, need), set(usable)
    for least, unit, free, whole in _amounts(scheduler, need, usable):
        able = {node for node, there in zip(usable, free, strict=True) if there >= least}
        fitting &= able
        if sum(free) < least if anywhere else len(able) < count:
            parts.append(_most(unit, free, whole))
    for want in nodes.stocks.of_node(need):
        able = {node for node in usable if nodes.stocks.node_fits(node, (want,))}
        fitting &= able
        if len(able) < count:
            parts.append(_no_more_of(want, [nodes.stocks.get(node, want.name) for node in usable]))
    if need.cores is None or need.placement is Placement.EXCLUSIVE:
        idle = {node for node in usable if nodes.free_cores[node] == nodes.all_cores[node]}
        fitting &= idle
        if len(idle) < count:
            parts.append(f"only {len(idle)} of {_count(len(usable), 'node')} {'is' if len(idle) == 1 else 'are'} idle")
    if need.placement in _WHOLE:
        able = {node for node in usable if nodes.whole_is_free(node, need)}
        fitting &= able
        if len(able) < count and not parts:
            parts.append(f"no node has {_WHOLE[need.placement]} with as many cores free")
    if not parts and not anywhere and len(fitting) < count:
        parts.append("each of these is free, but not together on a node")
    return parts


def _unmet_of_pool(stocks: Stocks, need: Need) -> list[str]:
    missing = [want for want in stocks.of_pool(need) if not stocks.pool[want.name].fits(want)]
    return [
        f"not enough {want.name} is free in the pilot as a whole: {amount(stock.free, stock.resource)} of "
        f"{amount(stock.resource.total, stock.resource)}"
        for want in missing
        for stock in (stocks.pool[want.name],)
    ]


def _no_more_of(want: Want, stocks: Sequence[Stock | None]) -> str:
    """Why a named resource of nodes is not free on enough of them; None: a node has no such thing."""
    if want.name.startswith(APART):
        return "each node has a task from which it is to be apart"
    there = [stock for stock in stocks if stock is not None]
    if not there:
        return f"no node that is ready has {want.name}"
    if want.parts:
        return f"no {want.name} has {fraction(want.parts)} of it free"
    most = max(there, key=lambda stock: stock.free)
    whole = max(there, key=lambda stock: stock.resource.total).resource
    in_all = f"{amount(sum(stock.free for stock in there), whole)} of {amount(sum(_totals(there)), whole)} in all"
    on_one = f"at most {amount(most.free, whole)} on one node (the largest has {amount(whole.total, whole)})"
    return f"not enough {want.name} is free: {on_one}, {in_all}"


def _totals(stocks: Iterable[Stock]) -> Iterator[int]:
    return (stock.resource.total for stock in stocks)


def _amounts(
    scheduler: Scheduler, need: Need, usable: Sequence[NodeNo]
) -> Iterator[tuple[int, str, list[int], list[int]]]:
    """(how much of it, of what, how much of it is free on each node, how much of it each has)."""
    nodes = scheduler.nodes
    if need.cores is not None:
        free = [nodes.free_cores[node].bit_count() for node in usable]
        yield need.cores.min, "cores", free, [nodes.all_cores[node].bit_count() for node in usable]
    if need.gpus:
        free = [nodes.stocks.gpus[node].free for node in usable]
        yield need.gpus, "GPUs", free, [len(nodes.specs[node].gpu_ids) for node in usable]
    counted = [node for node in usable if nodes.specs[node].mem_bytes]
    if need.mem_bytes and len(counted) == len(usable):  # on one whose memory is not known every need fits
        yield need.mem_bytes, "memory", [nodes.free_mem[n] for n in usable], [nodes.specs[n].mem_bytes for n in usable]


def _most(unit: str, free: Sequence[int], whole: Sequence[int]) -> str:
    def shown(amount: int) -> str:
        return f"{amount / _MIB:.0f} MiB" if unit == "memory" else str(amount)

    there = f"at most {shown(max(free))} on one node (the largest has {shown(max(whole))})"
    verb = "is" if unit == "memory" else "are"
    return f"not enough {unit} {verb} free: {there}, {shown(sum(free))} of {shown(sum(whole))} in all"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
