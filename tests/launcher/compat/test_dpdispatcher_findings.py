"""What strangers found when they ran DPDispatcher's scripts and its own tests with only the import changed."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import pilotfish
from pilotfish import Machine, Pilot, Resources, Submission, Task
from pilotfish.launcher.cli.submit import script, submit
from pilotfish.launcher.compat.dpdispatcher import BaseContext, JobStatus, LocalContext, Shell, Slurm, SSHContext
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.submission import store
from pilotfish.launcher.submission.placement import Placement
from pilotfish.pilot.model.errors import UsageError

SHELL = {"batch_type": "Shell", "context_type": "LocalContext", "local_root": ".", "remote_root": "there"}


@pytest.fixture
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the tasks' folder `w` in it."""
    monkeypatch.chdir(wd)
    (wd / "w").mkdir()
    return wd


def submission(*tasks: Task, resources: Resources | None = None, **more: Any) -> Submission:
    machine = Machine.load_from_dict(SHELL)
    return Submission("w", machine, resources or Resources(group_size=1), task_list=tasks, **more)


# --- argument trees ---------------------------------------------------------------------------------------------------------


@dataclass
class Argument:
    """Stands for the one of `dargs`: what it was made of."""

    name: str
    dtype: Any
    sub_fields: list[Any] | None = None
    sub_variants: list[Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __init__(self, name: str, dtype: Any, sub_fields: Any = None, sub_variants: Any = None, **options: Any) -> None:
        self.name, self.dtype, self.options = name, dtype, options
        self.sub_fields, self.sub_variants = sub_fields, sub_variants

    def __getitem__(self, name: str) -> Argument:
        (found,) = (each for each in self.sub_fields or () if each.name == name)
        assert isinstance(found, Argument)
        return found


@dataclass
class Variant:
    """Stands for the one of `dargs`."""

    flag_name: str
    choices: list[Argument]
    optional: bool
    doc: str


@pytest.fixture
def dargs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `dargs`, which dpgen has."""
    monkeypatch.setitem(sys.modules, "dargs", SimpleNamespace(Argument=Argument, Variant=Variant))


@pytest.mark.usefixtures("dargs")
def test_arginfo_is_an_argument_of_dargs_that_may_be_renamed() -> None:
    tree = Machine.arginfo()
    assert isinstance(tree, Argument)
    tree.name = "machine"
    assert [each.name for each in tree.sub_fields or ()] == [
        "batch_type",
        "local_root",
        "remote_root",
        "clean_asynchronously",
        "retry_count",
    ]
    (contexts,) = tree.sub_variants or []
    assert (contexts.flag_name, contexts.optional) == ("context_type", False)
    ssh = next(choice for choice in contexts.choices if choice.name == "SSHContext")
    assert ssh.options["alias"] == ("sshcontext", "SSH", "ssh")
    profile = ssh["remote_profile"]
    assert (profile["hostname"].options["optional"], profile["timeout"].options["default"]) == (False, 10)
    assert profile["port"].options["extra_check"](70_000) is False
    assert "default" not in profile["jump"].options, "a key of ours is not written into a file of DPDispatcher"


@pytest.mark.usefixtures("dargs")
def test_kwargs_are_those_of_the_batch_system() -> None:
    (systems,) = Resources.arginfo().sub_variants
    assert (systems.flag_name, {"Slurm", "LSF", "Shell"} <= {choice.name for choice in systems.choices}) == (
        "batch_type",
        True,
    )
    lsf = next(choice for choice in systems.choices if choice.name == "LSF")
    assert [key.name for key in lsf["kwargs"].sub_fields or ()][:2] == ["gpu_usage", "gpu_new_syntax"]
    plain = Resources.arginfo(detail_kwargs=False)
    assert not plain.sub_variants
    assert plain["kwargs"].dtype == [dict]
    assert Slurm.resources_subfields()[0].name == "kwargs"
    assert SSHContext.machine_arginfo().name == "SSHContext"
    assert [each.name for each in SSHContext.machine_subfields()] == ["remote_profile"]
    assert Task.arginfo()["command"].options["optional"] is False


# --- plain objects ----------------------------------------------------------------------------------------------------------


def test_a_list_that_is_appended_to_is_what_is_sent(here: Path) -> None:
    (here / "w/a").mkdir()
    (here / "w/a/in").write_text("x")
    task = Task("cat in > out", "a")
    before = task.get_hash()
    task.forward_files.append("in")
    task.backward_files.append("out")
    assert task.get_hash() != before
    submission(task).run_submission(check_interval=1)
    assert (here / "w/a/out").read_text() == "x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda made: made.belonging_tasks[1].forward_files.append("../x"),
            r"task_list\[1\].forward_files\[0\]: parent",
        ),
        (lambda made: setattr(made.belonging_tasks[0], "command", 7), r"task_list\[0\].command: 7 is not a text"),
        (lambda made: made.resources.module_list.append(3), r"resources.module_list\[0\]: 3 is not a text"),
        (lambda made: made.forward_common_files.append("/etc/passwd"), r"forward_common_files\[0\]: absolute paths"),
        (lambda made: setattr(made, "previous_submission_hash", "last"), "'last' is not 40 hex digits"),
        (lambda made: setattr(made.machine, "retry_count", -1), "machine.retry_count: -1 is less than 0"),
    ],
)
def test_what_was_changed_is_checked_when_it_is_used(here: Path, change: Any, message: str) -> None:
    made = submission(Task("true", "a"), Task("true", "b"))
    change(made)
    with pytest.raises(DescriptionError, match=message):
        made.run_submission()
    assert not (here / "there").exists()


def test_what_was_given_is_copied() -> None:
    variables: dict[str, Any] = {"A": ["1"]}
    names, flags = ["x"], ["#F"]
    resources, task = Resources(envs=variables, custom_flags=flags), Task("true", "a", names)
    variables["A"].append("2")
    names.append("y")
    flags.append("#G")
    assert (resources.envs, resources.custom_flags, task.forward_files) == ({"A": ["1"]}, ["#F"], ["x"])


def test_errors_are_also_those_that_scripts_catch() -> None:
    with pytest.raises(ValueError, match="parent-directory traversal"):
        Task("true", "a", ["../x"])
    with pytest.raises(ValueError, match="40 hex digits"):
        Submission("w", previous_submission_hash="last")
    with pytest.raises(KeyError, match="did you mean 'Slurm'"):
        Machine(batch_type="slrum", context_type="LazyLocal", local_root=".")
    with pytest.raises(RuntimeError, match="gpu_per_node can not be smaller than 1"):
        Resources(1, 1, 0, "", 1, strategy={"if_cuda_multi_devices": True})
    with pytest.raises(RuntimeError, match="at least 1 task"):
        Submission("w", resources=Resources()).generate_jobs()
    with pytest.raises(RuntimeError, match="needs a machine"):
        Submission("w", resources=Resources(), task_list=[Task("true", "a")]).run_submission()


def test_a_missing_method_is_told_with_the_name_of_the_class() -> None:
    with pytest.raises(AttributeError, match="'Machine' object has no attribute 'gen_script_tail'"):
        Machine.load_from_dict(SHELL).gen_script_tail  # type: ignore[attr-defined]  # noqa: B018


def test_a_submission_is_pickled(here: Path) -> None:
    made = submission(Task("true", "a"))
    made.generate_jobs()
    assert made.machine is not None
    made.machine.context.write_file("x", "opened")
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.submission_hash == made.submission_hash
    assert again.machine.context.read_file("x") == "opened"


def test_a_submission_that_was_written_has_the_same_jobs_when_it_is_read(here: Path) -> None:
    made = submission(*(Task(f"echo {n}", f"t{n}") for n in range(7)), resources=Resources(group_size=3))
    made.generate_jobs()
    again = Submission.deserialize(json.loads(json.dumps(made.serialize())))
    assert [job.job_hash for job in again.belonging_jobs] == [job.job_hash for job in made.belonging_jobs]
    assert again.submission_hash == made.submission_hash
    assert [task.task_work_path for task in again.belonging_tasks] == [f"t{n}" for n in range(7)]
    assert again.belonging_jobs[0].of_submission() is again
    ssh = SHELL | {"context_type": "SSH", "remote_profile": {"hostname": "h"}}
    over_ssh = Submission("w", Machine.load_from_dict(ssh), Resources(), task_list=[Task("true", "a")])
    assert Submission.deserialize(over_ssh.serialize()).submission_hash == over_ssh.submission_hash
    with_pilot = submission(Task("true", "a"), pilot=Pilot(max_allocations=2))
    assert Submission.deserialize(with_pilot.serialize()).submission_hash == with_pilot.submission_hash


def test_the_profile_is_written_with_its_defaults() -> None:
    ssh = SHELL | {"context_type": "SSH", "remote_profile": {"hostname": "h", "password": "x"}}
    profile = Machine.load_from_dict(ssh).serialize()["remote_profile"]
    assert (profile["timeout"], profile["look_for_keys"], profile["key_filename"]) == (10, True, None)
    assert profile["port"] is None, "it may stand in ~/.ssh/config"
    assert "password" not in profile
    assert Machine.load_from_dict(ssh).serialize(if_empty_remote_profile=True)["remote_profile"] == {}


# --- names ------------------------------------------------------------------------------------------------------------------


def test_old_names_are_exported() -> None:
    assert (pilotfish.Slurm, pilotfish.SSHContext, pilotfish.JobStatus) == (Slurm, SSHContext, JobStatus)
    assert int(JobStatus.failed) == 7
    for name in pilotfish.__all__:
        assert getattr(pilotfish, name) is not None
    for name in ("Job", "Machine", "Pilot", "Resources", "Submission", "Task"):
        assert ".compat." not in getattr(pilotfish, name).__module__


def test_info_prints_versions(capsys: pytest.CaptureFixture[str]) -> None:
    pilotfish.info()
    assert capsys.readouterr().out.startswith("pilotfish ")


def test_a_machine_is_an_instance_of_the_class_of_its_batch_system() -> None:
    machine = Machine.load_from_dict(SHELL)
    assert isinstance(machine, Shell)
    assert not isinstance(machine, Slurm)
    assert isinstance(machine.context, LocalContext)
    assert isinstance(machine.context, BaseContext)
    assert not isinstance(machine.context, SSHContext)
    machine.batch_type = "Slurm"
    assert isinstance(machine, Slurm)
    made = BaseContext(context_type="LazyLocal", local_root="./")
    assert made.context_type == "LazyLocalContext"
    assert isinstance(Shell(context=made), Shell)


# --- contexts and submissions -----------------------------------------------------------------------------------------------


def test_files_of_another_kind_of_submission_are_transferred(here: Path) -> None:
    (here / "w/a").mkdir()
    (here / "w/a/in").write_text("in")
    (here / "w/common").write_text("c")
    task = SimpleNamespace(task_work_path="a/", forward_files=["in"], backward_files=["out", "gone"])
    other = SimpleNamespace(
        work_base="w", submission_hash="h" * 40, belonging_tasks=[task], forward_common_files=["common"]
    )
    context = LocalContext(local_root=str(here), remote_root=str(here / "there"))
    context.upload(other)
    assert (here / "there" / ("h" * 40) / "a/in").read_text() == "in"
    assert context.read_file("common") == "c"
    context.write_file("a/out", "out")
    with pytest.raises(FileNotFoundError, match="a/gone"):
        context.download(other)
    context.download(other, check_exists=True)
    assert (here / "w/a/out").read_text() == "out"
    assert (here / "w/a/tag_failure_download_gone").exists()
    context.clean()
    assert list((here / "there").iterdir()) == []
    other.forward_common_files.append("missing")
    with pytest.raises(FileNotFoundError, match="missing"):
        context.upload(other)


def test_a_command_is_waited_for_or_ended(here: Path, wait_until: Any) -> None:
    context = LocalContext(local_root=str(here), remote_root=str(here / "there"))
    assert context.call("exit 3").wait(timeout=60) == 3
    proc = context.call("echo $$ >pid; sleep 1000")
    wait_until(lambda: (here / "there/pid").exists() and (here / "there/pid").read_text().strip(), "the command")
    with pytest.raises(TimeoutError):
        proc.wait(timeout=0.1)
    process = Path("/proc", (here / "there/pid").read_text().strip())
    context.kill(proc)
    wait_until(lambda: not process.exists(), "its end")
    assert context.get_return(proc)[0] == 143
    context.kill(context.call("true"))
    context.close()


def test_tasks_that_are_dropped_are_terminated(here: Path, wait_until: Any) -> None:
    made = submission(Task("true", "a"), Task("touch started; sleep 1000", "b"))
    made.run_submission(exit_on_submit=True)
    wait_until(lambda: Path(made.remote_root, "b/started").exists(), "the task")
    made.remove_unfinished_tasks()
    states = {job.job_state for job in made.belonging_jobs}
    assert states <= {JobStatus.finished, JobStatus.terminated}
    assert JobStatus.terminated in states


def test_names_of_2021(here: Path) -> None:
    made = submission(Task("true", "a"), resources=Resources(group_size=1))
    made.generate_jobs()
    made.upload_jobs()
    made.submit_submission()
    assert made.belonging_jobs[0].job_id
    made.get_submission_state()
    made.cancel()


def test_equal_tasks_are_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = submission(*(Task("echo >>ran", "a", backward_files=["ran"]) for _ in range(5)))
    made.generate_jobs()
    assert len(made.belonging_jobs) == 5
    with caplog.at_level(logging.WARNING):
        made.run_submission(check_interval=1)
    assert "4 of 5 tasks are equal to others and run once" in caplog.text
    assert (here / "w/a/ran").read_text() == "\n"
    assert made.check_all_finished()


def test_values_that_nobody_will_expand_are_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    variables = {"A": "/x:$HOME", "B": "`pwd`", "C": "costs 5$", "D": ["$(date)"], "E": 1}
    made = submission(Task("true", "a"), resources=Resources(envs=variables))
    with caplog.at_level(logging.WARNING):
        made.run_submission(check_interval=1)
    told = [line for line in caplog.messages if line.startswith("resources.envs.")]
    assert [line.partition(":")[0] for line in told] == ["resources.envs.A", "resources.envs.B", "resources.envs.D"]


def test_waiting_less_than_nothing_is_refused(here: Path) -> None:
    with pytest.raises(DescriptionError, match="check_interval: -1 is no time to wait"):
        submission(Task("true", "a")).run_submission(check_interval=-1)


# --- files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "mapping", "message"),
    [
        (
            Resources,
            {"group_size": 1, "local_root": "."},
            "'local_root'; it is a key of machine, and has no effect here",
        ),
        (
            Task,
            {"command": "x", "task_work_path": "a", "prepend_script": []},
            "it is a key of resources, and has no ef",
        ),
        (Resources, {"group_size": 1, "wholly_new": 1}, "unknown key 'wholly_new'; remove it; known are number_node"),
        (
            Resources,
            {"group_size": 1, "cpu_per_node": 0},
            "resources.cpu_per_node: 0 is less than 1; leave it out for 1",
        ),
    ],
)
def test_keys_that_had_no_effect_are_told_to_be_removed(load: Any, mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        load.load_from_dict(mapping)
    assert message in str(caught.value)


def test_a_script_in_the_home_folder_is_sourced_in_prepend_script(here: Path) -> None:
    made = submission(Task("true", "a"), resources=Resources(source_list=["~/vasp.env x"]))
    with pytest.raises(DescriptionError, match=r'write "source \$HOME/vasp.env" in prepend_script'):
        made.run_submission(dry_run=True)


def test_kwargs_without_a_batch_system_are_checked_with_the_machine(here: Path) -> None:
    machine = Machine.load_from_dict(SHELL | {"batch_type": "Slurm"})
    resources = Resources.load_from_dict({"group_size": 1, "kwargs": {"custom_gpu_line": ["#SBATCH -G 1"]}})
    with pytest.raises(DescriptionError, match=r"resources.kwargs.custom_gpu_line: a list is not a text or null"):
        Submission("w", machine, resources, task_list=[Task("true", "a")]).run_submission(dry_run=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"work_base": "w",\n}', "Trailing comma, which JSON does not allow: line 1 column 18 (char 17)\n"),
        ("", "s.json: it is empty"),
        ('{"a": 1 "b"}', "Expecting ',' delimiter: line 1 column 9 (char 8)\n"),
        ('{"train": [{"machine": {}, "resources": {}}]}', "is a machine file of dpgen; a submission has `machine`"),
        ('{"api_version": "1.0", "fp": {"machine": {}}}', "is a machine file of dpgen"),
        ("[]", "is a file of jobs for a running pilot"),
    ],
)
def test_what_is_wrong_with_a_file_comes_first(here: Path, text: str, message: str) -> None:
    (here / "s.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(submit, ["s.json", "--dry-run"], catch_exceptions=False)
    assert message in f"{caught.value}\n"


SCRIPT = """# /// script
# [tool.pilotfish]
# task_list = [{task_work_path = "d*", command = "COMMAND"}]
# resources = {group_size = 1}
# machine = {batch_type = "Shell", context_type = "LazyLocal", local_root = ".", retry_count = 0}
# ///
print("ran")
"""


@pytest.mark.parametrize(
    ("command", "options", "left"), [("sh -c true", [], 0), ("sh -c true", ["--dry-run"], 0), ("sh -c false", [], 1)]
)
def test_the_copy_of_a_script_goes_when_it_is_not_needed_any_more(
    here: Path, command: str, options: list[str], left: int
) -> None:
    (here / "deep").mkdir()
    (here / "dns.json").write_text("a file, no folder")
    (here / "calc.py").write_text(SCRIPT.replace("COMMAND", command))
    CliRunner().invoke(script, ["calc.py", "--check-interval", "1", *options])
    assert len(list(here.glob("script_*.py"))) == left
    assert (here / "dns.json").is_file()
    for record in store.all_records():
        with Placement.of(record).opened() as opened:
            opened.runner.clean()
            opened.forget()
    assert list(here.glob("script_*.py")) == []
