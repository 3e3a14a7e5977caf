"""Whatever lines of the user, or of start files, set in a job's script: our own lines do what they shall."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.task import Task

from .test_job_script import codes, job, prepare, record, run

HOSTILE = [
    "set -e",
    "set -eu",
    "set -euo pipefail",
    "set -eEuo pipefail; trap 'exit 9' ERR",
    "set -eET; trap 'echo at $LINENO' DEBUG RETURN; shopt -s extdebug",
    "set -e; shopt -s inherit_errexit",
    "set -Cf; set -u",
    "set -o posix",
    "set -m",
    "set -ax",
    "IFS=:",
    "IFS=0123456789./-",
    "unset IFS; set -u",
    "cd /",
    "CDPATH=/tmp:/",
    "cd() { echo moved; return 1; }",
    "shopt -s expand_aliases; alias cd=false mv=false rm=false read=false echo=false eval=false wait=false trap=false [=false",
    "shopt -s failglob nullglob nocasematch nocaseglob xpg_echo",
    "PATH=/nonexistent",
    "trap 'exit 5' EXIT",
    "trap - EXIT TERM INT",
    "set -- a b c; exec 2>/dev/null >&2",
    "unset REMOTE_ROOT; REMOTE_ROOT=/nowhere",
    "set -eu; export POSIXLY_CORRECT=1",
]
TASKS = ("true", ":", "exit 3", "true", "true", "exit 4")


def tasks() -> list[Task]:
    return [Task(command if command != "true" else ":", f"t{number}") for number, command in enumerate(TASKS)]


@pytest.mark.parametrize("line", HOSTILE)
def test_every_task_runs_and_tells_its_exit_code_after_any_line_of_the_user(wd: Path, line: str) -> None:
    placed = job(wd, *tasks(), resources=Resources(para_deg=2, prepend_script=(line,)))
    assert run(placed) == 1
    assert codes(placed) == [0, 0, 3, 0, 0, 4]
    assert record(placed).exit_code == 1
    assert (wd / f"t5/{placed.hashes[5]}_task_tag_finished").exists() is False


@pytest.mark.parametrize("line", HOSTILE)
def test_every_task_runs_after_any_line_of_a_start_file(wd: Path, line: str) -> None:
    """The script is one of a login shell, and `PILOTFISH_SHELL_JOB` is set only where there is no batch system."""
    home = wd / "home"
    home.mkdir()
    (home / ".bash_profile").write_text(f"{line}\n")
    placed = job(wd / "root", *tasks())
    prepare(placed)
    env = {**os.environ, "HOME": str(home), "SLURM_JOB_ID": "1"}
    script = Path(placed.root, placed.script_name)
    done = subprocess.run(["bash", "-l", script], cwd=placed.root, env=env, check=False, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert codes(placed) == [0, 0, 3, 0, 0, 4]


def test_tasks_run_as_the_lines_of_the_user_have_it(wd: Path) -> None:
    lines = (
        "set -eu -o pipefail",
        "shopt -s expand_aliases nullglob",
        "alias give='exit 6'",
        "IFS=:",
        "PATH=/my/bin:$PATH",
        "words=a:b",
    )
    commands = {
        "false; true": 1,
        "echo $pf_no_such_thing": 1,
        "false | true": 1,
        "give": 6,
        "set -- $words; exit $#": 2,
        "set -- *.none; exit $#": 0,
        'case $PATH in /my/bin:*) ;; *) exit 9 ;; esac; case "$-" in *e*) ;; *) exit 8 ;; esac': 0,
    }
    given = [Task(command, f"t{number}") for number, command in enumerate(commands)]
    placed = job(wd, *given, resources=Resources(prepend_script=lines))
    assert run(placed) == 1
    assert codes(placed) == list(commands.values())


def test_what_comes_after_the_tasks_runs_as_the_lines_of_the_user_have_it(wd: Path) -> None:
    after = ('echo "$-" >flags', "alias_of_mine", "false", "echo more >more")
    before = ("shopt -s expand_aliases", "alias alias_of_mine='echo alias >alias'", "set -e")
    placed = job(wd, Task("true", "a"), resources=Resources(prepend_script=before, append_script=after))
    assert run(placed) == 1
    assert "e" in (wd / "flags").read_text()
    assert (wd / "alias").read_text() == "alias\n"
    assert not (wd / "more").exists()
    assert (codes(placed), record(placed).exit_code) == ([0], 1)


@pytest.mark.parametrize("where", ["prepend_script", "append_script"])
def test_a_trap_of_the_user_at_the_end_of_the_script_runs_before_its_record_is_written(wd: Path, where: str) -> None:
    line = "trap 'ls *_result.json >seen 2>/dev/null; echo \"it'\"'\"'s over\" >bye; exit 5' EXIT"
    placed = job(wd, Task("true", "a"), resources=Resources(**{where: (line,)}))  # type: ignore[arg-type]
    assert run(placed) == 0
    assert (wd / "bye").read_text() == "it's over\n"
    assert (wd / "seen").read_text() == ""
    assert (codes(placed), record(placed).exit_code) == ([0], 0)


def test_a_line_of_the_user_that_fails_under_errexit_is_told_by_the_record(wd: Path) -> None:
    placed = job(wd, Task("true", "a"), resources=Resources(prepend_script=("set -e", "cd /no/such/folder")))
    assert run(placed) == 1
    assert (record(placed).exit_code, record(placed).tasks) == (1, ())
