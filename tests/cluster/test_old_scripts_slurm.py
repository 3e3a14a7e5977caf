"""Scripts in the terms of clusterjob, fyrd and DPDispatcher on a real Slurm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from emulated import Slurm
from patience import PATIENCE_S, wait_until

from pilotfish import AsyncResult, JobScript, Machine, Resources, Submission, Task, fyrd
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED, FAILED


@pytest.fixture(autouse=True)
def on_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wd: Path) -> Slurm:
    """This process is a user of that Slurm."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(wd)
    return slurm


def test_a_job_script(wd: Path) -> None:
    text = 'echo "$CLUSTERJOB_NAME $CLUSTERJOB_ID=$SLURM_JOB_ID {nodes} $SLURM_JOB_NUM_NODES $CLUSTERJOB_WORKDIR"'
    script = JobScript(
        f"{text}\necho $CLUSTERJOB_NODELIST >nodes", "hello", nodes=2, ppn=1, time="0:05:00", stdout="out"
    )
    result = script.submit()
    result.dump("kept")
    assert AsyncResult.load("kept").get(timeout=PATIENCE_S) == COMPLETED
    assert (wd / "out").read_text() == f"hello {result.job_id}={result.job_id} 2 2 {wd}\n"
    assert (wd / "nodes").read_text().startswith("node")
    assert sorted(path.name for path in wd.iterdir()) == ["hello.slr", "kept", "nodes", "out"]


def test_job_scripts_that_end_badly() -> None:
    failed = JobScript("exit 4", "bad").submit()
    cancelled = JobScript("touch begun; sleep 1000", "long").submit()
    refused = JobScript("true", "wide", queue="nowhere").submit()
    wait_until(lambda: Path("begun").exists(), "the job to begin")
    cancelled.cancel()
    assert [each.get(timeout=PATIENCE_S) for each in (failed, cancelled, refused)] == [FAILED, CANCELLED, FAILED]
    assert failed.exit_code == 4
    assert "partition" in refused.message


def test_an_array(wd: Path) -> None:
    """It has ended well when all its elements have, and badly when one has not."""
    good = JobScript("echo $CLUSTERJOB_ARRAY_INDEX >out.$CLUSTERJOB_ARRAY_INDEX", "good", array="0-2,5").submit()
    bad = JobScript("[ $CLUSTERJOB_ARRAY_INDEX -ne 1 ] || exit 7", "bad", array="0-1").submit()
    AsyncResult.wait_all([good, bad], timeout=PATIENCE_S)
    assert (good.status, bad.status, bad.exit_code) == (COMPLETED, FAILED, 7)
    assert {path.name: path.read_text() for path in wd.glob("out.*")} == {
        f"out.{each}": f"{each}\n" for each in (0, 1, 2, 5)
    }


def double(value: int) -> int:
    return value * 2


def test_jobs_of_fyrd(wd: Path) -> None:
    assert fyrd.get_cluster_environment() == "slurm"
    first = fyrd.submit(
        "echo one; touch begun; until [ -e go ]; do sleep 0.1; done", cores=2, time="5:00", name="first"
    )
    second = fyrd.submit(double, [21], depends=first, syspaths=[str(Path(__file__).parent)])
    wait_until(lambda: (wd / "begun").exists(), "the first to begin")
    queue = fyrd.Queue("self")
    assert (queue[str(first.id)].state, queue[str(first.id)].name, queue[str(first.id)].threads) == (
        "running",
        "first",
        2,
    )
    assert queue[str(second.id)].state == "pending"
    (wd / "go").touch()
    assert second.get() == 42
    assert first.get() == "one\n"
    assert fyrd.wait([first, second])
    with pytest.raises(fyrd.ClusterError, match="is failed"):
        bad = fyrd.submit("exit 1")
        bad.wait()
        fyrd.submit("true", depends=bad)


def test_a_run_of_the_real_dpdispatcher_is_gone_on_with(wd: Path) -> None:
    python = os.environ.get("DPDISPATCHER_PYTHON", "/tmp/dpd-venv-chief/bin/python")
    if not Path(python).exists():
        pytest.skip("DPDispatcher is no dependency: DPDISPATCHER_PYTHON names a Python that has it")
    (wd / "work").mkdir()
    commands = {"a": "echo a > out", "b": "until [ -e ../go ]; do sleep 0.1; done; echo b > out"}
    given = {"batch_type": "Slurm", "context_type": "LocalContext", "local_root": str(wd), "remote_root": str(wd / "r")}
    script = f"""
from dpdispatcher import Machine, Resources, Task, Submission
tasks = [Task(command=command, task_work_path=name, backward_files=["out"]) for name, command in {commands}.items()]
machine = Machine.load_from_dict({given} | {{"remote_profile": {{}}}})
Submission("work", machine, Resources(1, 1, 0, "", 1), task_list=tasks).run_submission(exit_on_submit=True)
"""
    subprocess.run([python, "-c", script], env={**os.environ, "HOME": str(wd)}, check=True, timeout=PATIENCE_S)
    told: list[str] = []
    tasks = [Task(command, name, backward_files=["out"]) for name, command in commands.items()]
    made = Submission("work", Machine.load_from_dict(given), Resources(group_size=1), task_list=tasks, tell=told.append)
    made.run_submission(exit_on_submit=True)
    Path(made.remote_root, "go").touch()
    made.run_submission(check_interval=1)
    assert not any("submitted" in line for line in told), told
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["a\n", "b\n"]


