"""Jobs of fyrd that wait for others: refused where the other has failed or is in another queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn, Protocol

from ...job.spec import Needed
from ...submission.job_options import ClusterError
from ...submission.queues import BAD
from ...submission.single import SingleJob
from .local_pilot import LocalJob


class Dependency(Protocol):
    """A job that another one waits for."""

    name: str

    @property
    def id(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def done(self) -> bool: ...
    @property
    def submitted(self) -> bool: ...
    @property
    def place(self) -> SingleJob | LocalJob | None: ...
    def update(self) -> object: ...


def unfinished(
    depends: Iterable[Dependency | str | int], own: Mapping[str, Dependency] | None, name: str
) -> list[Dependency | str]:
    """Of the jobs that `name` depends on those that have not ended well yet. Raises ClusterError for one that never will.

    `own`: jobs of the same pilot, by id; None for a batch job, whose batch system knows ids.
    """
    found: list[Dependency | str] = []
    for each in depends:
        known = each if own is None else _of_pilot(each, own, name)
        if isinstance(known, str | int):
            found.append(str(known))
            continue
        if known.submitted:
            known.update()
        if known.state in BAD or known.id is None:
            _refuse_to_wait_for(known.name, known.state, name)
        if not known.done:
            found.append(known)
    return found


def _of_pilot(each: Dependency | str | int, own: Mapping[str, Dependency], name: str) -> Dependency:
    if isinstance(each, str | int):
        if str(each) not in own:
            _refuse_to_wait_for(f"job {each}", "unknown", name)
        return own[str(each)]
    if each.submitted:
        each.update()
        if not each.done and own.get(str(each.id)) is not each:
            _refuse_other_queue(each.name, name)
    return each


def needed(place: SingleJob, waits_for: Sequence[Dependency | str], name: str) -> tuple[Needed, ...]:
    """What must have ended well before it starts. Raises ClusterError for what has not, or is elsewhere."""
    found = []
    for each in waits_for:
        if isinstance(each, str):
            continue
        if not isinstance(each.place, SingleJob) or not each.place.is_beside(place):
            _refuse_other_queue(each.name, name)
        found.append(each.place.needed)
    by_id = place.known([each for each in waits_for if isinstance(each, str)])
    known = place.outcomes(by_id)
    for need in by_id:
        if not known.get(need, True):
            _refuse_to_wait_for(f"job {need.id}", "failed", name)
        if need not in known:
            found.append(need)
    return tuple(found)


def _refuse_other_queue(other: str, name: str) -> NoReturn:
    what = f"depends on {other}, which is in another queue"
    raise ClusterError(what, where=name, remedy="wait() for that one, then submit")


def _refuse_to_wait_for(other: str, state: str, name: str) -> NoReturn:
    what = f"depends on {other}, which is {state}"
    raise ClusterError(what, where=name, remedy="submit that first, or leave it out of `depends`")
