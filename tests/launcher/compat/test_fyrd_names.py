"""What fyrd's names promise: attributes, profiles, what is told when something cannot be done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import JobScript, fyrd
from pilotfish.launcher.compat.fyrd.queue_job import QueueJob
from pilotfish.launcher.machines.base import SubmitRefusedError
from pilotfish.launcher.submission.job_options import OptionsError
from pilotfish.launcher.submission.profiles import ProfileError

SHELL = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("HOME", str(wd))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))


def leave(code: int) -> None:
    sys.exit(code)


def hog(megabytes: int) -> int:
    """Has so much until it is ended: whoever watches looks now and then."""
    held = b"x" * (megabytes * 2**20)
    time.sleep(PATIENCE_S)
    return len(held)


# --- jobs ---------------------------------------------------------------------------------------------------------------------


def test_other_names_for_the_same() -> None:
    job = fyrd.Job("echo out; echo err >&2; exit 3", machine=SHELL, cores=1, suffix="x")
    assert job.initialize().gen_scripts() is job
    job.set_keywords({"time": "10:00"})
    assert (job.get_keywords()["time"], job.kwds["suffix"], job.kwargs, job.cores, job.nodes) == (
        "00:10:00",
        "x",
        {},
        1,
        1,
    )
    job.set_keywords({"cpus": 1}, replace=True)
    assert job.get_keywords() == {"cores": 1}
    assert job.submit().get_output() == "out\n"
    assert (job.code, job.get_exitcode(), job.err, job.get_stdout(), job.get_stderr()) == (
        3,
        3,
        "err\n",
        "out\n",
        "err\n",
    )
    assert (job.found, job.disappeared, job.get_times()) == (True, False, (job.start, job.end))
    with pytest.raises(fyrd.ClusterError, match="set its options before"):
        job.set_keywords({"cores": 2})
    assert all(Path(path).exists() for path in job.files)


def test_a_function_that_leaves_says_with_which_code() -> None:
    with pytest.raises(
        fyrd.ClusterError, match="the function has ended its process with exit code 3 and returned nothing"
    ):
        fyrd.submit(leave, 3, machine=SHELL, syspaths=[HERE]).get()


def test_too_little_memory_for_the_interpreter_is_told() -> None:
    """fyrd's first example asks for 10 MB."""
    with fyrd.JobQueue(cores=1) as queue, pytest.raises(fyrd.ClusterError, match="which alone needs about 30 MB"):
        fyrd.submit(hog, 200, mem="10MB", qtype="local", queue=queue, syspaths=[HERE]).get()


def test_more_cores_than_there_are_are_cut_with_a_warning() -> None:
    with fyrd.JobQueue(cores=2) as queue, pytest.warns(UserWarning, match="512 cores are wanted and there are 2"):
        assert fyrd.submit("echo $QCG_PM_NPROCS", cores=512, qtype="local", queue=queue).get() == "2\n"


def run_script(wd: Path, text: str) -> str:
    (wd / "main.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.stderr


def test_a_main_script_without_a_guard_submits_its_jobs_once(wd: Path) -> None:
    """Its job runs it for the definitions in it, and must not submit another."""
    error = run_script(
        wd,
        f"""from pilotfish import JobScript, fyrd
open("runs", "a").write("x")
def f(): return 1
fyrd.submit(f, machine={SHELL}).get()
""",
    )
    assert "put that part below `if __name__ == '__main__':`" in error
    assert (wd / "runs").read_text() == "xx"


def test_a_function_below_the_guard_is_told(wd: Path) -> None:
    error = run_script(
        wd,
        f"""from pilotfish import JobScript, fyrd
if __name__ == "__main__":
    def f(): return 1
    fyrd.submit(f, machine={SHELL}).get()
""",
    )
    assert "define it above `if __name__ == '__main__':`" in error


# --- profiles -----------------------------------------------------------------------------------------------------------------


def test_profiles_that_fyrd_has_are_there() -> None:
    assert [fyrd.get_profile(name).cores for name in ("default", "small", "long", "large")] == [1, 1, 1, 16]


def test_a_profile_is_a_mapping_too() -> None:
    profile = fyrd.get_profile("large")
    profile["cpus"] = 4
    profile.update({"memory": "4GB"})
    assert (profile["cores"], profile.threads, profile["mem"]) == (4, 4, 4096)
    with pytest.raises(OptionsError, match="did you mean 'cores'"):
        profile["coers"] = 1


def test_a_profile_is_written_anew_on_demand() -> None:
    fyrd.set_profile("mine", {"cores": 2, "mem": 100})
    fyrd.set_profile("mine", {"cores": 3})
    assert (fyrd.get_profile("mine").cores, fyrd.get_profile("mine").mem) == (3, 100)
    fyrd.set_profile("mine", {"cores": 4}, update=False)
    assert (fyrd.get_profile("mine").cores, fyrd.get_profile("mine").mem) == (4, None)


def test_lists_are_read_as_fyrd_writes_them(wd: Path) -> None:
    (wd / ".fyrd").mkdir()
    (wd / ".fyrd/profiles.txt").write_text('[DEFAULT]\nmodules = ["a", "b"]\nqueue_type = auto\ncores = 2\n')
    assert fyrd.get_profile().modules == ["a", "b"]
    assert fyrd.get_profile().cores == 2, "what only fyrd knows does not keep jobs from being made"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[big]\ncores = abc\n", r"profiles.ini \[big\]: cores: 'abc' is not a whole number"),
        (b"[DEFAULT]\ncoers = 1\n", r"profiles.ini \[DEFAULT\]: Unrecognized argument coers; did you mean 'cores'"),
        (b"\xff\xfe", "profiles.ini: cannot be read: .*; mend the file"),
        (b"cores = 1\n", "profiles.ini: cannot be read: "),
    ],
)
def test_a_broken_file_is_named_with_its_section(wd: Path, content: bytes, text: str) -> None:
    path = wd / "config/pilotfish/profiles.ini"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=text):
        fyrd.Job("true", machine=SHELL)
    assert path.read_bytes() == content


