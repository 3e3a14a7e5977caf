"""What the agent does with one task: a real agent process, real frames, real programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from fake_manager import AGENT, FakeManager, processes_with
from patience import wait_until
from process_state import children_of

from pilotfish.pilot.model.ids import GrantId
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire.frames import Cause, NodeShare


def script(text: str, **more: object) -> Execution:
    return Execution(script=text, **more)  # type: ignore[arg-type]


# --- results ------------------------------------------------------------------------------------------------------------


def test_a_result_has_exit_code_times_usage_and_the_grant(manager: FakeManager) -> None:
    end = manager.run(script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"))
    assert (end.exit_code, end.cause, end.message, end.returns_grant) == (3, Cause.EXITED, "", True)
    assert end.pid > 1
    assert end.started_s <= end.ended_s
    assert 0 < end.cpu_s < 5
    assert end.max_rss_kib > 500


def test_a_signal_is_a_negative_exit_code(manager: FakeManager) -> None:
    end = manager.run(script("kill -SEGV $BASHPID"))
    assert (end.exit_code, end.cause, end.message) == (-11, Cause.EXITED, "killed by SIGSEGV")


def test_a_task_dies_of_a_broken_pipe_as_usual(manager: FakeManager) -> None:
    """Python ignores SIGPIPE; a task must not inherit that."""
    assert manager.run(script("kill -PIPE $BASHPID")).exit_code == -13


def test_a_task_begins_with_no_signal_blocked(manager: FakeManager, wd: Path) -> None:
    """The agent blocks SIGCHLD."""
    manager.run(Execution(exec="grep", args=("^SigBlk:", "/proc/self/status"), stdout=str(wd / "mask")))
    assert (wd / "mask").read_text().split() == ["SigBlk:", "0" * 16]


def test_a_task_that_ends_at_once_is_not_reported_as_started(manager: FakeManager) -> None:
    key = manager.start(Execution(exec="/bin/true"))
    manager.finished(key)
    assert manager.heard.started == []


def test_a_task_that_runs_on_is_reported_as_started(manager: FakeManager) -> None:
    key = manager.start(script("read x < <(sleep 5)"))
    started = manager.started(key)
    assert (started.grant_id, started.pid > 1) == (GrantId(1), True)


# --- folder and streams -------------------------------------------------------------------------------------------------


def test_the_folder_is_made_with_its_parents(manager: FakeManager) -> None:
    end = manager.run(Execution(exec="pwd", wd="a/b c", stdout="out"))
    assert end.exit_code == 0
    assert (manager.folder / "a/b c/out").read_text() == f"{manager.folder}/a/b c\n"


def test_a_folder_that_was_removed_is_made_again(manager: FakeManager) -> None:
    assert manager.run(script("rmdir $PWD", wd="gone")).exit_code == 0
    assert manager.run(Execution(exec="pwd", wd="gone", stdout="out")).exit_code == 0
    assert (manager.folder / "gone/out").exists()


def test_streams_are_files_in_the_folder(manager: FakeManager) -> None:
    (manager.folder / "in").write_text("hello\n")
    manager.run(script("cat; echo oops >&2", stdin="in", stdout="out", stderr="err"))
    assert (manager.folder / "out").read_text() == "hello\n"
    assert (manager.folder / "err").read_text() == "oops\n"


def test_equal_names_of_stdout_and_stderr_share_one_file(manager: FakeManager) -> None:
    manager.run(script("echo 1; echo 2 >&2; echo 3", stdout="both", stderr="both"))
    assert (manager.folder / "both").read_text() == "1\n2\n3\n"


def test_without_names_stdin_and_stdout_are_dev_null(manager: FakeManager) -> None:
    manager.run(script("readlink /proc/self/fd/0 > in; readlink /proc/$BASHPID/fd/1 > out"))
    assert (manager.folder / "in").read_text() == "/dev/null\n"
    assert (manager.folder / "out").read_text() == "/dev/null\n"


def test_missing_folders_of_output_files_are_made(manager: FakeManager) -> None:
    assert manager.run(Execution(exec="echo", args=("x",), stdout="deep/er/out", stderr="other/err")).exit_code == 0
    assert (manager.folder / "deep/er/out").read_text() == "x\n"
    assert (manager.folder / "other/err").read_text() == ""


def test_output_files_are_emptied_first(manager: FakeManager) -> None:
    (manager.folder / "out").write_text("old and long\n")
    manager.run(Execution(exec="echo", args=("new",), stdout="out"))
    assert (manager.folder / "out").read_text() == "new\n"


# --- what cannot be started ---------------------------------------------------------------------------------------------


def refusals() -> list[tuple[Execution, str]]:
    return [
        (Execution(exec="no-such-program"), "[Errno 2] No such file or directory: 'no-such-program'"),
        (Execution(exec="./no/such"), "[Errno 2] No such file or directory"),
        (Execution(exec="/etc/passwd"), "[Errno 13] Permission denied: '/etc/passwd'"),
        (Execution(exec="/etc"), "it is a directory"),
        (Execution(exec="./bad"), "its interpreter '/no/such/interpreter' cannot be started"),
        (Execution(exec="./text"), "it is not a program for this machine"),
        (Execution(exec="true", stdin="data.txt"), "cannot read stdin 'data.txt' in {wd}: No such file or directory"),
        (Execution(exec="true", stdin="pipe"), "it is a named pipe"),
        (Execution(exec="true", stdout="pipe"), "cannot write stdout 'pipe'"),
        (Execution(exec="true", stdout="/proc/x/y"), "cannot make folder '/proc/x' for '/proc/x/y'"),
        (Execution(exec="true", stderr="folder"), "cannot write stderr 'folder' in {wd}: Is a directory"),
        (Execution(exec="true", wd="text/x"), "cannot use working directory '{wd}/text/x': Not a directory"),
        (Execution(exec="true", args=("nul\0",)), "null byte"),
        (Execution(exec="true", env={"a=b": "c"}), "illegal environment variable name"),
    ]


@pytest.mark.parametrize(("execution", "reason"), refusals(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_started_says_which_path_and_why(
    manager: FakeManager, execution: Execution, reason: str
) -> None:
    folder = manager.folder
    (folder / "text").write_text("just text\n")
    (folder / "text").chmod(0o755)
    (folder / "bad").write_text("#!/no/such/interpreter\n")
    (folder / "bad").chmod(0o755)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    end = manager.run(execution)
    assert (end.cause, end.exit_code, end.pid) == (Cause.NOT_STARTED, -1, -1)
    assert reason.format(wd=folder) in end.message
    assert manager.run(Execution(exec="true")).exit_code == 0


# --- environment --------------------------------------------------------------------------------------------------------


def environment_of(manager: FakeManager, execution: Execution, **grant: object) -> dict[str, str]:
    """What a task sees when started with `execution`'s environment and model."""
    dump = "import json, os; json.dump(dict(os.environ), open('env.json', 'w'))"
    full = Execution(exec=sys.executable, args=("-c", dump), env=execution.env, model=execution.model)
    assert manager.run(full, grant=manager.grant(**grant)).exit_code == 0  # type: ignore[arg-type]
    seen: dict[str, str] = json.loads((manager.folder / "env.json").read_text())
    return seen


