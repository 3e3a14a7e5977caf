"""Rendered job scripts, run for real by bash: what they record, and that nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish.launcher.description.identity import job_hash
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.job import record as result
from pilotfish.launcher.job import script
from pilotfish.launcher.job.record import JobResult
from pilotfish.launcher.job.spec import JobToPlace, JobVariables
from pilotfish.launcher.machines.registry import build_machine

VARIABLES = JobVariables(id=("SLURM_JOB_ID",))
ODD = "a 'b\" $(c)\n&d"


def job(root: Path, *tasks: Task, resources: Resources | None = None, **changes: Any) -> JobToPlace:
    resources = resources or Resources(para_deg=2)
    made = JobToPlace(
        job_hash(tasks, resources), "", tasks, tuple(task.task_hash for task in tasks), resources, str(root)
    )
    return replace(made, **changes)


def prepare(placed: JobToPlace) -> None:
    root = Path(placed.root)
    root.mkdir(parents=True, exist_ok=True)
    for task in placed.tasks:
        (root / task.task_work_path).mkdir(parents=True, exist_ok=True)
    for name, text in script.render([], placed, variables=VARIABLES).items():
        (root / name).write_text(text)


def run(placed: JobToPlace, batch_id: str = "1", **environ: str) -> int:
    prepare(placed)
    env = {**os.environ, "SLURM_JOB_ID": batch_id, **environ}
    return subprocess.run(
        ["bash", placed.script_name], cwd=placed.root, env=env, check=False, timeout=PATIENCE_S
    ).returncode


def record(placed: JobToPlace) -> JobResult:
    found = result.parse(Path(placed.root, f"{placed.hash}_result.json").read_bytes())
    assert found is not None
    return found


def codes(placed: JobToPlace) -> list[int | None]:
    """Exit codes in the order of the tasks."""
    found = {task.hash: task.exit_code for task in record(placed).tasks}
    return [found.get(name) for name in placed.hashes]


def test_each_task_has_its_exit_code_its_times_and_its_logs(wd: Path) -> None:
    placed = job(wd, Task("echo out; echo err >&2", "a"), Task("exit 7", "b"), Task("kill -9 $BASHPID", "c"))
    assert run(placed) == 1
    assert codes(placed) == [0, 7, 137]
    assert (wd / "a/log").read_text() == "out\n"
    assert (wd / "a/err").read_text() == "err\n"
    told = record(placed)
    assert (told.job_id, told.attempt, told.exit_code) == ("1", 0, 1)
    assert all(told.start_s <= (task.start_s or 0) <= (task.end_s or 0) <= told.end_s for task in told.tasks)
    assert (wd / f"a/{placed.hashes[0]}_task_tag_finished").exists()
    assert not (wd / f"{placed.hash}_job_tag_finished").exists()
    assert (wd / f"{placed.hash}_flag_if_job_task_fail").read_text() == "1\n"


def test_a_task_whose_shell_is_killed_does_not_keep_the_others_from_running(wd: Path) -> None:
    """Its place is free again when no task runs; that it told nothing makes the job one that failed."""
    killer = "read -r _ _ _ parent _ </proc/$BASHPID/stat; kill -9 $parent"
    placed = job(wd, Task(killer, "a"), Task("true", "b"), Task("exit 3", "c"), resources=Resources(para_deg=1))
    assert run(placed) == 1
    assert codes(placed) == [None, 0, 3]


def test_the_tags_of_dpdispatcher_are_there_when_all_is_well(wd: Path) -> None:
    placed = job(wd, Task("true", "a"))
    assert run(placed) == 0
    assert (wd / f"{placed.hash}_job_tag_finished").exists()
    assert (wd / f"{placed.hash}_flag_if_job_task_fail").read_text() == "0\n"


def test_a_syntax_error_in_one_command_does_not_keep_the_others_from_running(wd: Path) -> None:
    placed = job(wd, Task("echo (", "a"), Task("true", "b"))
    assert run(placed) == 1
    assert codes(placed)[1] == 0
    assert codes(placed)[0] != 0
    assert "syntax error" in (wd / f"{placed.hash}_last_err_file").read_text()


def test_odd_names_are_just_names(wd: Path) -> None:
    placed = job(wd / ODD, Task("pwd; cat", f"{ODD}/x", outlog="-o 'ut", errlog=None))
    assert run(placed) == 0
    assert Path(placed.root, ODD, "x", "-o 'ut").read_text() == f"{placed.root}/{ODD}/x\n"


def test_a_second_job_with_the_same_attempt_does_nothing(wd: Path) -> None:
    placed = job(wd, Task("echo x >>count", "a"))
    assert run(placed, "1") == 0
    assert run(placed, "2") == 0
    assert (wd / "a/count").read_text() == "x\n"
    assert record(placed).job_id == "1"


def test_a_requeued_job_goes_on_and_finished_tasks_are_skipped(wd: Path) -> None:
    placed = job(wd, Task("echo x >>count", "a"), Task("echo y >>count; [ -e ../ok ]", "b"))
    assert run(placed, "1") == 1
    (wd / "ok").touch()
    assert run(placed, "1") == 0
    assert (wd / "a/count").read_text() == "x\n"
    assert (wd / "b/count").read_text() == "y\ny\n"
    assert codes(placed) == [0, 0]


def test_a_job_whose_run_part_is_missing_has_failed(wd: Path) -> None:
    placed = job(wd, Task("true", "a"))
    prepare(placed)
    (wd / placed.run_name).unlink()
    done = subprocess.run(["bash", placed.script_name], cwd=wd, check=False, capture_output=True)
    assert done.returncode == 1
    assert record(placed).tasks == ()
    assert not (wd / f"{placed.hash}_job_tag_finished").exists()


def test_a_cut_run_part_has_failed(wd: Path) -> None:
    placed = job(wd, Task("true", "a"))
    prepare(placed)
    text = (wd / placed.run_name).read_text()
    (wd / placed.run_name).write_text(text[: text.index("PILOTFISH_RAN")])
    assert subprocess.run(["bash", placed.script_name], cwd=wd, check=False).returncode == 1
    assert not (wd / f"{placed.hash}_job_tag_finished").exists()


def test_the_append_script_runs_before_the_tag_also_after_a_failure_and_its_code_is_told(wd: Path) -> None:
    line = 'echo "$PILOTFISH_JOB_FAILED $(ls *_job_tag_finished 2>/dev/null)" >>said; (exit 5)'
    for number, command in enumerate(("true", "false")):
        resources = Resources(append_script=(line,))
        placed = job(wd / str(number), Task(command, "a"), resources=resources)
        assert run(placed) == number
        assert (wd / str(number) / "said").read_text() == f"{number} \n"
        assert record(placed).append_exit_code == 5


@pytest.mark.parametrize("again", range(5))
def test_a_terminated_job_tells_what_it_has_done_and_leaves_nothing_behind(
    wd: Path, wait_until: Callable[..., None], again: int
) -> None:
    """The signal may come just when a shell starts the next program, and pass that by."""
    placed = job(wd, Task("true", "a"), Task("touch ../begun; sleep 100", "b"), resources=Resources(para_deg=1))
    prepare(placed)
    process = subprocess.Popen(["bash", placed.script_name], cwd=wd, start_new_session=True)
    wait_until((wd / "begun").exists, "the second task to start")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143
    assert codes(placed)[0] == 0
    assert record(placed).exit_code == 143


def test_a_signal_for_the_script_alone_reaches_its_tasks(wd: Path, wait_until: Callable[..., None]) -> None:
    """As a batch system's warning. They get a few seconds to save what they have, and only once."""
    saves = "trap 'echo saved >>../saved' TERM; touch ../begun; sleep 100 & wait; sleep 0.5; echo left >>../saved"
    placed = job(wd, Task(saves, "a"))
    prepare(placed)
    process = subprocess.Popen(["bash", placed.script_name], cwd=wd, start_new_session=True)
    wait_until((wd / "begun").exists, "the task to start")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE_S) == 138
    assert (wd / "saved").read_text() == "saved\nleft\n"