# --- queues and options -------------------------------------------------------------------------------------------------------


def test_any_state_of_a_queue_is_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = fyrd.Queue(qtype="local", queue=fyrd.JobQueue(cores=1))
    jobs = {str(n): QueueJob(str(n), "n", "me", "q", state, "", 1) for n, state in enumerate(["failed", "suspended"])}
    monkeypatch.setattr(type(queue), "jobs", property(lambda self: jobs))
    assert (list(queue.failed), list(queue.suspended), list(queue.pending)) == (["0"], ["1"], [])
    with pytest.raises(AttributeError, match="no state of a job"):
        queue.nothing  # noqa: B018


def without_batch_systems(wd: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    (wd / "bin").mkdir()
    for name in (
        "sh",
        "bash",
        "env",
        "uname",
        "mkdir",
        "pwd",
        "cat",
        "rm",
        "sed",
        "tr",
        "tail",
        "sort",
        "printf",
        "cp",
        "mv",
    ):
        path = shutil.which(name)
        assert path is not None
        (wd / "bin" / name).symlink_to(path)
    for name, text in commands.items():
        (wd / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (wd / "bin" / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{wd}/bin")


@pytest.mark.parametrize(("answer", "kind"), [("exit 0", "slurm"), ("echo no controller >&2; exit 1", "local")])
def test_a_batch_system_that_does_not_answer_is_none(
    wd: Path, monkeypatch: pytest.MonkeyPatch, answer: str, kind: str
) -> None:
    without_batch_systems(wd, monkeypatch, sbatch="exit 1", squeue=answer)
    assert fyrd.get_cluster_environment() == kind


def test_where_there_is_no_batch_system_that_is_told_with_a_remedy(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_batch_systems(wd, monkeypatch)
    with pytest.raises(
        SubmitRefusedError, match=r"sbatch.* not found; there is no such batch system: name another machine"
    ):
        fyrd.submit("true", qtype="slurm")
    result = JobScript("true", "j", backend="slurm").submit()
    assert "or none (backend='shell', qtype='local')" in result.message
    with pytest.raises(fyrd.QueueError, match="qtype='local' is the queue of this machine"):
        len(fyrd.Queue(qtype="slurm"))


def test_a_queue_without_accounting_is_a_queue(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_batch_systems(wd, monkeypatch, squeue="echo '7|n|me|q|RUNNING|n1|1|4'")
    assert [(job.id, job.state) for job in fyrd.Queue(qtype="slurm")] == [("7", "running")]


def test_a_user_that_there_is_not() -> None:
    with pytest.raises(fyrd.QueueError, match="there is no user with the number 4000000"):
        fyrd.Queue(user=4000000, qtype="local")


def test_synonyms_are_replaced_and_nothing_is_checked() -> None:
    given: dict[str, Any] = {"cpus": "many", "other": 1}
    assert fyrd.sanitize_arguments(given) == {"cores": "many", "other": 1}
