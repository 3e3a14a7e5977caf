"""The launcher on a real Slurm: jobs that end in every way, limits, arrays, a pilot over all nodes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import accounting
import pytest
from emulated import Slurm
from patience import wait_until
from real import SLURM_PROGRAMS, require

from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


@pytest.fixture
def on_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Slurm:
    """This process is a user of that Slurm; its commands find `ctl` by its address."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    return slurm


@pytest.fixture
def submission(on_slurm: Slurm, wd: Path) -> Make:
    def make(*tasks: dict[str, Any], batch_type: str = "Slurm", retry_count: int = 0, **given: Any) -> Placement:
        machine = {
            "batch_type": batch_type,
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": retry_count,
        }
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        resources = {"group_size": 1} | given.pop("resources", {})
        found = {"work_base": "w", "machine": machine, "resources": resources, "task_list": list(tasks), **given}
        return Placement(parse_submission(found), tell=lambda text: print(text))

    return make


def task(folder: str, command: str, **more: Any) -> dict[str, Any]:
    return {"command": command, "task_work_path": folder, **more}


def rows(wd: Path) -> dict[str, dict[str, Any]]:
    return {row["folder"]: row for row in json.loads((wd / "here/w/results.json").read_text())}


def test_jobs_on_several_nodes_bring_their_results_home(submission: Make, wd: Path) -> None:
    tasks = [task(f"t{n}", "hostname >out; echo $SLURM_JOB_NUM_NODES >>out", backward_files=["out"]) for n in range(4)]
    resources = {"number_node": 2, "cpu_per_node": 1, "walltime": "5m", "memory": "100M"}
    submission(*tasks, resources=resources).run(check_interval_s=1)
    outputs = [(wd / f"here/w/t{n}/out").read_text().split() for n in range(4)]
    assert all(name.startswith("node") and nodes == "2" for name, nodes in outputs)
    assert {row["exit_code"] for row in rows(wd).values()} == {0}


def test_every_bad_end_has_its_reason(submission: Make, wd: Path, on_slurm: Slurm) -> None:
    """A program error, the time limit, and a job that somebody cancels."""
    tasks = [
        task("error", "echo no >&2; exit 7"),
        task("time", "sleep 1000"),
        task("cancelled", "touch $REMOTE_ROOT/begun; sleep 1000"),
    ]
    made = submission(*tasks, resources={"kwargs": {}, "custom_flags": ["#SBATCH --time=0:1"]})
    made.run(detach=True)
    begun = Path(made.context().root_for(made.hash, "w"), "begun")
    told = {job.tasks[0]: job.id for job in made.peek().jobs.values()}
    work = made.work(made.context())
    ids = {work.tasks[name].task_work_path: job_id for name, job_id in told.items()}
    wait_until(begun.exists, "the job to start")
    on_slurm.run("scancel", ids["cancelled"])
    with pytest.raises(SubmissionFailedError, match="3 of 3 jobs failed for good"):
        made.run(check_interval_s=1)
    reasons = {folder: row["reason"] for folder, row in rows(wd).items()}
    assert reasons == {"error": "exit code 7", "time": "time limit", "cancelled": "cancelled"}
    assert rows(wd)["error"]["exit_code"] == 7


def test_an_array_runs_its_elements_and_only_the_failed_again(submission: Make, wd: Path) -> None:
    command = f'echo x >>count; [ "$SLURM_ARRAY_TASK_ID" != 1 ] || [ -e {wd}/again ] || {{ touch {wd}/again; exit 1; }}'
    tasks = [task(f"t{n}", command, backward_files=["count"]) for n in range(6)]
    resources = {"group_size": 0, "kwargs": {"slurm_job_size": 2}, "max_jobs": 2}
    submission(*tasks, batch_type="SlurmJobArray", resources=resources, retry_count=1).run(check_interval_s=1)
    counts = sorted((wd / f"here/w/t{n}/count").read_text() for n in range(6))
    assert counts == ["x\n"] * 5 + ["x\nx\n"]


def test_a_partition_that_is_not_there_is_refused_with_slurms_words(submission: Make, wd: Path) -> None:
    with pytest.raises(SubmissionFailedError, match="not started"):
        submission(task("a", "true"), resources={"queue_name": "nowhere"}).run(check_interval_s=1)


