"""The manuals' parameter names, and submissions that get their machine late."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish import Job, Machine, Resources, Submission, Task
from pilotfish.launcher.compat.dpdispatcher.context import BaseContext
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.submission.bound_context import BoundContext

TASK: dict[str, Any] = {"command": "echo a > out", "task_work_path": "a", "backward_files": ["out"]}
RESOURCES: dict[str, Any] = {"number_node": 1, "cpu_per_node": 2, "gpu_per_node": 0, "queue_name": "", "group_size": 1}

PARAMETERS: dict[Any, list[str]] = {
    Machine.load_from_dict: ["machine_dict", "allow_ref"],
    Machine.deserialize: ["machine_dict"],
    Machine.load_from_json: ["json_path", "json_file", "allow_ref"],
    Machine.load_from_yaml: ["yaml_path", "yaml_file", "allow_ref"],
    Machine.serialize: ["if_empty_remote_profile"],
    Machine.bind_context: ["context"],
    Machine.do_submit: ["job"],
    Machine.check_status: ["job"],
    Machine.gen_script: ["job"],
    Machine.gen_script_header: ["job"],
    Machine.gen_script_command: ["job"],
    Machine.gen_script_custom_flags_lines: ["job"],
    Machine.get_exit_code: ["job"],
    Machine.kill: ["job"],
    Machine.check_finish_tag: ["job"],
    Machine.check_if_recover: ["submission"],
    Resources.load_from_dict: ["resources_dict", "allow_ref"],
    Resources.deserialize: ["resources_dict"],
    Resources.load_from_json: ["json_file", "allow_ref"],
    Resources.load_from_yaml: ["yaml_file", "allow_ref"],
    Resources.arginfo: ["detail_kwargs"],
    Task.load_from_dict: ["task_dict", "allow_ref"],
    Task.deserialize: ["task_dict"],
    Task.load_from_json: ["json_file", "allow_ref"],
    Task.load_from_yaml: ["yaml_file", "allow_ref"],
    Task.get_task_state: ["context"],
    Job.__init__: ["job_task_list", "resources", "machine"],
    Job.deserialize: ["job_dict", "machine"],
    Job.serialize: ["if_static"],
    Job.register_job_id: ["job_id"],
    Submission.deserialize: ["submission_dict", "machine"],
    Submission.submission_from_json: ["json_file_name"],
    Submission.serialize: ["if_static"],
    Submission.register_task: ["task"],
    Submission.register_task_list: ["task_list"],
    Submission.bind_machine: ["machine"],
    Submission.check_ratio_unfinished: ["ratio_unfinished"],
    Submission.run_submission: ["dry_run", "exit_on_submit", "clean", "check_interval"],
    BaseContext.load_from_dict: ["context_dict"],
    BoundContext.bind_submission: ["submission"],
    BoundContext.write_file: ["fname", "write_str"],
    BoundContext.read_file: ["fname"],
    BoundContext.check_file_exists: ["fname"],
    BoundContext.upload: ["submission"],
    BoundContext.download: ["submission", "check_exists", "mark_failure", "back_error"],
    BoundContext.block_call: ["cmd"],
    BoundContext.block_checkcall: ["cmd", "asynchronously", "stderr_whitelist"],
    BoundContext.call: ["cmd"],
    BoundContext.check_finish: ["proc", "cmd_pipes"],
    BoundContext.get_return: ["proc", "cmd_pipes"],
}


@pytest.mark.parametrize("method", PARAMETERS, ids=lambda method: method.__qualname__)
def test_parameters_have_the_names_of_the_manuals(method: Any) -> None:
    assert set(PARAMETERS[method]) <= inspect.signature(method).parameters.keys()


def machine(wd: Path) -> Machine:
    given = {"batch_type": "Shell", "context_type": "LocalContext", "local_root": str(wd)}
    return Machine.load_from_dict(machine_dict=given | {"remote_root": str(wd / "there")})


def test_each_way_to_load_gives_the_same(wd: Path) -> None:
    kinds: list[tuple[Any, str, dict[str, Any]]] = [
        (Task, "task_dict", TASK),
        (Resources, "resources_dict", RESOURCES),
        (Machine, "machine_dict", machine(wd).serialize()),
    ]
    for made, name, given in kinds:
        path = wd / f"{name}.json"
        path.write_text(json.dumps(given))
        expected = made.load_from_dict(given)
        assert made.load_from_dict(**{name: given}) == expected
        assert made.deserialize(**{name: given}) == expected
        assert made.load_from_json(json_file=path) == made.load_from_json(json_path=path) == expected
        assert made.load_from_yaml(yaml_file=path) == made.load_from_yaml(yaml_path=path) == expected
        assert made.load_from_json(path) == expected
        with pytest.raises(TypeError, match="expected one file; write json_file="):
            made.load_from_json()


def late(count: int = 3, group_size: int = 2) -> Submission:
    tasks = [Task(f"echo {number} > out", f"t{number}", backward_files=["out"]) for number in range(count)]
    return Submission("w", resources=Resources(group_size=group_size), task_list=tasks)


def test_jobs_are_made_before_there_is_a_machine(wd: Path) -> None:
    without, bound = late(), late()
    without.generate_jobs()
    bound.bind_machine(machine(wd))
    bound.generate_jobs()
    assert [job.job_hash for job in without.belonging_jobs] == [job.job_hash for job in bound.belonging_jobs]
    assert [len(job.job_task_list) for job in without.belonging_jobs] == [2, 1]
    assert [job.machine for job in without.belonging_jobs] == [None, None]


def test_it_has_a_hash_and_a_written_form_before_there_is_a_machine(wd: Path) -> None:
    made = late()
    assert made.get_hash() == made.submission_hash == late().get_hash()
    assert made == late()
    assert len({made, late(), late(2)}) == 2
    for generated in (False, True):
        if generated:
            made.generate_jobs()
        written = json.loads(json.dumps(made.serialize()))
        assert written["machine"] is None
        again = Submission.deserialize(submission_dict=written)
        assert again.machine is None
        assert {task.task_hash for task in again.belonging_tasks} == {task.task_hash for task in made.belonging_tasks}
        assert Submission.deserialize(written, machine=machine(wd)).machine == machine(wd)


def test_it_runs_when_a_machine_is_bound_later(wd: Path) -> None:
    (wd / "w").mkdir()
    made = late()
    made.generate_jobs()
    first = made.get_hash()
    assert made.bind_machine(machine=machine(wd)) is made
    assert made.get_hash() != first
    made.run_submission(check_interval=1)
    assert [(wd / f"w/t{number}/out").read_text() for number in range(3)] == ["0\n", "1\n", "2\n"]
    assert made.check_all_finished()


@pytest.mark.parametrize(
    "act",
    [
        lambda made: made.run_submission(),
        lambda made: made.remote_root,
        lambda made: made.update_submission_state(),
        lambda made: made.upload_jobs(),
        lambda made: made.belonging_jobs[0].submit_job(),
    ],
)
def test_what_needs_a_machine_says_how_to_bind_one(act: Any) -> None:
    made = late()
    made.generate_jobs()
    with pytest.raises(DescriptionError, match=r"needs a machine; bind one: .*bind_machine\(machine\)"):
        act(made)


def test_what_needs_resources_says_so(wd: Path) -> None:
    made = Submission("w", machine(wd), task_list=[Task(**TASK)])
    for act in (made.generate_jobs, made.run_submission):
        with pytest.raises(DescriptionError, match=r"needs resources; give resources=Resources\(\.\.\.\)"):
            act()
    assert made.serialize()["resources"] is None


def test_a_job_alone_has_hash_and_written_form() -> None:
    job = Job([Task(**TASK)], resources=Resources(**RESOURCES))
    again = Job.deserialize(job_dict=job.serialize())
    assert again.job_hash == job.get_hash()
    assert again == job


def test_the_previous_submission_is_kept_in_the_written_form(wd: Path) -> None:
    made = late()
    made.previous_submission_hash = "0" * 40
    assert Submission.deserialize(made.serialize()).previous_submission_hash == "0" * 40