@pytest.mark.parametrize(
    ("resources", "most", "devices"),
    [
        (Resources(para_deg=2), 2, {""}),
        (Resources(para_deg=1, gpu_per_node=2, strategy={"if_cuda_multi_devices": True}), 2, {"0", "1"}),
        (Resources(para_deg=2, gpu_per_node=2, strategy={"if_cuda_multi_devices": True}), 4, {"0", "1"}),
    ],
)
def test_so_many_tasks_run_at_the_same_time_on_their_devices(
    wd: Path, resources: Resources, most: int, devices: set[str]
) -> None:
    """Each task waits until as many run as may, so fewer would never end; more would be seen."""
    command = (
        f"touch ../$$-$BASHPID.on; until [ -e ../go ] || [ $(ls ../*.on | wc -l) -ge {most} ]; do sleep 0.02; done; "
    )
    command += 'touch ../go; echo "$CUDA_VISIBLE_DEVICES" >device; ls ../*.on | wc -l >seen; rm ../$$-$BASHPID.on'
    placed = job(wd, *(Task(command, f"t{number}") for number in range(6)), resources=resources)
    assert run(placed, CUDA_VISIBLE_DEVICES="") == 0
    assert max(int(file.read_text()) for file in wd.glob("t*/seen")) <= most
    assert {file.read_text().strip() for file in wd.glob("t*/device")} == devices


