"""A result that is missing is a failure each time, and what is on the machine stays until it is home or given up."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish import Machine, Resources, Submission, Task
from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.placement import Placement

TYPO: dict[str, Any] = {"command": "echo 42 >result.dat", "task_work_path": "a", "backward_files": ["reslt.dat"]}


def pilotfish(wd: Path, *words: str, code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    done = subprocess.run(command, cwd=wd / "here", capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def write(wd: Path) -> Callable[..., str]:
    """Writes a submission of these tasks; its name."""

    def made(*tasks: dict[str, Any], work_base: str = "w", **more: Any) -> str:
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        machine = {
            "batch_type": "Shell",
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        given = {"work_base": work_base, "machine": machine, "resources": {"group_size": 1}, "task_list": tasks, **more}
        (wd / "here/s.json").write_text(json.dumps(given))
        return "s.json"

    return made


def root(wd: Path) -> Path:
    (found,) = (wd / "there").iterdir()
    return found


def test_every_command_says_what_the_first_said(wd: Path, write: Callable[..., str]) -> None:
    file = write(TYPO)
    commands = [
        ("submit", file),
        ("submit", file),
        ("submissions", "watch", "last"),
        ("submissions", "status", "last"),
        ("submissions", "status", "last", "--offline"),
        ("submissions", "download", "last"),
        ("submissions", "clean", "last"),
        ("submit", file, "--clean", "always"),
    ]
    for words in commands:
        told = pilotfish(wd, *words, code=2).stderr
        assert f"cannot find download file {root(wd)}/a/reslt.dat" in told, words
        assert (root(wd) / "a/result.dat").read_text() == "42\n"
    assert json.loads(pilotfish(wd, "submissions", "--json", code=0).stdout)["submissions"][0]["state"] == "missing"
    (row,) = csv.DictReader((wd / "here/w/results.csv").read_text().splitlines())
    assert (row["state"], row["exit_code"], row["reason"]) == ("finished", "0", "missing: reslt.dat")
    found = json.loads(pilotfish(wd, "submissions", "status", "last", "--json", code=2).stdout)
    assert found["missing"] == [f"cannot find download file {root(wd)}/a/reslt.dat"]
    pilotfish(wd, "submissions", "clean", "last", "--force", code=0)
    assert list((wd / "there").iterdir()) == []
    assert record.names() == []


@pytest.mark.parametrize("words", [("submit", "s.json"), ("submissions", "watch", "last")])
def test_what_somebody_has_put_there_is_fetched(wd: Path, write: Callable[..., str], words: tuple[str, ...]) -> None:
    pilotfish(wd, "submit", write(TYPO), code=2)
    (root(wd) / "a/reslt.dat").write_text("43\n")
    pilotfish(wd, *words, code=0)
    assert (wd / "here/w/a/reslt.dat").read_text() == "43\n"
    assert list((wd / "there").iterdir()) == []


def test_download_fetches_it_too_and_then_it_may_be_cleaned(wd: Path, write: Callable[..., str]) -> None:
    pilotfish(wd, "submit", write(TYPO, backward_common_files=["all"]), code=2)
    (root(wd) / "a/reslt.dat").write_text("43\n")
    assert "/all" in pilotfish(wd, "submissions", "download", "last", code=2).stderr, "that is missing yet"
    (root(wd) / "all").write_text("44\n")
    pilotfish(wd, "submissions", "clean", "last", code=2)
    pilotfish(wd, "submissions", "download", "last", code=0)
    pilotfish(wd, "submissions", "clean", "last", code=0)
    assert [(wd / "here/w" / name).read_text() for name in ("a/reslt.dat", "all")] == ["43\n", "44\n"]


def python_submission(wd: Path) -> Submission:
    (wd / "here/w").mkdir(parents=True, exist_ok=True)
    machine = Machine(
        batch_type="Shell",
        context_type="LocalContext",
        local_root=str(wd / "here"),
        remote_root=str(wd / "there"),
        retry_count=0,
    )
    resources = Resources(number_node=1, cpu_per_node=1, gpu_per_node=0, queue_name="", group_size=1)
    return Submission(work_base="w", machine=machine, resources=resources, task_list=[Task(**TYPO)])


def test_python_says_the_same_each_time(wd: Path) -> None:
    for _ in range(3):
        with pytest.raises(FileNotFoundError, match="cannot find download file"):
            python_submission(wd).run_submission(check_interval=1)
        assert (root(wd) / "a/result.dat").exists()


def test_names_that_are_no_text_are_told_in_any_language(wd: Path, write: Callable[..., str]) -> None:
    """What cannot be fetched may have such a name; signs that a terminal obeys are not passed on."""
    command = "ln -s /proc/sys/vm/drop_caches \"$(printf 'caf\\351\\033[2J')\""  # nobody may read that, not even root
    file = write({"command": command, "task_work_path": "a", "backward_files": ["*"]})
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONUTF8": "1"}
    for words in (("submit", file), ("submissions", "status", "last"), ("submissions", "download", "last")):
        program = [sys.executable, "-m", "pilotfish", *words]
        done = subprocess.run(program, cwd=wd / "here", env=env, capture_output=True, check=False, timeout=100)
        assert done.returncode == 2, done.stderr
        assert b"a/caf\\xe9\\x1b[2J cannot be read there" in done.stderr
    assert "missing: caf\\xe9\\x1b[2J" in (wd / "here/w/results.csv").read_text()


def test_with_retry_failed_the_task_runs_again(wd: Path, submission: Callable[..., Placement]) -> None:
    """A program may have had nothing to say the first time; no other task runs again."""
    tasks = [
        {"command": "[ -e ../go ] && cp ../go out; echo x >>count", "task_work_path": "a", "backward_files": ["out"]},
        {"command": "echo x >>count", "task_work_path": "b", "backward_files": ["count"]},
    ]
    for _ in range(2):
        with pytest.raises(MissingFileError):
            submission(*tasks, resources={"group_size": 0}).run(check_interval_s=0.5)
    (root(wd) / "go").write_text("now")
    made = submission(*tasks, resources={"group_size": 0})
    assert made.run(retry_failed=True, clean=False, check_interval_s=0.5).over
    assert (wd / "here/w/a/out").read_text() == "now"
    assert [(root(wd) / name / "count").read_text() for name in "ab"] == ["x\nx\n", "x\n"]


def test_steps_in_python_tell_of_it_too(wd: Path) -> None:
    """As programs do that call DPDispatcher's methods one by one."""
    made = python_submission(wd)
    with pytest.raises(FileNotFoundError):
        made.run_submission(check_interval=1)
    assert not made.try_download_result()
    with pytest.raises(FileNotFoundError, match="cannot find download file"):
        made.download_jobs()
    made.download_jobs(mark_failure=True)
    assert (wd / "here/w/a/tag_failure_download_reslt.dat").exists()
    (root(wd) / "a/reslt.dat").write_text("43\n")
    assert made.try_download_result()
    assert (wd / "here/w/a/reslt.dat").read_text() == "43\n"