def test_many_jobs_are_asked_about_with_one_command(submission: Make, wd: Path) -> None:
    made = submission(*(task(f"t{n}", "true") for n in range(20)), resources={"max_jobs": 20})
    asked: list[str] = []

    class Counting(LocalContext):
        def run(self, command: str, **options: Any) -> Any:
            asked.extend(word for word in ("squeue", "sacct") if f"{word} " in command)
            return super().run(users(command), **options)

    made.run(detach=True)
    ids = [job.id for job in made.peek().jobs.values()]
    assert len(set(ids)) == 20
    found = build_machine("Slurm").query(Counting(wd, str(wd / "there"), {}), ids)
    assert set(found) <= set(ids)
    assert asked.count("squeue") == 1
    made.run(check_interval_s=1)


def test_a_pilot_over_all_nodes(submission: Make, wd: Path, on_slurm: Slurm) -> None:
    tasks = [task(f"t{n}", "hostname >out; sleep 0.2", backward_files=["out"], task_name=f"t{n}") for n in range(40)]
    tasks.append(task("last", "cat ../t*/out | sort -u >out", backward_files=["out"], dependencies=["t0", "t39"]))
    resources = {"number_node": 4, "cpu_per_node": 2, "walltime": "5m"}
    pilot = {"python": sys.executable}
    submission(*tasks, resources=resources, pilot=pilot).run(check_interval_s=1)
    hosts = {(wd / f"here/w/t{n}/out").read_text().strip() for n in range(40)}
    assert hosts == set(on_slurm.node_names)
    assert all(row["state"] == "finished" and row["peak_bytes"] for row in rows(wd).values())


def test_nodes_of_a_second_allocation_work_for_the_same_pilot(submission: Make, wd: Path, on_slurm: Slurm) -> None:
    command = f"hostname >out; until [ $(cat {wd}/there/*/t*/out | sort -u | wc -l) -eq 4 ]; do sleep 0.1; done"
    tasks = [task(f"t{n}", command, backward_files=["out"]) for n in range(8)]
    resources = {"number_node": 2, "cpu_per_node": 2, "walltime": "5m"}
    submission(*tasks, resources=resources, pilot={"python": sys.executable, "pilots": 2}).run(check_interval_s=1)
    assert {(wd / f"here/w/t{n}/out").read_text().strip() for n in range(8)} == set(on_slurm.node_names)


def test_a_pilot_whose_time_is_over_is_followed_by_the_next(submission: Make, wd: Path) -> None:
    """Of the minute that Slurm gives at least, the pilot leaves 40 s alone: it can do a part of the work only."""
    tasks = [task(f"t{n}", "echo x >>out; sleep 4", backward_files=["out"]) for n in range(8)]
    resources = {"walltime": "1m", "prepend_script": ["export PILOTFISH_END_MARGIN=40"]}
    submission(*tasks, resources=resources, pilot={"python": sys.executable}).run(check_interval_s=1)
    assert [(wd / f"here/w/t{n}/out").read_text() for n in range(8)] == ["x\n"] * 8
    assert len({row["attempts"] for row in rows(wd).values()}) > 1, "more than one allocation"


def test_a_job_whose_node_is_lost_is_placed_again_without_costing_a_retry(
    submission: Make, wd: Path, on_slurm: Slurm
) -> None:
    command = f"hostname >>{wd}/where; [ $(wc -l <{wd}/where) -gt 1 ] || sleep 1000"
    made = submission(task("a", command), resources={"custom_flags": ["#SBATCH --no-requeue"]})
    made.run(detach=True)
    where = wd / "where"
    wait_until(lambda: where.exists() and where.read_text(), "the job to start")
    node = where.read_text().strip()
    try:
        on_slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        made.run(check_interval_s=1)
    finally:
        with suppress(AssertionError):  # it may have come back by itself
            on_slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
        wait_until(lambda: on_slurm.idle_nodes() == len(on_slurm.node_names), "all nodes idle")
    assert len(where.read_text().split()) == 2
    assert rows(wd)["a"]["attempts"] == 2


