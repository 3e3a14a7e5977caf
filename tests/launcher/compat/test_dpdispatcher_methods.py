"""Single methods of DPDispatcher's classes, as scripts call them between building a submission and its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from sshd import Sshd

from pilotfish import Job, Machine, Resources, Submission, Task
from pilotfish.launcher.compat.dpdispatcher.context import LocalContext, SSHContext
from pilotfish.launcher.compat.dpdispatcher.machine import SUBCLASSES
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.job.states import JobState


@pytest.fixture
def machine(wd: Path) -> Machine:
    return Machine(
        batch_type="Shell", context_type="Local", local_root=str(wd), remote_root=str(wd / "r"), remote_profile={}
    )


@pytest.fixture
def made(wd: Path, machine: Machine) -> Submission:
    (wd / "work/a").mkdir(parents=True)
    (wd / "work/a/in").write_text("a")
    task = Task("cat in > out; echo told >&2", "a", forward_files=["in"], backward_files=["out"])
    return Submission("work", machine, Resources(group_size=1), task_list=[task])


def ended(submission: Submission) -> bool:
    submission.update_submission_state()
    return submission.check_all_finished()


def test_commands_and_files_in_the_folder_of_a_submission(machine: Machine, made: Submission) -> None:
    context = machine.context
    assert context.remote_root == f"{machine.remote_root}/{made.submission_hash}" == made.remote_root
    assert context.local_root == made.local_root
    code, _, out, err = context.block_call("pwd; echo bad >&2; exit 3")
    assert (code, out.readlines(), err.read()) == (3, [f"{context.remote_root}\n"], b"bad\n")
    context.write_file("sub/x y", "text")
    assert context.check_file_exists("sub/x y")
    assert not context.check_file_exists("sub")
    assert context.read_file("sub/x y") == "text"
    assert context.block_checkcall("cat 'sub/x y'")[1].read() == b"text"
    with pytest.raises(
        RuntimeError, match=f"Get error code 4 in calling exit 4 with job: {made.submission_hash} . mess"
    ):
        context.block_checkcall("exit 4")
    with pytest.raises(FileNotFoundError):
        context.read_file("nothing")


@pytest.mark.parametrize("home", ["", "~/.."])
def test_a_context_over_ssh(wd: Path, sshd: Sshd, home: str, wait_until: Any) -> None:
    context = SSHContext(str(wd), f"{home}{wd}/r", sshd.profile)
    context.write_file("x", "text")
    assert context.read_file("x") == "text"
    assert context.check_file_exists("x")
    code, _, out, err = context.block_call("cat x; echo bad >&2; exit 3")
    assert (code, out.read(), err.read()) == (3, b"text", b"bad\n")
    proc = context.call("cat x")
    wait_until(lambda: context.check_finish(proc), "the command")
    assert context.get_return(proc)[0] == 0
    assert [path.name for path in (wd / "r").iterdir()] == ["x"]
    context.close()


def test_commands_that_are_not_waited_for(machine: Machine, made: Submission, wd: Path, wait_until: Any) -> None:
    context = machine.context
    proc = context.call(f"until [ -e {wd}/go ]; do sleep 0.05; done; echo done; exit 2")
    assert not context.check_finish(proc)
    assert context.get_return(proc) == (None, None, None)
    (wd / "go").touch()
    wait_until(lambda: context.check_finish(proc), "the command")
    code, out, err = context.get_return(proc)
    assert code == 2
    assert out is not None
    assert err is not None
    assert (out.read(), err.read()) == (b"done\n", b"")
    context.block_checkcall("touch there", asynchronously=True)
    wait_until(lambda: context.check_file_exists("there"), "the file")
    context.close()


def test_step_by_step(made: Submission, wd: Path, wait_until: Any) -> None:
    made.generate_jobs()
    made.upload_jobs()
    (job,) = made.belonging_jobs
    job.submit_job()
    assert job.job_id
    first = job.job_id
    job.submit_job()
    assert job.job_id == first, "it is there already"
    wait_until(lambda: ended(made), "the job")
    assert made.machine is not None
    assert made.machine.get_exit_code(job) == 0
    assert made.machine.check_finish_tag(job)
    assert made.machine.get_job_error(job) is None
    (task,) = job.job_task_list
    assert task.task_state is JobState.finished
    assert task.has_finished_tag(made.machine.context)
    again = Submission("work", made.machine, made.resources, task_list=[Task.deserialize(task.serialize())])
    again.generate_jobs()
    again.try_recover_from_json()
    assert again.belonging_jobs[0].job_id == first
    assert made.try_download_result()
    assert (wd / "work/a/out").read_text() == "a"
    job.job_to_json()
    assert made.machine.context.check_file_exists(f"{job.job_hash}_job.json")
    made.clean_jobs()


def test_failed_jobs(made: Submission, wd: Path, wait_until: Any) -> None:
    made.belonging_tasks = [Task("echo why >&2; exit 7", "a")]
    assert made.machine is not None
    made.machine.retry_count = 0
    made.generate_jobs()
    made.upload_jobs()
    made.handle_unexpected_submission_state()

    def over() -> bool:
        made.update_submission_state()
        return bool(made.failed_jobs())

    wait_until(over, "the job to fail")
    (job,) = made.failed_jobs()
    assert made.machine.get_exit_code(job) == 7
    assert "why" in (job.get_last_error_message() or "")
    for act in (made.raise_for_failed_jobs, made.handle_unexpected_submission_state, job.handle_unexpected_job_state):
        with pytest.raises(RuntimeError, match="failed"):
            act()
    made.try_download_error_info()
    assert (wd / "work/a/err").read_text() == "why\n"


def test_a_job_is_killed_and_unfinished_tasks_are_dropped(made: Submission, wd: Path, wait_until: Any) -> None:
    made.register_task(Task("touch started; sleep 1000", "b"))
    made.run_submission(exit_on_submit=True)
    name = made.submission_hash
    wait_until(lambda: Path(made.remote_root, "b/started").exists(), "the task")

    def first_has_ended() -> bool:
        made.update_submission_state()
        return bool(made.belonging_tasks[0].task_state == 5)

    wait_until(first_has_ended, "the other")
    made.remove_unfinished_tasks()
    assert [task.task_work_path for task in made.belonging_tasks] == ["a"]
    assert made.submission_hash == name
    made.download_jobs()
    assert (wd / "work/a/out").read_text() == "a"


def test_scripts_of_a_job(made: Submission) -> None:
    made.belonging_tasks = [Task("./x", "a", task_name="my job")]
    made.machine = slurm = SUBCLASSES["Slurm"](context_type="Local", local_root=".", remote_root="/r")
    made.resources = Resources(2, 4, 1, "q", 1, custom_flags=["#SBATCH --x"])
    made.bind_machine(slurm)
    made.generate_jobs()
    (job,) = made.belonging_jobs
    assert slurm.gen_script_header(job).splitlines() == [
        "#!/bin/bash -l",
        "#SBATCH --nodes 2",
        "#SBATCH --ntasks-per-node 4",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --partition q",
        "#SBATCH --job-name my-job",
    ]
    assert slurm.gen_script_custom_flags_lines(job) == "#SBATCH --x\n"
    script = slurm.gen_script(job)
    assert script == slurm.gen_script(job)
    assert slurm.gen_script_run_command(job) in script
    assert "./x" in slurm.gen_script_command(job)
    assert job.get_scheduler_name(128) == "my-job"
    assert job.script_file_name == f".{job.job_hash}.sub"
    assert Job.deserialize(job.serialize(), slurm) == job


def test_keys_are_assigned_to(machine: Machine) -> None:
    task, resources = Task("true", "a"), Resources()
    before = task.task_hash
    task.command = "false"
    task.forward_files += ["x"]
    resources.group_size = 7
    machine.retry_count = 1
    assert (task["command"], task.forward_files, resources["group_size"], machine["retry_count"]) == (
        "false",
        ["x"],
        7,
        1,
    )
    assert task.task_hash != before
    resources.group_size = "many"  # type: ignore[assignment]
    submission = Submission("w", machine, resources, task_list=[task])
    for act in (submission.generate_jobs, submission.get_hash, submission.run_submission):
        with pytest.raises(DescriptionError, match=r"resources\.group_size: 'many' is not a whole number"):
            act()


def test_keys_are_explained_checked_and_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no dargs, whose tree it would be."""
    monkeypatch.setitem(sys.modules, "dargs", None)
    assert "group_size: int" in Resources.arginfo().gen_doc()
    assert "command: str, required" in Task.arginfo().gen_doc()
    assert "slurm_job_size" in SUBCLASSES["SlurmJobArray"].resources_arginfo().gen_doc()
    given = {"batch_type": "slurm", "context_type": "local", "local_root": ".", "remote_root": "/r"}
    assert Machine.arginfo().normalize_value(given)["context_type"] == "LocalContext"
    with pytest.raises(DescriptionError, match="did you mean 'remote_root'"):
        Machine.arginfo().check_value(given | {"remote_rot": "x"})