@pytest.mark.parametrize("clean", [True, "on_success", False])
def test_of_many_tasks_and_common_files_too(wd: Path, submission: Callable[..., Placement], clean: bool | str) -> None:
    """Those that are there come home; the next run has nothing to run and fails as well."""
    good = {"command": "echo x >>out", "task_work_path": "b", "backward_files": ["out"]}
    for _ in range(2):
        with pytest.raises(MissingFileError, match=r"a/reslt.dat \(and 1 more\)"):
            submission(good, TYPO, backward_common_files=["all"]).run(clean=clean, check_interval_s=0.5)
    assert (wd / "here/w/b/out").read_text() == "x\n"
    assert root(wd).exists()


def test_enough_is_no_excuse(wd: Path, submission: Callable[..., Placement]) -> None:
    """Tasks that are not needed any more may miss results; those that have ended well may not."""
    slow = {"command": "sleep 1000", "task_work_path": "b", "backward_files": ["out"]}
    ratio = {"strategy": {"ratio_unfinished": 0.5}}
    for _ in range(2):
        with pytest.raises(MissingFileError, match=r"a/reslt.dat$|a/reslt.dat;"):
            submission(TYPO, slow, resources=ratio).run(check_interval_s=0.5)
    assert (root(wd) / "a/result.dat").exists()


def test_tasks_of_a_pilot(wd: Path, submission: Callable[..., Placement]) -> None:
    for _ in range(2):
        with pytest.raises(MissingFileError, match=r"a/reslt.dat"):
            made = submission(TYPO, pilot={"python": sys.executable}, resources={"group_size": 0, "cpu_per_node": 1})
            made.run(check_interval_s=0.5)
    assert (root(wd) / "a/result.dat").exists()


KILLED = """
import os, signal, sys
from pilotfish.launcher.submission import runner, table
{where} = lambda *ignored, **more: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["pilotfish", "submit", "s.json"]
from pilotfish.__main__ import main
main()
"""


