"""Lines of the report for tasks that nothing distinguishes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pilotfish.pilot.manager.job_info import Views
from pilotfish.pilot.manager.reporter import Reporter
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Change
from pilotfish.pilot.model.ids import GrantId, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire.report import ENCODERS, Format

ENDS = [0, 0, 3, -9, -1, 0]
"""Exit codes of the tasks; -1: it could not be started."""


def ended(*specs: JobSpec) -> tuple[Views, list[Change]]:
    """All changes of jobs whose tasks end with ENDS, in turn."""
    scheduler, now, changes = Scheduler([NodeSpec("n1", ("0",))]), 1_700_000_000.0, []
    scheduler.on_node_up(NodeNo(0))
    scheduler.submit(specs, now)
    grants: list[GrantId] = []
    while scheduler.jobs.unfinished:
        now += 0.375
        scheduler.plan(now)
        decisions = scheduler.take_decisions()
        changes += decisions.changes
        for orders in decisions.orders.values():
            grants += [grant.grant_id for grant in orders.grants]
            for keys in orders.starts.values():
                for key in keys:
                    finish(scheduler, key, grants[-1], now)
    return Views(scheduler, Path("/wd")), changes + scheduler.take_decisions().changes


def finish(scheduler: Scheduler, key: TaskKey, grant_id: GrantId, now: float) -> None:
    code = ENDS[key.pos % len(ENDS)]
    if code == -1:
        end = End(-1, now, now, -1, Cause.NOT_STARTED, message="no such program")
    else:
        end = End(70 + key.pos, now + 0.0625, now + 0.125, code, Cause.EXITED, 0.03125, 2048)
    scheduler.on_finished(key, grant_id, end, True, now + 0.25)


PLAIN = JobSpec('plä"in', Execution(exec="/bin/true"), iteration=Iteration(5, 17))


@pytest.mark.parametrize("report_format", ["json", "text"])
@pytest.mark.parametrize(
    "spec",
    [
        PLAIN,
        replace(PLAIN, execution=Execution(exec="/bin/true", wd="sub")),
        replace(PLAIN, execution=Execution(exec="/bin/true", wd="run-${it}")),
        replace(PLAIN, execution=Execution(exec="prog-${it}")),
        replace(PLAIN, retries=1),
        JobSpec("single", Execution(exec="/bin/true")),
    ],
)
def test_each_ending_has_the_entry_that_it_would_have_by_itself(
    spec: JobSpec, report_format: Format, tmp_path: Path
) -> None:
    views, changes = ended(spec)
    reporter = Reporter(tmp_path / "jobs.report", report_format)
    reporter.add_ended(changes, views)
    reporter.close()
    entries = [views.report_entry(change) for change in changes if change.state.final]
    assert (tmp_path / "jobs.report").read_bytes() == b"".join(map(ENCODERS[report_format], entries))
    assert len(entries) == spec.task_count + (spec.iteration is not None)
