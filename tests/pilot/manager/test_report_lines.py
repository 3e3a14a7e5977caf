"""Lines of the report for tasks that nothing distinguishes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.pilot.manager.job_info import TextsOnNode, Views
from pilotfish.pilot.manager.reporter import Reporter
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Changes, Succeeded, each_change
from pilotfish.pilot.model.ids import GrantId, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.results import PlacedShare, Successes
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.model.tasks import ManyTasks
from pilotfish.pilot.wire.report import ENCODERS, Format, encode_json

ENDS = [0, 0, 3, -9, -1, 0]
"""Exit codes of the tasks; -1: it could not be started."""


def ended(*specs: JobSpec) -> tuple[Views, list[Changes]]:
    """All changes of jobs whose tasks end with ENDS, in turn."""
    changes: list[Changes] = []
    scheduler, now = Scheduler([NodeSpec("n1", ("0",))]), 1_700_000_000.0
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
    entries = [views.report_entry(change) for change in each_change(changes) if change.state.final]
    assert (tmp_path / "jobs.report").read_bytes() == b"".join(map(ENCODERS[report_format], entries))
    assert len(entries) == spec.task_count + (spec.iteration is not None)


BEGIN_S = 1_700_000_040.0
"""The first second of a minute."""


@st.composite
def runs(draw: st.DrawFn) -> tuple[float, float]:
    """When a task started and ended: mostly in the same minute as the others, now and then on a whole second."""
    started_s = BEGIN_S + draw(st.one_of(st.floats(0, 62), st.sampled_from([0.0, 1.0, 2.9999996, 59.9999996, 60.0])))
    return started_s, started_s + draw(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-7, 70.0, 86400.0])))


@settings(max_examples=100, deadline=None)
@given(times=st.lists(runs(), min_size=1, max_size=6), scheduled_s=st.floats(-2, 2))
def test_tasks_that_succeed_together_have_the_lines_that_each_would_have(
    times: list[tuple[float, float]], scheduled_s: float
) -> None:
    scheduler = Scheduler([NodeSpec("n1", ("0", "1")), NodeSpec('n"\udcff#2', ("0&40", "\u00e9", "2"))])
    name = '100 % "d"'
    (job,) = scheduler.submit([replace(PLAIN, name=name, execution=Execution(exec="%s", wd="%d"))], BEGIN_S)
    assert isinstance(job.tasks, ManyTasks)
    places: list[tuple[PlacedShare, ...]] = [(PlacedShare(NodeNo(0), "2", "0"),), (PlacedShare(NodeNo(1), "7", "0"),)]
    numbers = list(map(scheduler.jobs.places.number, places))
    count, (started_s, ended_s) = len(times), map(list, zip(*times, strict=True))
    where = [place % 2 for place in range(count)]
    pids = list(range(70, 70 + count))
    ends = Successes(
        job.no,
        1,
        BEGIN_S + scheduled_s,
        places,
        list(range(count)),
        where,
        pids,
        started_s,
        ended_s,
        [0.03125] * count,
        pids,
    )
    for result in ends.each():
        job.tasks.set_state(result.pos, State.SUCCEED)
        job.tasks.set_run(result.pos, 1)
        job.tasks.store(result.pos, result)
    job.crashes, job.failures, job.messages = {count: 1}, {count + 1: 2}, {count + 2: "of another task"}
    views, changed = Views(scheduler, Path("/wd")), Succeeded(job, ends, numbers, unannounced=True)
    lines = views.report_lines(changed)
    singly = b"".join(encode_json(views.report_entry(change)) for change in changed if change.state.final)
    assert lines is not None
    assert lines.encode() == singly
    job.crashes = {count - 1: 1}
    assert views.report_lines(changed) is None


def test_on_very_many_cores_the_text_of_a_place_needs_no_memory_of_it() -> None:
    """What is remembered is of each node and of the cores of one; ids that an agent has learned later count."""
    specs = [NodeSpec(f"n{number}", ("0", "1")) for number in range(3)]
    texts = TextsOnNode(specs)
    found = [texts.of(PlacedShare(NodeNo(node), cores, "0")) for node in range(3) for cores in ("1", "2", "3")]
    assert found[3:6] == [('"n1[0]"', '"n1"'), ('"n1[1]"', '"n1"'), ('"n1[0:1]"', '"n1"')]
    assert len(texts._cores) == 1
    specs[1] = replace(specs[1], core_ids=("4", "6"))
    assert texts.of(PlacedShare(NodeNo(1), "3", "0")).allocation == '"n1[4:6]"'


def test_equal_ids_of_cores_are_kept_once() -> None:
    scheduler = Scheduler([NodeSpec(f"n{number}", tuple(map(str, range(128)))) for number in range(3)])
    assert len({id(spec.core_ids) for spec in scheduler.nodes.specs}) == 1
