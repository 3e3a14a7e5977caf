"""Whether jobs can be accepted: their names, what they need, and what they depend on. Nothing but names is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from . import dependencies
from .capacity import why_none
from .errors import JobExistsError, NotEnoughResourcesError
from .iterplan import cores_plan
from .job_spec import JobSpec, Need, Size
from .nodes import Nodes
from .registry import Entering, Registry
from .steps import SLICE, Pause, Steps


class Checked(NamedTuple):
    """Job descriptions that can be accepted."""

    specs: Sequence[JobSpec]
    entering: Entering | None = None
    """Their names, which nobody else can take until they are in, or given up."""


def check(specs: Sequence[JobSpec], jobs: Registry, nodes: Nodes) -> Steps[Checked]:
    """As `Scheduler.check`."""
    entering = Entering()
    jobs.entering.append(entering)
    try:
        yield from _take_names(specs, jobs, entering)
        of_needs: dict[tuple[Need, ...], int] = {}
        for number, spec in enumerate(specs):
            for need, _ in plan_of(spec, nodes):
                of_needs.setdefault((need, *spec.resources.alternatives), number)
            if not (number + 1) % SLICE:
                yield Pause.MORE
        for count, (needs, number) in enumerate(of_needs.items(), 1):
            _check_needs(needs, nodes, specs[number].name, number)
            if not count % SLICE:
                yield Pause.MORE
        yield from dependencies.check(specs, jobs, entering)
    except BaseException:
        jobs.entering.remove(entering)
        raise
    return Checked(specs, entering)


def _take_names(specs: Sequence[JobSpec], jobs: Registry, entering: Entering) -> Steps[None]:
    for number, spec in enumerate(specs):
        while (other := jobs.entering_that_needs(spec.name, entering)) and not other.waits_on(entering):
            entering.waits_for = other  # to which the name is unknown, and in the journal it comes first
            yield Pause.WAITING
        entering.waits_for = None
        taken = spec.name in entering.names or jobs.find(spec.name) is not None
        if taken or jobs.entering_with(spec.name, entering):
            remedy = "give it another name, or remove that one when it has ended"
            raise JobExistsError(f"Job {spec.name} already exist", where=f"jobs[{number}].name", remedy=remedy)
        entering.names[spec.name] = None
        if not (number + 1) % SLICE:
            yield Pause.MORE


def _check_needs(needs: Sequence[Need], nodes: Nodes, name: str, number: int) -> None:
    """Whether one of them can be met."""
    reason = why_none(nodes, needs)
    if reason is not None and not nodes.elastic:
        text = f"Not enough resources for job {name}"
        raise NotEnoughResourcesError(text, where=f"jobs[{number}].resources", remedy=reason)


def plan_of(spec: JobSpec, nodes: Nodes) -> list[tuple[Need, int]]:
    """(need, how many positions) in order of position."""
    need, spread = spec.resources.need, spec.resources.scheduler
    size = need.nodes if spread is not None and spread.of_nodes else need.cores
    if spread is None or spec.iteration is None or size is None:
        return [(need, spec.task_count)]
    available = nodes.count if spread.of_nodes else nodes.total_cores
    member = "nodes" if spread.of_nodes else "cores"
    needs: dict[int, Need] = {}  # by share: there are few different ones among very many
    plan = []
    for share, count in cores_plan(spread, size.min, spec.task_count, available):
        if share not in needs:
            needs[share] = replace(need, **{member: Size.exactly(share)})  # type: ignore[arg-type]
        plan.append((needs[share], count))
    return plan
