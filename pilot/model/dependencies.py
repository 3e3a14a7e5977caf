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

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .errors import InvalidJobError
from .job_spec import Dependency, JobSpec
from .jobs import Dependents, Job
from .registry import Registry
from .states import State


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


# --- before a submit is accepted ----------------------------------------------------------------------------------------


def check(specs: Sequence[JobSpec], registry: Registry) -> None:
    """Refuse dependencies that cannot make sense: iterations that do not exist, and cycles (which need forward references).

    A name that is unknown is not refused: the job is OMITTED, as with QCG-PilotJob. Raises InvalidJobError.
    """
    fresh = {spec.name: spec for spec in specs}
    for number, spec in enumerate(specs):
        for place, dependency in enumerate(spec.after):
            target = fresh.get(dependency.job)
            if target is None:
                known = registry.find(dependency.job)
                target = known.spec if known is not None else None
            if target is not None:
                _check_iterations(spec, dependency, target, f"jobs[{number}].dependencies.after[{place}]")
    _check_cycles(fresh)


def _check_iterations(spec: JobSpec, dependency: Dependency, target: JobSpec, where: str) -> None:
    theirs = target.iteration
    if dependency.index is None and not dependency.same_index:
        return
    if theirs is None:
        raise InvalidJobError(f'job "{target.name}" has no iterations', where=where, remedy=f'write "{target.name}"')
    if dependency.same_index:
        ours = spec.iteration
        if ours is None:
            raise InvalidJobError("${it} needs a job with iterations", where=where, remedy=f'write "{target.name}"')
        if ours.start < theirs.start or ours.stop > theirs.stop:
            raise InvalidJobError(
                f'iterations {ours.start}..{ours.stop - 1} are not all among those of "{target.name}", '
                f"{theirs.start}..{theirs.stop - 1}",
                where=where,
            )
    elif dependency.index is not None and not theirs.start <= dependency.index < theirs.stop:
        raise InvalidJobError(
            f'job "{target.name}" has no iteration {dependency.index}',
            where=where,
            remedy=f"choose one of {theirs.start}..{theirs.stop - 1}",
        )


def _check_cycles(specs: Mapping[str, JobSpec]) -> None:
    """Depth-first with an own stack; only jobs of one request can point forward, so only they can form a cycle."""
    done: set[str] = set()
    for root in specs:
        if root in done or not specs[root].after:
            continue
        path: dict[str, Iterator[Dependency]] = {root: iter(specs[root].after)}
        while path:
            name, rest = next(reversed(path.items()))
            following = next((d.job for d in rest if d.job in specs and d.job not in done), None)
            if following is None:
                done.add(name)
                del path[name]
            elif following in path:
                names = list(path)
                ring = " -> ".join([*names[names.index(following) :], following])
                raise InvalidJobError(f"jobs wait for each other: {ring}", where="dependencies.after")
            else:
                path[following] = iter(specs[following].after)


# --- accepted jobs ------------------------------------------------------------------------------------------------------


def connect(job: Job, registry: Registry) -> list[Consequence]:
    """Count what `job` still waits for and enter it with those it waits for. Call once all jobs of a submit are registered.

    Returns Release when there is nothing to wait for, Omit when something it needs can no longer succeed.
    """
    found: list[Consequence] = []
    for dependency in job.spec.after:
        target = registry.find(dependency.job)
        if target is None:
            return [Omit(job, None, f"dependency {dependency} does not exist")]
        if dependency.same_index:
            found += _connect_elements(job, target, dependency)
            continue
        state = target.state if dependency.index is None else target.tasks.state(target.pos_of(dependency.index))
        if state.final and state is not State.SUCCEED:
            return [Omit(job, None, _reason(str(dependency), state))]
        if not state.final:
            job.unmet += 1
            _enter(target, job, dependency)
    if job.unmet == 0:
        found.insert(0, Release(job, None))
    return found


def _connect_elements(job: Job, target: Job, dependency: Dependency) -> list[Consequence]:
    if job.unmet_at is None:
        job.unmet_at = [0] * job.spec.task_count
    offset = _offset(job, target)
    found: list[Consequence] = []
    waits = False
    for pos in range(job.spec.task_count):
        state = target.tasks.state(pos + offset)
        if not state.final:
            job.unmet_at[pos] += 1
            waits = True
        elif state is not State.SUCCEED:
            found.append(Omit(job, pos, _reason(target.spec.task_name(pos + offset), state)))
    if waits:
        _enter(target, job, dependency)
    return found


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
    if waiting is None:
        return
    for dependent in waiting.on_pos.pop(pos, ()):
        yield from _met_or_not(dependent, job.spec.task_name(pos), state)
    for dependent in waiting.same_index:
        theirs = pos - _offset(dependent, job)
        if not 0 <= theirs < dependent.spec.task_count:
            continue
        if state is not State.SUCCEED:
            yield Omit(dependent, theirs, _reason(job.spec.task_name(pos), state))
            continue
        assert dependent.unmet_at is not None
        dependent.unmet_at[theirs] -= 1
        if dependent.unmet_at[theirs] == 0:
            yield Release(dependent, theirs)


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
