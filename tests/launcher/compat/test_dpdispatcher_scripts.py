"""Scripts written for DPDispatcher, with only the import changed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import Job, Machine, Pilot, Resources, Submission, Task
from pilotfish.launcher.compat.dpdispatcher.machine import SUBCLASSES
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.job.states import JobState

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "hashes.json").read_text())


def machine(wd: Path, **changes: Any) -> Machine:
    given = {"batch_type": "Shell", "context_type": "LocalContext", "local_root": str(wd), "remote_root": str(wd / "r")}
    return Machine.load_from_dict(given | changes)


@pytest.fixture
def tasks(wd: Path) -> list[Task]:
    for name in "ab":
        (wd / "work" / name).mkdir(parents=True)
        (wd / "work" / name / "in").write_text(name)
    return [
        Task(command="cat in > out", task_work_path=f"{name}/", forward_files=["in"], backward_files=["out"])
        for name in "ab"
    ]


def test_a_script_as_in_its_manual(wd: Path, tasks: list[Task]) -> None:
    before = random.getstate()
    resources = Resources(number_node=1, cpu_per_node=1, gpu_per_node=0, queue_name="", group_size=1)
    submission = Submission(work_base="work/", machine=machine(wd), resources=resources)
    submission.register_task_list(tasks)
    found = submission.run_submission(check_interval=1)
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["a", "b"]
    assert submission.check_all_finished()
    assert {entry["job_state"] for entries in found["belonging_jobs"] for entry in entries.values()} == {5}
    assert random.getstate() == before
    with pytest.raises(RuntimeError, match="Not allowed to register tasks after generating jobs"):
        submission.register_task(tasks[0])


def test_in_the_folder_itself_and_asynchronously(wd: Path, tasks: list[Task]) -> None:
    def one(name: str, task: Task) -> Submission:
        lazy = Machine(batch_type="Shell", context_type="LazyLocalContext", local_root=str(wd))
        return Submission(work_base="work", machine=lazy, resources=Resources(group_size=1), task_list=[task])

    async def both() -> None:
        await asyncio.gather(*(one(task.task_work_path, task).async_run_submission(check_interval=1) for task in tasks))

    asyncio.run(both())
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["a", "b"]


def test_failures_are_runtime_errors(wd: Path) -> None:
    (wd / "work").mkdir()
    bad = Task("exit 3", "x")
    made = Submission("work", machine(wd, retry_count=0), Resources(), task_list=[bad])
    with pytest.raises(RuntimeError, match="task in x: exit code 3"):
        made.run_submission(check_interval=1)
    assert made.belonging_jobs[0].job_state is JobState.failed
    assert made.belonging_jobs[0].failure_reason == "program"


def test_detached_then_looked_at_then_cleaned(wd: Path, tasks: list[Task], wait_until: Any) -> None:
    made = Submission("work", machine(wd), Resources(), task_list=tasks)
    made.run_submission(exit_on_submit=True)

    def finished() -> bool:
        made.update_submission_state()
        return made.check_all_finished()

    wait_until(finished, "the jobs to finish")
    assert made.check_ratio_unfinished(0.0)
    made.clean_jobs()
    assert list((wd / "r").iterdir()) == []


def test_a_pilot_that_is_steered_while_it_runs(wd: Path, wait_until: Any) -> None:
    (wd / "work").mkdir()
    task = Task(command="until [ -e ../go ]; do sleep 0.1; done; echo done > out", task_work_path="a", task_name="a")
    task.backward_files = ["out"]
    submission = Submission(
        "work", machine(wd), Resources(), task_list=[task], pilot=Pilot(python=sys.executable, max_allocations=2)
    )
    submission.run_submission(exit_on_submit=True, check_interval=1)
    wait_until(lambda: list((wd / "r").glob("*/.qcgpjm-service-*/connection.json")), "the pilot")
    with submission.manager() as pilot:
        wait_until(lambda: list(pilot.list()) == ["a"], "the task")
        (root,) = (wd / "r").iterdir()
        (root / "go").touch()
        assert pilot.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    submission.run_submission(check_interval=1)
    assert (wd / "work/a/out").read_text() == "done\n"
    with pytest.raises(DescriptionError, match="bootstrap"):
        Pilot(bootstrap="perhaps")


def test_a_dry_run_shows_the_scripts(wd: Path, tasks: list[Task]) -> None:
    found = Submission("work", machine(wd), Resources(), task_list=tasks).run_submission(dry_run=True)
    assert len(found["scripts"]) == 4
    assert not (wd / "r").exists()


def test_hashes_are_the_same_as_there() -> None:
    for case in GOLDEN["tasks"]:
        task = Task.load_from_dict(case["given"])
        assert task.task_hash == case["hash"]
        assert Task.deserialize(task.serialize()) == task
    tasks = [Task.load_from_dict(case["given"]) for case in GOLDEN["tasks"]]
    for case in GOLDEN["resources"]:
        resources = Resources.load_from_dict(case["given"])
        assert Job(job_task_list=tasks, resources=resources).job_hash == case["job_hash"]


def test_a_mapping_may_refer_to_files_when_that_is_allowed(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    (wd / "task.json").write_text('{"command": "true", "task_work_path": "a"}')
    (wd / "r.json").write_text('{"group_size": 3}')
    assert Task.load_from_dict({"$ref": "task.json", "task_work_path": "b"}, allow_ref=True).task_work_path == "b"
    assert Resources.load_from_dict({"$ref": "r.json"}, allow_ref=True).group_size == 3
    with pytest.raises(DescriptionError, match=r"\$ref is not allowed by default"):
        Task.load_from_dict({"$ref": "task.json"})


def test_arguments_of_a_task() -> None:
    assert Task("true", Path("a/b")).task_work_path == "a/b"
    with pytest.raises(DescriptionError, match=r"task.forward_files: 'in' is not a list of texts"):
        Task("true", "a", forward_files="in")
    with pytest.raises(DescriptionError, match=r"task: key 'command' is required"):
        Task.load_from_dict({"task_work_path": "a"})


def test_unknown_arguments_of_resources_are_for_the_batch_system() -> None:
    assert Resources(group_size=1, custom_gpu_line="#X").serialize()["kwargs"] == {"custom_gpu_line": "#X"}


def test_machines_by_class_and_from_files(wd: Path) -> None:
    made = SUBCLASSES["Slurm"](context_type="Local", local_root=".", remote_root="/r")
    assert made.serialize()["batch_type"] == "Slurm"
    (wd / "machine.json").write_text(json.dumps(made.serialize()))
    assert Machine.load_from_json(wd / "machine.json") == made


def test_a_submission_is_written_and_read(wd: Path, tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    made = Submission("work", machine(wd), Resources(group_size=2), ["c", "b"], task_list=tasks)
    assert Submission.deserialize(made.serialize()) == made
    made.generate_jobs()
    made.submission_to_json()
    again = Submission.submission_from_json(f"{made.remote_root}/{made.submission_hash}.json")
    assert sorted(task.task_hash for task in again.belonging_tasks) == sorted(task.task_hash for task in tasks)


def test_in_a_pilot(wd: Path, tasks: list[Task]) -> None:
    import sys

    made = Submission("work", machine(wd), Resources(group_size=0), task_list=tasks, pilot={"python": sys.executable})
    made.run_submission(check_interval=1)
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["a", "b"]
