"""Who waits for whom, and what an ending means for those who wait."""

# O(edges): each is looked at once, when its source ends. A job counts what it still waits for: `unmet` for whole jobs and
# single iterations, `unmet_at` by position for "the same index of that job". Nobody looks at dependencies while they are
# not met; the source of an edge finds its dependents when it ends (`Dependents`), and takes one off their count.
#
# A dependency that cannot be met any more makes the dependent OMITTED at once, and that in turn those behind it. So a chain
# never waits for what cannot come.
#
# Rejected: names that are resolved at the time of the end. A name may be free and taken again by then; edges point to jobs.
#
# Example. b waits for `a:*` (same index), both with 0..9: one edge, ten counts of 1. a:3 succeeds: `unmet_at[3]` is 0,
# `Release(b, 3)`. a:4 fails: `Omit(b, 4)`; the other eight go on waiting.

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import add
from typing import NamedTuple

from .errors import InvalidJobError
from .job_spec import Dependency, JobSpec
from .jobs import Dependents, Job
from .large import ByName
from .registry import Entering, Registry
from .states import State
from .steps import SLICE, Pause, Steps


class Release(NamedTuple):
    """The whole-job dependencies of `job` are met (`pos` None), or those of one position are."""

    job: Job
    pos: int | None


class Omit(NamedTuple):
    """`job` (`pos` None) or one position of it can never start, because of `reason`."""

    job: Job
    pos: int | None
    reason: str


Consequence = Release | Omit

_IS_NOT_FINAL = bytes(byte < len(State) and not State(byte).final for byte in range(256))
_HAS_FAILED = re.compile(b"[" + bytes(state for state in State if state.final and state is not State.SUCCEED) + b"]")


# --- before a submit is accepted ----------------------------------------------------------------------------------------


def check(specs: Sequence[JobSpec], registry: Registry, entering: Entering) -> Steps[None]:
    """Refuse dependencies that cannot make sense: iterations that do not exist, and cycles (which need forward references).

    A name that is unknown is not refused: the job is OMITTED, as with QCG-PilotJob. One of another submit that is on its way in
    is waited for, unless that one waits for this (then the name is unknown here, as it will be to whoever reads the journal).
    Raises InvalidJobError.
    """
    fresh: ByName[JobSpec] = ByName()
    for number, spec in enumerate(specs, 1):
        fresh[spec.name] = spec
        if not number % SLICE:
            yield Pause.MORE
    seen = 0
    for number, spec in enumerate(specs):
        if not (number + 1) % (10 * SLICE):  # most may wait for nothing
            yield Pause.MORE
        for place, dependency in enumerate(spec.after):
            target = fresh.get(dependency.job)
            if target is None:
                if registry.entering_with(dependency.job, entering):
                    yield from _wait_for(dependency.job, registry, entering)
                entering.needs[dependency.job] = None
                known = registry.find_settled(dependency.job)
                target = known.spec if known is not None else None
            if target is not None:
                _check_iterations(spec, dependency, target, f"jobs[{number}].dependencies.after[{place}]")
            seen += 1
            if not seen % SLICE:
                yield Pause.MORE
    if seen:
        yield from _check_cycles(fresh)


def _wait_for(name: str, registry: Registry, entering: Entering) -> Steps[None]:
    while (other := registry.entering_with(name, entering)) is not None and not other.waits_on(entering):
        entering.waits_for = other
        yield Pause.WAITING
    entering.waits_for = None


def _check_iterations(spec: JobSpec, dependency: Dependency, target: JobSpec, where: str) -> None:
    iterations = target.iteration
    if dependency.index is None and not dependency.same_index:
        return
    if iterations is None:
        raise InvalidJobError(f'job "{target.name}" has no iterations', where=where, remedy=f'write "{target.name}"')
    if dependency.same_index:
        ours = spec.iteration
        if ours is None:
            raise InvalidJobError("${it} needs a job with iterations", where=where, remedy=f'write "{target.name}"')
        if ours.start < iterations.start or ours.stop > iterations.stop:
            raise InvalidJobError(
                f'iterations {ours.start}..{ours.stop - 1} are not all among those of "{target.name}", '
                f"{iterations.start}..{iterations.stop - 1}",
                where=where,
            )
    elif dependency.index is not None and not iterations.start <= dependency.index < iterations.stop:
        raise InvalidJobError(
            f'job "{target.name}" has no iteration {dependency.index}',
            where=where,
            remedy=f"choose one of {iterations.start}..{iterations.stop - 1}",
        )


def _has_iterations(spec: JobSpec, dependency: Dependency, target: JobSpec) -> bool:
    try:
        _check_iterations(spec, dependency, target, "")
    except InvalidJobError:
        return False
    return True


def _check_cycles(specs: ByName[JobSpec]) -> Steps[None]:
    """Depth-first with an own stack; only jobs of one request can point forward, so only they can form a cycle."""
    done: ByName[None] = ByName()
    steps = 0
    for root in specs:
        steps += 1
        if not steps % SLICE:
            yield Pause.MORE
        if root in done or not specs[root].after:
            continue
        path: dict[str, Iterator[Dependency]] = {root: iter(specs[root].after)}
        while path:
            steps += 1
            if not steps % SLICE:
                yield Pause.MORE
            name, rest = next(reversed(path.items()))
            following = next((d.job for d in rest if d.job in specs and d.job not in done), None)
            if following is None:
                done[name] = None
                del path[name]
            elif following in path:
                names = list(path)
                ring = " -> ".join([*names[names.index(following) :], following])
                raise InvalidJobError(f"jobs wait for each other: {ring}", where="dependencies.after")
            else:
                path[following] = iter(specs[following].after)


