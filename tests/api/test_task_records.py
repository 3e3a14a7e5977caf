"""What the folder of a run tells of its tasks is the same in both formats of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.api.run_overview import overview_of
from pilotfish.api.task_records import TaskRecords, TaskRow
from pilotfish.pilot.manager.job_info import Views
from pilotfish.pilot.manager.reporter import Reporter
from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.decisions import Changes
from pilotfish.pilot.model.ids import JobNo, NodeNo
from pilotfish.pilot.model.job_spec import Dependency, Execution, Iteration, JobSpec, Parameter
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import journal, records
from pilotfish.pilot.wire.report import Format

JOBS = [
    JobSpec(
        "sweep",
        Execution(exec="x", wd="w/${alpha}", stderr="${it}.err"),
        iteration=Iteration(5, 9, None, (Parameter("alpha", ("a", "b")),)),
    ),
    JobSpec("alone", Execution(exec="x")),
    JobSpec("after", Execution(exec="x"), iteration=Iteration(0, 3), after=(Dependency("alone"),)),
    JobSpec("left", Execution(exec="x"), iteration=Iteration(0, 2)),
]


def run_of(aux: Path, report_format: Format) -> TaskRecords:
    """The folder of a run in which `sweep:6` and `alone` have failed; of `left` nothing has ended, of `after` nothing can."""
    aux.mkdir()
    numbers = [JobNo(number) for number in range(len(JOBS))]
    (aux / journal.FILE_NAME).write_bytes(
        journal.HEADER + journal.encode(records.Submitted(JobNo(0), 1.0, JOBS, numbers))
    )
    scheduler = Scheduler([NodeSpec("n1", tuple(map(str, range(7))))])
    scheduler.on_node_up(NodeNo(0))
    scheduler.submit(JOBS, 1_700_000_000.0)
    scheduler.plan(1_700_000_001.0)
    decisions = scheduler.take_decisions()
    changes: list[Changes] = []
    (orders,) = decisions.orders.values()
    names = {job.no: job.spec.name for job in scheduler.jobs}
    starts = [key for keys in orders.starts.values() for key in keys if names[key.job_no] in ("sweep", "alone")]
    for key, grant in zip(starts, orders.grants, strict=False):
        code = 3 if names[key.job_no] == "alone" or key.pos == 1 else 0
        end = End(70, 1_700_000_002.0, 1_700_000_002.5 + key.pos, code, Cause.EXITED, 0.25, 2048)
        scheduler.on_finished(key, grant.grant_id, end, True, 1_700_000_009.0)
        changes += scheduler.take_decisions().changes
    reporter = Reporter(aux / "jobs.report", report_format)
    reporter.add_ended(changes, Views(scheduler, aux.parent))
    reporter.close()
    return TaskRecords(aux)


@pytest.mark.parametrize("report_format", ["json", "columns"])
def test_each_accepted_task_is_there_once(tmp_path: Path, report_format: Format) -> None:
    rows = {row.task: row for row in run_of(tmp_path / "aux", report_format).rows()}
    assert {task: (row.state, row.exit_code, row.reason) for task, row in rows.items()} == {
        "sweep:5": ("SUCCEED", 0, ""),
        "sweep:6": ("FAILED", 3, "exit code 3"),
        "sweep:7": ("SUCCEED", 0, ""),
        "sweep:8": ("SUCCEED", 0, ""),
        "alone": ("FAILED", 3, "exit code 3"),
        **{f"after:{index}": ("OMITTED", None, "dependency alone ended FAILED") for index in range(3)},
        **{f"left:{index}": ("QUEUED", None, "") for index in range(2)},
    }


def test_both_formats_tell_the_same_of_each(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def rows(wd: Path, report_format: Format) -> list[TaskRow]:
        here = run_of(wd / "aux", report_format).rows()
        return [row._replace(stderr=row.stderr and row.stderr.relative_to(wd)) for row in here]

    in_columns = rows(tmp_path / "b", "columns")
    assert in_columns == rows(tmp_path / "a", "json")
    sweep = next(row for row in in_columns if row.task == "sweep:6")
    assert (sweep.params, sweep.stderr) == ({"alpha": "b"}, Path("w/b/6.err"))
    assert (sweep.seconds, sweep.cpu_s, sweep.max_rss_mib, sweep.node, sweep.attempts) == (1.5, 0.25, 2.0, "n1", 1)


@pytest.mark.parametrize("report_format", ["json", "columns"])
def test_the_overview_counts_what_the_rows_are(tmp_path: Path, report_format: Format) -> None:
    overview = overview_of(run_of(tmp_path / "aux", report_format), most_slowest=2)
    counts = overview.summary
    assert (counts.tasks, counts.succeeded, counts.failed, counts.left) == (10, 3, 5, 2)
    assert counts.by_state == {"SUCCEED": 3, "FAILED": 2, "OMITTED": 3, "QUEUED": 2}
    assert [row.task for row in overview.failures] == ["sweep:6", "alone", "after"]
    assert overview.failures[-1].reason == "3 tasks were not started: dependency alone ended FAILED"
    assert (overview.more, overview.by_node) == (0, {"n1": 5})
    assert [(row.task, row.seconds) for row in overview.slowest] == [("sweep:8", 3.5), ("sweep:7", 2.5)]