def test_jobs_of_one_name_run_what_was_submitted(wd: Path) -> None:
    """Each runs its own text and its own auxiliary script, and each result is that of its job."""
    wait = "until [ -e go ]; do sleep 0.1; done"
    scripts = [
        JobScript(f"{wait}; echo {num} >> bodies; ./tool >> tools", "sweep", {"tool": f"echo {num}"})
        for num in range(3)
    ]
    results = [script.submit() for script in scripts]
    commands = [fyrd.submit(f"{wait}; echo {num}", name="cmd") for num in range(2)]
    functions = [
        fyrd.submit(double, num, name="calc", syspaths=[str(Path(__file__).parent)], cores=2) for num in (1, 2, 3)
    ]
    queue = fyrd.Queue("self")
    assert {queue[str(job.id)].name for job in commands} == {"cmd"}
    (wd / "go").touch()
    assert [result.get(timeout=200) for result in results] == [COMPLETED] * 3
    assert [sorted((wd / name).read_text().split()) for name in ("bodies", "tools")] == [["0", "1", "2"]] * 2
    assert fyrd.get(commands) == ["0\n", "1\n"]
    assert fyrd.get(functions) == [2, 4, 6]


def test_dependents_of_a_failed_job_never_start_and_tell_why(wd: Path) -> None:
    """However they name it, in chains too; nobody waits for ever."""
    first = fyrd.submit("until [ -e go ]; do sleep 0.1; done; exit 3")
    by_handle = fyrd.submit("touch ran", depends=first)
    by_id = fyrd.submit("touch ran", depends=first.id)
    listed = fyrd.submit("touch ran", depends=[fyrd.submit("true"), first])
    chained = fyrd.submit("touch ran", depends=by_handle)
    (wd / "go").touch()
    assert not fyrd.wait([first, by_handle, by_id, listed, chained])
    assert (first.state, first.exitcode) == ("failed", 3)
    assert [job.state for job in (by_handle, by_id, listed, chained)] == ["failed"] * 4
    assert by_id.reason == by_handle.reason == f"dependency failed: job {first.id}"
    assert chained.reason == f"dependency failed: job {by_handle.id}"
    with pytest.raises(fyrd.ClusterError, match="dependency failed"):
        by_id.get()
    for each in (first, first.id):
        with pytest.raises(fyrd.ClusterError, match="which is failed"):
            fyrd.submit("touch ran", depends=each)
    assert not (wd / "ran").exists()


def test_a_dependent_that_nobody_looks_at_leaves_the_queue(wd: Path) -> None:
    first = fyrd.submit("until [ -e go ]; do sleep 0.1; done; exit 3")
    second = fyrd.submit("touch ran", depends=first.id)
    (wd / "go").touch()
    queue = ["squeue", "-h", "-o", "%i"]
    wait_until(lambda: not subprocess.run(queue, capture_output=True, check=True).stdout, "an empty queue")
    assert not second.wait()
    assert second.reason == f"dependency failed: job {first.id}"


def test_a_job_script_that_can_never_start_has_failed() -> None:
    first = JobScript("until [ -e go ]; do sleep 0.1; done; exit 3", "first").submit()
    second = JobScript("touch ran", "second", dependency=f"afterok:{first.job_id}").submit()
    Path("go").touch()
    assert [first.get(timeout=200), second.get(timeout=200)] == [FAILED, FAILED]
    assert second.message == f"dependency failed: job {first.job_id}"
    assert not Path("ran").exists()


def test_cores_are_those_of_one_program() -> None:
    job = fyrd.submit("echo $SLURM_NTASKS $SLURM_CPUS_PER_TASK; srun sh -c 'echo $SLURM_CPUS_ON_NODE; nproc'", cores=2)
    assert job.get() == "1 2\n2\n2\n"


def test_all_handles_of_a_job_script_agree(wd: Path) -> None:
    """The second one at once, and whoever comes when the batch system has forgotten the job."""
    result = JobScript("exit 4", "bad").submit()
    result.dump("one")
    result.dump("two")
    killed = JobScript("sleep 1000", "long").submit()
    killed.dump("three")
    assert result.get(timeout=200) == FAILED
    killed.cancel()
    for name in ("one", "two"):
        found = AsyncResult.load(name)
        assert (found.status, found.exit_code) == (FAILED, 4)
    assert AsyncResult.load("three").get(timeout=100) == CANCELLED