# --- accepted jobs ------------------------------------------------------------------------------------------------------


def connect(job: Job, registry: Registry) -> Steps[list[Consequence | Iterator[Consequence]]]:
    """Count what `job` still waits for and enter it with those it waits for. Call once all jobs of a submit are registered.

    Returns Release when there is nothing to wait for, Omit when something it needs can no longer succeed.
    """
    consequences: list[Consequence | Iterator[Consequence]] = []
    job.unmet += 1  # so that it is not released while only a part of what it waits for is counted
    for seen, dependency in enumerate(job.spec.after, 1):
        target = registry.find(dependency.job)
        if target is None:
            return [Omit(job, None, f"dependency {dependency} does not exist")]
        if not _has_iterations(job.spec, dependency, target.spec):  # it was submitted while this was on its way in
            return [Omit(job, None, f"dependency {dependency} does not exist")]
        if dependency.same_index:
            consequences.append(_connect_elements(job, target, dependency))
            continue
        state = target.state if dependency.index is None else target.tasks.state(target.pos_of(dependency.index))
        if state.final and state is not State.SUCCEED:
            return [Omit(job, None, _reason(str(dependency), state))]
        if not state.final:
            job.unmet += 1
            _enter(target, job, dependency)
        if not seen % SLICE:
            yield Pause.MORE
    job.unmet -= 1
    if job.unmet == 0:
        consequences.insert(0, Release(job, None))
    return consequences


def _connect_elements(job: Job, target: Job, dependency: Dependency) -> Iterator[Consequence]:
    """Index by index, all at once: between two slices indices might end. Returns what follows from those that have ended."""
    offset, count = _offset(job, target), job.spec.task_count
    states = target.tasks.states(offset, offset + count)
    waiting = states.translate(_IS_NOT_FINAL)
    job.unmet_at = list(waiting) if job.unmet_at is None else list(map(add, job.unmet_at, waiting))
    if 1 in waiting:
        _enter(target, job, dependency)
    return (
        Omit(job, pos, _reason(target.spec.task_name(pos + offset), State(states[pos])))
        for pos in (match.start() for match in _HAS_FAILED.finditer(states))
    )


def _enter(target: Job, dependent: Job, dependency: Dependency) -> None:
    waiting = target.dependents
    if waiting is None:
        waiting = target.dependents = Dependents()
    if dependency.same_index:
        waiting.same_index.append(dependent)
    elif dependency.index is not None:
        waiting.on_pos.setdefault(target.pos_of(dependency.index), []).append(dependent)
    else:
        waiting.on_job.append(dependent)


def _offset(job: Job, target: Job) -> int:
    """What to add to a position of `job` to get the position of `target` with the same index."""
    ours, theirs = job.spec.iteration, target.spec.iteration
    assert ours is not None
    assert theirs is not None
    return ours.start - theirs.start


def after_task(job: Job, pos: int, state: State) -> Iterator[Consequence]:
    """What the end of one task means for those that wait for this very iteration."""
    waiting = job.dependents
    return iter(()) if waiting is None else _after_position(job, waiting, pos, state)


def after_tasks(job: Job, positions: Iterator[int], state: State) -> Iterator[Consequence]:
    """The same for very many, each looked at only when the iterator gets there; `state` is not SUCCEED.

    Those that wait are those of now: the job may end and let go of them before.
    """
    waiting = job.dependents
    if waiting is None or not (waiting.on_pos or waiting.same_index):
        return iter(())
    return chain.from_iterable(_after_position(job, waiting, pos, state) for pos in positions)


def _after_position(job: Job, waiting: Dependents, pos: int, state: State) -> Iterator[Consequence]:
    for dependent in waiting.on_pos.pop(pos, ()):
        yield from _met_or_not(dependent, job.spec.task_name(pos), state)
    for dependent in waiting.same_index:
        at = pos - _offset(dependent, job)
        if not 0 <= at < dependent.spec.task_count:
            continue
        if state is not State.SUCCEED:
            yield Omit(dependent, at, _reason(job.spec.task_name(pos), state))
            continue
        assert dependent.unmet_at is not None
        dependent.unmet_at[at] -= 1
        if dependent.unmet_at[at] == 0:
            yield Release(dependent, at)


def after_job(job: Job) -> Iterator[Consequence]:
    """What the end of a whole job means for those that wait for it."""
    waiting, job.dependents = job.dependents, None
    for dependent in waiting.on_job if waiting else ():
        yield from _met_or_not(dependent, job.spec.name, job.state)


def _met_or_not(dependent: Job, name: str, state: State) -> Iterator[Consequence]:
    if state is not State.SUCCEED:
        yield Omit(dependent, None, _reason(name, state))
        return
    dependent.unmet -= 1
    if dependent.unmet == 0:
        yield Release(dependent, None)


def _reason(name: str, state: State) -> str:
    return f"dependency {name} ended {state.name}"
