"""Classes of somebody's own, derived from Machine or from a context: what they override is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish import JobStatus, Machine, Resources, Submission, Task
from pilotfish.launcher.compat.dpdispatcher.context import LocalContext
from pilotfish.launcher.compat.dpdispatcher.machine import SUBCLASSES
from pilotfish.launcher.submission.bound_context import BoundContext
from pilotfish.launcher.submission.placement import Placement
from pilotfish.pilot.model.errors import RefusedError

Shell: Any = SUBCLASSES["Shell"]
Slurm: Any = SUBCLASSES["Slurm"]


@pytest.fixture(autouse=True)
def forgotten(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of one test are no classes of another."""
    monkeypatch.setattr(Machine, "subclasses_dict", {})
    monkeypatch.setattr(BoundContext, "subclasses_dict", {})
    (wd / "w/a").mkdir(parents=True)
    (wd / "w/a/in").write_text("5")


def submission(machine: Machine, command: str = "cat in > out; echo $MINE >> out") -> Submission:
    task = Task(command, "a", forward_files=["in"], backward_files=["out"])
    return Submission("w", machine, Resources(group_size=1), task_list=[task])


def local(wd: Path, **more: Any) -> dict[str, Any]:
    return {"context_type": "LocalContext", "local_root": str(wd), "remote_root": str(wd / "there"), **more}


def test_scripts_are_put_together_from_its_parts(wd: Path) -> None:
    class Mine(Machine):
        def gen_script_header(self, job: Any) -> str:
            return f"{super().gen_script_header(job)}\n# header"

        def gen_script_env(self, job: Any) -> str:
            return f"{super().gen_script_env(job)}export MINE=7\n"

        def gen_script_command(self, job: Any) -> str:
            return f"# tasks: {len(job.job_task_list)}\n{super().gen_script_command(job)}"

        def gen_script_end(self, job: Any) -> str:
            return f"# end of {job.script_file_name}\n{super().gen_script_end(job)}"

    made = submission(Mine(**local(wd)))
    scripts = made.run_submission(dry_run=True)["scripts"]
    job = made.belonging_jobs[0]
    text = scripts[job.script_file_name]
    assert text.splitlines()[:2] == ["#!/bin/bash -l", "# header"]
    assert "export MINE=7\n\\eval" in text
    assert f"# end of {job.script_file_name}\n" in text
    assert scripts[f"{job.script_file_name}.run"].startswith("# tasks: 1\n")
    assert made.machine is not None
    assert made.machine.gen_script(job) == text
    made.run_submission(check_interval=1)
    assert (wd / "w/a/out").read_text() == "57\n"


def test_a_class_of_a_batch_system_keeps_its_directives(wd: Path) -> None:
    class Mine(Slurm):  # type: ignore[misc]
        def gen_script_header(self, job: Any) -> str:
            return f"{super().gen_script_header(job)}\n#SBATCH --comment=mine"

    machine = Mine(**local(wd))
    made = submission(machine)
    lines = next(iter(made.run_submission(dry_run=True)["scripts"].values())).splitlines()
    assert lines[:4] == [
        "#!/bin/bash -l",
        "#SBATCH --nodes 1",
        "#SBATCH --ntasks-per-node 1",
        "#SBATCH --comment=mine",
    ]
    assert isinstance(machine, Mine)
    assert isinstance(machine, Slurm)
    assert not isinstance(SUBCLASSES["Slurm"](**local(wd)), Mine)


def test_it_is_found_by_its_name_and_its_aliases(wd: Path) -> None:
    class MyMachine(Machine):
        alias = ("Mine",)

    for name in ("MyMachine", "mymachine", "Mine", "mine"):
        made = Machine.load_from_dict(local(wd, batch_type=name))
        assert type(made) is MyMachine
        assert type(Machine.deserialize(made.serialize())) is MyMachine
    assert type(Machine(**local(wd, batch_type="Shell"))) is Machine


class Queue(Machine):
    """A batch system of its own: a process for each job, whose number is its id."""

    calls: list[str]

    def do_submit(self, job: Any) -> str:
        self.calls.append("submit")
        for name, text in {"": self.gen_script(job), ".run": self.gen_script_command(job)}.items():
            self.context.write_file(f"{job.script_file_name}{name}", text)
        _, _, out, _ = self.context.block_call(f"setsid bash {job.script_file_name} >log 2>&1 </dev/null & echo N$!")
        return out.read().decode().strip()

    def check_status(self, job: Any) -> JobStatus:
        self.calls.append("status")
        if self.check_finish_tag(job):
            return JobStatus.finished
        return JobStatus.running if Path("/proc", job.job_id[1:]).exists() else JobStatus.terminated

    def kill(self, job: Any) -> None:
        self.calls.append("kill")
        self.context.block_call(f"kill -s TERM -- -{job.job_id[1:]}")


def test_it_may_hand_jobs_over_and_follow_them_itself(wd: Path) -> None:
    machine = Queue(**local(wd))
    machine.calls = []
    made = submission(machine)
    made.run_submission(check_interval=1)
    assert (wd / "w/a/out").read_text() == "5\n"
    job = made.belonging_jobs[0]
    assert (job.job_id[0], job.job_state) == ("N", JobStatus.finished)
    assert machine.calls.count("submit") == 1
    assert "status" in machine.calls


def test_it_ends_its_jobs_itself_and_other_programs_leave_them_alone(wd: Path) -> None:
    """What another program cannot see it would place again."""
    machine = Queue(**local(wd))
    machine.calls = []
    made = submission(machine, "sleep 1000")
    made.run_submission(exit_on_submit=True)
    assert made.placement().description.machine.batch_type == "Shell"
    with pytest.raises(RefusedError, match="is a class of the program that made it"):
        Placement(made.described()).cancel()
    assert made.cancel() == 1
    assert machine.calls.count("kill") >= 1
    made.clean_jobs()


def test_what_super_does_is_done_without_the_class(wd: Path) -> None:
    seen: list[Any] = []

    class Watched(Shell):  # type: ignore[misc]
        def do_submit(self, job: Any) -> str:
            seen.append(super().do_submit(job))
            return str(seen[-1])

        def check_status(self, job: Any) -> JobStatus:
            seen.append(super().check_status(job))
            return JobStatus(seen[-1])

    made = submission(Watched(**local(wd)))
    made.run_submission(check_interval=1)
    assert (wd / "w/a/out").read_text() == "5\n"
    assert seen[0] == made.belonging_jobs[0].job_id


def test_a_context_brings_files_and_runs_commands_itself(wd: Path) -> None:
    called: list[str] = []

    class MyContext(LocalContext):
        def block_call(self, cmd: str) -> Any:
            called.append("block_call")
            return super().block_call(cmd)

        def write_file(self, fname: str, write_str: str) -> None:
            called.append(f"write {Path(fname).suffix}")
            super().write_file(fname, write_str)

        def upload(self, submission: Any) -> None:
            called.append("upload")
            super().upload(submission)

        def download(self, submission: Any, **options: Any) -> None:  # type: ignore[override]
            called.append("download")
            super().download(submission, **options)

        def clean(self) -> None:
            called.append("clean")
            super().clean()

    machine = Machine(batch_type="Shell", **local(wd, context_type="MyContext"))
    assert isinstance(machine.context, MyContext)
    submission(machine).run_submission(check_interval=1)
    assert (wd / "w/a/out").read_text() == "5\n"
    assert {"block_call", "upload", "download", "clean", "write .sub", "write .run"} <= set(called)
    assert called.index("upload") < called.index("write .sub") < called.index("download") < called.index("clean")
    assert list((wd / "there").iterdir()) == []