@pytest.mark.parametrize("where", ["runner.Fetching.common", "table.write"])
def test_a_launcher_that_is_killed_before_it_cleans(wd: Path, write: Callable[..., str], where: str) -> None:
    """What was fetched is fetched, and what was missing is missing."""
    good = {"command": "echo x >>out", "task_work_path": "b", "backward_files": ["out"]}
    write(good, TYPO)
    program = KILLED.format(where=where)
    killed = subprocess.run([sys.executable, "-c", program], cwd=wd / "here", capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "a/reslt.dat" in pilotfish(wd, "submissions", "watch", "last", code=2).stderr
    assert (root(wd) / "a/result.dat").exists()


def test_results_that_were_home_and_are_deleted_here_are_no_failure(
    wd: Path, submission: Callable[..., Placement]
) -> None:
    task = {"command": "echo 1 >out; echo 2 >../all", "task_work_path": "a", "backward_files": ["out"]}
    submission(task, backward_common_files=["all"]).run(clean=False, check_interval_s=0.5)
    os.unlink(wd / "here/w/a/out")
    assert submission(task, backward_common_files=["all"]).run(clean=False, check_interval_s=0.5).over
    for path in (root(wd) / "a/out", root(wd) / "all"):  # a clean that was cut off
        path.unlink()
    assert submission(task, backward_common_files=["all"]).run(check_interval_s=0.5).over
    assert list((wd / "there").iterdir()) == []


# --- a folder here that cannot take results -------------------------------------------------------------------------------


def spoil(wd: Path, how: str) -> str:
    """Makes `here/bad` such a folder; what is said of it."""
    bad = wd / "here/bad"
    bad.parent.mkdir(parents=True, exist_ok=True)
    if how == "missing":
        return f"there is no folder {bad}"
    if how == "file":
        bad.write_text("")
        return f"{bad} is no folder"
    bad.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", bad], check=True)
    return f"{bad} cannot be written to"


def test_python_is_told_of_the_folder_too(wd: Path) -> None:
    made = python_submission(wd)
    (wd / "here/w").rmdir()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        made.run_submission(check_interval=1)
    assert not (wd / "there").exists()


@pytest.fixture
def unmounted(wd: Path) -> Any:
    yield
    subprocess.run(["umount", wd / "here/bad"], capture_output=True, check=False)


@pytest.mark.parametrize("how", ["missing", "file", "read-only"])
@pytest.mark.parametrize("context", ["Local", "LazyLocal"])
@pytest.mark.usefixtures("unmounted")
def test_a_folder_that_cannot_take_results_is_told_before_anything_is_sent(
    wd: Path, write: Callable[..., str], how: str, context: str
) -> None:
    if how == "read-only" and os.geteuid():
        pytest.skip("needs root")
    said = spoil(wd, how)
    file = write({**TYPO, "command": f"touch {wd}/ran"}, work_base="bad")
    given = json.loads((wd / "here" / file).read_text())
    given["machine"]["context_type"] = context
    (wd / "here" / file).write_text(json.dumps(given))
    told = pilotfish(wd, "submit", file, code=2).stderr
    assert told.startswith(f"Error: work_base: {said}")
    assert told.count("\n") == 1
    assert "local_root" in told, "the remedy"
    assert [(wd / name).exists() for name in ("there", "ran")] == [False, False]
    assert record.names() == [], "there is nothing to come back to"


def test_a_dry_run_warns_of_it(wd: Path, write: Callable[..., str]) -> None:
    shown = pilotfish(wd, "submit", write(TYPO, work_base="nosuch"), "--dry-run", code=0)
    assert "echo 42" in shown.stdout
    assert "would be refused now: work_base: there is no folder" in shown.stderr
    shown = pilotfish(wd, "submit", write({**TYPO, "forward_files": ["in"]}), "--dry-run", code=0)
    assert "would be refused now: in: cannot find upload file" in shown.stderr


def test_a_script_whose_folder_is_missing_is_told(wd: Path) -> None:
    (wd / "here").mkdir()
    lines = [
        "/// script",
        "[tool.pilotfish]",
        'work_base = "nosuch"',
        f'machine = {{batch_type = "Shell", context_type = "LazyLocal", local_root = "{wd}/here"}}',
        "resources = {group_size = 1}",
        'task_list = [{task_work_path = "."}]',
        "///",
    ]
    (wd / "here/calc.py").write_text("".join(f"# {line}\n" for line in lines) + "print(1)\n")
    assert "work_base: there is no folder" in pilotfish(wd, "script", "calc.py", code=2).stderr
    assert [path.name for path in (wd / "here").iterdir()] == ["calc.py"]


def test_a_missing_input_leaves_nothing_behind(wd: Path, write: Callable[..., str]) -> None:
    told = pilotfish(wd, "submit", write({**TYPO, "forward_files": ["in"]}), code=2).stderr
    assert f"cannot find upload file {wd}/here/w/a/in" in told
    assert not (wd / "there").exists()
    assert record.names() == []


def test_a_folder_that_vanishes_meanwhile_is_made_again(wd: Path, submission: Callable[..., Placement]) -> None:
    made = submission({"command": "true", "task_work_path": "a"})
    made.run(detach=True)
    (wd / "here/w").rmdir()
    assert made.run(only_watch=True, check_interval_s=0.5).over
    assert (wd / "here/w/results.json").exists()


def test_results_that_cannot_be_written_are_told_in_one_line(wd: Path, write: Callable[..., str]) -> None:
    pilotfish(wd, "submit", write({"command": "true", "task_work_path": "a"}), "--detach", code=75)
    (wd / "here/w").rmdir()
    (wd / "here/w").write_text("a file")
    told = pilotfish(wd, "submissions", "watch", "last", "-q", code=1).stderr
    assert f"{wd}/here/w/results.json: cannot be written" in told
    assert len(record.names()) == 1