@pytest.fixture
def one_task(on_slurm: Slurm, submission: Make, wd: Path) -> Callable[..., Placement]:
    """`one_task(events, ...)`: a task that writes `x` to `starts` and runs until there is the file `go`.

    Between two looks at the batch system twenty seconds go by for the launcher; `events` are called after the task has
    started, one before each of the next looks.
    """

    def make(*events: Callable[[], object], **given: Any) -> Placement:
        now, left = [1e9], list(events)

        def sleep(seconds: float) -> None:
            now[0] += 20
            time.sleep(0.2)
            if left and (wd / "starts").exists():
                left.pop(0)()

        made = submission(task("a", f"echo x >>{wd}/starts; until [ -e {wd}/go ]; do sleep 0.1; done"), **given)
        made._tools = replace(made._tools, clock=lambda: now[0], sleep=sleep)
        return made

    return make


def nothing() -> None:
    pass


def test_a_heterogeneous_job_is_one_job_to_its_end(
    one_task: Callable[..., Placement], on_slurm: Slurm, wd: Path
) -> None:
    """Slurm lists it as N+0 and N+1; and it can be found by its script."""
    found: dict[str, str] = {}

    def look_for_it() -> None:
        work = made.work(made.context())
        job = next(iter(made.peek().jobs.values()))
        found.update(build_machine("Slurm").find(made.context(), [work.to_place(job)]))
        assert found == {job.hash: job.id}

    flags = ["#SBATCH hetjob", "#SBATCH --ntasks=1"]
    made = one_task(look_for_it, *[nothing] * 8, (wd / "go").touch, resources={"custom_flags": flags})
    assert made.run(check_interval_s=1).over
    assert ((wd / "starts").read_text(), len(found)) == ("x\n", 1)


def test_a_controller_that_is_away_for_minutes_costs_an_array_nothing(
    one_task: Callable[..., Placement], on_slurm: Slurm, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without accounting, so nobody else tells. Its commands are not patient here."""
    conf = [line for line in (on_slurm.folder / "slurm.conf").read_text().splitlines() if "MessageTimeout" not in line]
    (wd / "slurm.conf").write_text("\n".join([*conf, "MessageTimeout=2", ""]))
    monkeypatch.setenv("SLURM_CONF", str(wd / "slurm.conf"))
    events = [on_slurm.stop_controller, *[nothing] * 4, on_slurm.start_controller, *[nothing] * 2, (wd / "go").touch]
    made = one_task(*events, batch_type="SlurmJobArray")
    assert made.run(check_interval_s=1).over
    assert (wd / "starts").read_text() == "x\n"


def test_with_accounting_slurm_tells_how_jobs_ended_long_after(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller forgets ended jobs after two seconds here; `sacct` does not."""
    require("unshare", "nsenter", *SLURM_PROGRAMS, *accounting.PROGRAMS)
    with Slurm(nodes=1, cpus=2, accounting=True, extra="MinJobAge=2\n") as slurm:
        for name in [name for name in os.environ if name.startswith("SLURM")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SLURM_CONF", slurm.environ["SLURM_CONF"])
        ids = [slurm.submit(command, wd, "--ntasks=1") for command in ("true", "exit 3", "sleep 1000")]
        wait_until(lambda: slurm.state(ids[2]) == "RUNNING", "the last job to run")
        slurm.run("scancel", ids[2])
        context, machine = LocalContext(wd, str(wd), {}), build_machine("Slurm")

        def told() -> dict[str, tuple[str, str, int | None]]:
            found = machine.query(context, ids)
            return {name: (each.state.name, each.reason, each.exit_code) for name, each in found.items()}

        def forgotten() -> bool:
            return context.run(users(f"scontrol show job {ids[0]}")).code != 0

        wait_until(forgotten, "the controller to forget")
        wait_until(
            lambda: all(state in ("finished", "terminated") for state, _, _ in told().values()), "accounting", 60
        )
        assert [told()[name] for name in ids[:2]] == [("finished", "", 0), ("terminated", "program", 3)]
        assert told()[ids[2]][1] == "cancelled"