def test_a_machine_of_a_context(wd: Path) -> None:
    context = LocalContext(str(wd), str(wd / "r"))
    machine = SUBCLASSES["Slurm"](context=context)
    assert machine.context is context
    assert (machine.batch_type, machine.context_type, machine.remote_root) == ("Slurm", "LocalContext", str(wd / "r"))


def test_download_through_the_context(made: Submission, wd: Path) -> None:
    made.belonging_tasks = [Task("echo e > error.log", "a", backward_files=["made"])]
    assert made.machine is not None
    with pytest.raises(FileNotFoundError, match="a/made"):
        made.run_submission(check_interval=1)
    made.machine.context.download(made, check_exists=True, back_error=True)
    assert (wd / "work/a/tag_failure_download_made").exists()
    assert (wd / "work/a/error.log").read_text() == "e\n"
    with pytest.raises(FileNotFoundError, match="a/made"):
        made.machine.context.download(made)


def test_a_script_gets_the_same_from_both(wd: Path) -> None:
    """`golden/dpdispatcher_methods.json` is what the real DPDispatcher 1.1.0 has told the same script."""
    golden = Path(__file__).parents[1] / "golden"
    subprocess.run(
        [sys.executable, golden / "dpdispatcher_methods.py", "pilotfish"], cwd=wd, check=True, timeout=PATIENCE_S
    )
    assert json.loads((wd / "found.json").read_text()) == json.loads((golden / "dpdispatcher_methods.json").read_text())
