"""Why a task is not running: the first thing users ask, answered from the same facts the scheduler decides by."""

from __future__ import annotations

from .job_spec import Need
from .jobs import Job, pending_of
from .resources import bits
from .scheduler import Scheduler
from .states import State


def why_not_running(scheduler: Scheduler, job: Job, pos: int | None, now: float) -> list[str]:
    """Reasons in plain words, the first to be removed in front; for a whole job (`pos` None) those of its first queued task.

    `now` in seconds since the epoch. Never empty: of a task that runs or has ended it says so.
    """
    if job.state.final:
        return [f"it has ended: {job.state.name}"]
    if not job.is_iteration:
        pos = 0
    elif pos is None:
        queued = next((at for at in range(job.spec.task_count) if job.tasks.state(at) is State.QUEUED), None)
        if queued is None:
            return ["all its tasks have been started"]
        pos = queued
    state = job.tasks.state(pos)
    if state.final:
        return [f"it has ended: {state.name}"]
    if state is not State.QUEUED:
        return [_sent(scheduler, job, pos, now)]
    return _dependencies(scheduler, job, pos) or _resources(scheduler, job, pos, now)


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


def _resources(scheduler: Scheduler, job: Job, pos: int, now: float) -> list[str]:
    nodes, dispatch = scheduler.nodes, scheduler.dispatch
    pending = pending_of(job.pendings, pos)
    need = pending.shape.need
    never = nodes.why_never(need)
    if never is not None:
        return [f"it can never start on this pilot: {never}"]
    if not nodes.usable:
        return ["no agent is ready yet", *_trouble(scheduler)]
    if not dispatch.in_time(pending.shape, now):
        assert dispatch.ends_s is not None
        left_s = dispatch.ends_s - dispatch.margin_s - now
        wt_s = job.spec.resources.wt_s or 0.0
        return [f"it may take {wt_s:.0f} s, and {max(0.0, left_s):.0f} s are left for tasks in this allocation"]
    reasons = [f"it needs {_needed(need)}; {_free(scheduler, need)}"]
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


def _trouble(scheduler: Scheduler) -> list[str]:
    """Why agents could not be started, where that is known: each reason once, with the first node that has it."""
    first: dict[str, str] = {}
    for node in scheduler.nodes:
        if node.reason:
            first.setdefault(node.reason, scheduler.nodes.specs[node.number].name)
    return [f"node {name} has no agent: {reason}" for reason, name in first.items()]


def _held(scheduler: Scheduler) -> str:
    return ", ".join(scheduler.nodes.specs[node].name for node in bits(scheduler.dispatch.held))


def _needed(need: Need) -> str:
    parts = ["all cores" if need.cores is None else _count(need.cores.min, "core")]
    parts += [_count(need.gpus, "GPU")] if need.gpus else []
    parts += [f"{need.mem_bytes / 2**20:.0f} MiB of memory"] if need.mem_bytes else []
    if need.nodes is not None:
        parts.append(f"on {'each of ' * (need.nodes.min != 1)}{_count(need.nodes.min, 'node')}")
    return ", ".join(parts)


def _free(scheduler: Scheduler, need: Need) -> str:
    """How much of what is needed is free now."""
    nodes = scheduler.nodes
    usable = list(bits(nodes.usable))
    cores = max(nodes.free_cores[node].bit_count() for node in usable)
    parts = [f"free: {_count(nodes.free_count, 'core')} on {_count(len(usable), 'node')}, at most {cores} on one"]
    if need.gpus:
        parts.append(f"at most {_count(max(nodes.free_gpus[node].bit_count() for node in usable), 'GPU')} on one")
    if need.mem_bytes:
        parts.append(f"at most {max(nodes.free_mem[node] for node in usable) / 2**20:.0f} MiB on one")
    return ", ".join(parts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