def test_the_environment_of_the_tasks(wd: Path) -> None:
    (wd / "setup.sh").write_text('export FROM_SOURCE="$1"\n')
    envs = {"A": "$HOME 'x'", "LIST": ["1", "2"], "DPDISPATCHER_QUEUE_NAME": "mine", "T": True}
    resources = Resources(
        envs=envs, source_list=(f"{wd}/setup.sh 'a b'",), prepend_script=("P=1; export P",), cpu_per_node=3
    )
    placed = job(wd, Task("env", "a"), resources=resources)
    assert run(placed) == 0
    found = dict(line.split("=", 1) for line in (wd / "a/log").read_text().splitlines() if "=" in line)
    assert [found[name] for name in ("A", "LIST", "T", "FROM_SOURCE", "P")] == ["$HOME 'x'", "2", "True", "a b", "1"]
    assert (found["DPDISPATCHER_QUEUE_NAME"], found["DPDISPATCHER_CPU_PER_NODE"]) == ("mine", "3")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(envs={"1A": 1}), "Invalid POSIX environment variable name: '1A'"),
        (Resources(source_list=("x; rm -rf /",)), "has shell syntax; quote it, or write it in prepend_script"),
        (Resources(module_list=("$(x)",)), "has shell syntax"),
        (Resources(module_list=("-x",)), "must not begin with '-'"),
    ],
)
def test_what_no_shell_should_get_is_refused(wd: Path, resources: Resources, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        script.render([], job(wd, Task("true", "a"), resources=resources))
    assert message in str(caught.value)


def test_rendering_twice_gives_the_same(wd: Path) -> None:
    placed = job(wd, Task("true", "a"), Task("false", "b"))
    assert script.render(["#X"], placed) == script.render(["#X"], placed)


def test_a_template_replaces_the_header_and_reaches_into_nothing(wd: Path) -> None:
    resources = Resources(queue_name="q", kwargs={"qos": "high"}, custom_flags=("#F",))
    placed = job(wd, Task("true", "a"), resources=resources, template="#!/bin/sh\n#Q {queue_name} {kwargs[qos]} {{x}}")
    text = script.render(["#SBATCH ignored"], placed)[placed.script_name]
    assert text.splitlines()[:3] == ["#!/bin/sh", "#Q q high {x}", "#F"]
    with pytest.raises(DescriptionError, match="asks for an attribute"):
        script.render([], replace(placed, template="{queue_name.__class__}"))
    with pytest.raises(DescriptionError, match="cannot be filled in"):
        script.render([], replace(placed, template="{nothing}"))


def test_a_full_disk_is_not_taken_for_success(wd: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    disk = wd / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    try:
        placed = job(disk, Task("head -c 1000000 /dev/zero >big", "a"))
        assert run(placed) != 0
        assert not (disk / f"{placed.hash}_job_tag_finished").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_record_that_is_none_is_no_record() -> None:
    assert result.parse(b"") is None
    assert result.parse(b'{"job": "x"') is None
    assert result.parse(json.dumps({"job": "x"}).encode()) is None
    assert result.parse_lines("half a line\nhash 0 1.5 2.5 node 1\n")["hash"].end_s == 2.5


@pytest.mark.parametrize(
    ("accounting", "runs"),
    [
        (["failed 0", "exit_status 0"], True),
        (["failed 0", "exit_status 5"], False),
        (["failed 37 : qmaster enforced h_rt limit", "exit_status 0"], False),
        (["failed 1 : assumedly before job", "exit_status 0"], False),
        (["taskid 1", "failed 0", "exit_status 3", "taskid 2", "failed 0", "exit_status 0"], False),
        (["taskid undefined", "failed 0", "exit_status 3", "taskid undefined", "failed 0", "exit_status 0"], True),
    ],
    ids=["well", "exit code", "limit", "not started", "element of an array", "older job with its number"],
)
def test_a_job_of_grid_engine_runs_only_after_jobs_that_have_ended_well(
    wd: Path, accounting: list[str], runs: bool
) -> None:
    """Grid Engine lets it start after any end."""
    (wd / "bin").mkdir()
    (wd / "bin/qacct").write_text("#!/bin/sh\nprintf '%s\\n' " + " ".join(f"'{line}'" for line in accounting) + "\n")
    (wd / "bin/qacct").chmod(0o700)
    placed = job(wd, Task("touch ran", "."), resources=Resources(dependency=("7", "8")))
    for name, text in build_machine("SGE").script(placed).items():
        (wd / name).write_text(text)
    env = {**os.environ, "JOB_ID": "9", "SGE_BINARY_PATH": str(wd / "bin")}
    done = subprocess.run(["bash", placed.script_name], cwd=wd, env=env, check=False, timeout=PATIENCE_S)
    assert (done.returncode == 0, (wd / "ran").exists()) == (runs, runs)
    reason = wd / f".{placed.hash}.reason"
    assert (reason.read_text() if reason.exists() else "") == ("" if runs else "dependency failed: job 7\n")