def test_a_task_sees_what_it_was_given(manager: FakeManager) -> None:
    more = [NodeShare("n2", ["4"], [])]
    seen = environment_of(manager, Execution(), cores=("2", "3"), gpus=("1",), more_nodes=more)
    expected = {
        "QCG_PM_NNODES": "2",
        "QCG_PM_NODELIST": "n1,n2",
        "QCG_PM_NPROCS": "3",
        "QCG_PM_NTASKS": "3",
        "QCG_PM_TASKS_PER_NODE": "2,1",
        "QCG_PM_CPU_SET": "2,3,4",
        "QCG_PM_ZMQ_ADDRESS": "ipc:///requests",
        "SLURM_JOB_NODELIST": "n1,n2",
        "SLURM_TASKS_PER_NODE": "2,1",
        "CUDA_VISIBLE_DEVICES": "1",
        "PILOTFISH_AGENT_ID": AGENT,
        "PILOTFISH_TASK": "job0",
        "PILOTFISH_RUN": "1",
        "PILOTFISH_CONNECTION": str(manager.connect_file),
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert len(seen["QCG_PM_STEP_ID"]) == 32
    assert "SLURM_NTASKS_PER_NODE" not in seen
    assert "OMP_NUM_THREADS" not in seen


def test_a_task_without_gpus_sees_none_on_a_node_that_has_some(manager: FakeManager) -> None:
    assert environment_of(manager, Execution(), hide_gpus=True)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in environment_of(manager, Execution())


def test_every_run_has_a_step_id_of_its_own(manager: FakeManager) -> None:
    first = environment_of(manager, Execution())["QCG_PM_STEP_ID"]
    assert environment_of(manager, Execution())["QCG_PM_STEP_ID"] != first


def test_the_jobs_variables_win_over_the_agents_and_ours_over_the_jobs(manager: FakeManager) -> None:
    seen = environment_of(manager, Execution(env={"HOME": "/elsewhere", "QCG_PM_NNODES": "99"}))
    assert (seen["HOME"], seen["QCG_PM_NNODES"]) == ("/elsewhere", "1")


def test_model_threads_sets_thread_counts_unless_the_job_does(manager: FakeManager) -> None:
    seen = environment_of(manager, Execution(model="threads", env={"MKL_NUM_THREADS": "7"}), cores=("0", "1"))
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"], seen["MKL_NUM_THREADS"]) == ("2", "2", "7")


def test_variables_of_the_start_phase_are_filled_in(manager: FakeManager) -> None:
    manager.run(Execution(exec="echo", args=("${ncores} $nnodes ${nlist} $root_wd",), stdout="out-${ncores}"))
    assert (manager.folder / "out-1").read_text() == f"1 1 n1 {manager.folder}\n"


# --- shell preludes -----------------------------------------------------------------------------------------------------


def test_a_virtual_environment_is_entered_and_arguments_stay_whole(manager: FakeManager) -> None:
    activate = manager.folder / "my venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("export ENTERED=yes\n")
    task = Execution(exec="printenv", args=("ENTERED",), venv="my venv", stdout="out")
    assert manager.run(task).exit_code == 0
    assert (manager.folder / "out").read_text() == "yes\n"
    manager.run(Execution(exec="echo", args=("$UNKNOWN *", "a  b"), venv="my venv", stdout="out"))
    assert (manager.folder / "out").read_text() == "$UNKNOWN * a  b\n"


def test_a_missing_virtual_environment_or_module_fails_the_task(manager: FakeManager) -> None:
    assert manager.run(Execution(exec="true", venv="nowhere", stderr="err")).exit_code != 0
    assert "nowhere/bin/activate" in (manager.folder / "err").read_text()
    assert manager.run(Execution(exec="true", modules=("gcc",), env={"PATH": "/usr/bin:/bin"})).exit_code != 0


# --- binding ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: nothing to choose")
def test_a_task_is_bound_to_the_cores_of_its_grant(manager: FakeManager) -> None:
    last = max(os.sched_getaffinity(0))
    task = script("grep Cpus_allowed_list /proc/self/status", stdout="out")
    manager.run(task, grant=manager.grant([str(last)], bind=True))
    assert (manager.folder / "out").read_text().split() == ["Cpus_allowed_list:", str(last)]


def test_cores_that_are_not_here_bind_nothing_and_are_logged(manager: FakeManager) -> None:
    assert manager.run(Execution(exec="true"), grant=manager.grant(["9000"], bind=True)).exit_code == 0
    assert "bind.impossible cores=9000" in manager.log()


# --- nothing is left behind ---------------------------------------------------------------------------------------------


def test_what_a_task_leaves_in_its_group_ends_with_it(manager: FakeManager) -> None:
    end = manager.run(script("sleep 60 & exit 0"))
    assert end.exit_code == 0
    wait_until(lambda: processes_with(f"PILOTFISH_AGENT_ID={AGENT}") == [], "the background child is gone")


def test_no_descriptor_leaks_into_tasks_and_none_is_lost(manager: FakeManager) -> None:
    def open_files() -> int:
        return len(os.listdir(f"/proc/{manager.agents[0].pid}/fd"))

    manager.run(Execution(exec="true"))
    before = open_files()
    for _ in range(5):
        manager.run(Execution(exec="ls", args=("/proc/self/fd",), stdout="fds"))
        manager.run(Execution(exec="no-such-program"))
        manager.run(Execution(exec="true", stdin="missing"))
    assert (manager.folder / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3: the folder that ls reads
    assert open_files() == before


def test_no_zombie_is_left(manager: FakeManager) -> None:
    manager.run(script("(setsid sleep 0.01 &) ; exit 0"))
    workers = children_of(manager.agents[0].pid)
    assert workers
    wait_until(lambda: not any(worker.children() for worker in workers), "the orphan is reaped")


def test_a_program_that_has_moved_on_the_path_is_found_again(manager: FakeManager) -> None:
    first, second = manager.folder / "first", manager.folder / "second"
    for folder in (first, second):
        folder.mkdir()
    execution = Execution(exec="tool", env={"PATH": f"{first}:{second}:/usr/bin:/bin"})
    _install(first / "tool")
    assert manager.run(execution).exit_code == 0
    (first / "tool").rename(second / "tool")
    assert manager.run(execution).exit_code == 0


def _install(path: Path) -> None:
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
