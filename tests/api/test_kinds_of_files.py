"""What `run` and `submit` take for a list of commands, and what they refuse because it is something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api import jobfile
from pilotfish.pilot.model.errors import UsageError

SCRIPT = "cd build\nrm -rf *\n"


def scripts_of(source: str, form: str | None = None) -> list[str]:
    return [job["execution"]["script"] for job in jobfile.load(source, form).jobs]


@pytest.mark.parametrize("suffix", [".txt", ".lst", ".list", ".TXT"])
def test_names_that_say_lines_are_lines(wd: Path, suffix: str) -> None:
    (wd / f"tasks{suffix}").write_bytes(b"\xef\xbb\xbfecho one\r\n# a comment\r\n\r\necho two")
    assert scripts_of(str(wd / f"tasks{suffix}")) == ["echo one", "echo two"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *[(f"params{suffix}", "pilotfish run --params ") for suffix in (".csv", ".tsv", ".jsonl", ".ndjson")],
        *[
            (name, "--format lines")
            for name in ("notes.md", "page.html", "out.log", "tasks.txt.bak", "README", "tasks")
        ],
    ],
)
def test_other_names_are_refused_with_what_to_do_instead(wd: Path, name: str, remedy: str) -> None:
    (wd / name).write_text("touch ran\n")
    with pytest.raises(UsageError) as refused:
        jobfile.load(str(wd / name))
    assert remedy in str(refused.value)
    assert str(wd / name) in str(refused.value)


def test_a_program_without_a_suffix_is_to_be_written_behind_dashes(wd: Path) -> None:
    (wd / "simulate").write_text("true\n")
    (wd / "simulate").chmod(0o755)
    with pytest.raises(UsageError, match=r"pilotfish run -- /.*/simulate"):
        jobfile.load(str(wd / "simulate"))


@pytest.mark.parametrize(
    ("name", "program"),
    [(f"job{suffix}", "bash") for suffix in (".sh", ".bash", ".slurm", ".slr", ".sbatch", ".pbs")]
    + [("simulate.py", "python3"), ("simulate.R", "Rscript"), ("job.fish", "fish")],
)
def test_a_script_is_one_task(wd: Path, name: str, program: str) -> None:
    (wd / name).write_text(SCRIPT)
    (job,) = jobfile.load(str(wd / name)).jobs
    assert job == {"name": name.partition(".")[0], "execution": {"exec": program, "args": [str(wd / name)]}}


@pytest.mark.parametrize("name", ["job.sh", "job"])
def test_a_program_with_an_interpreter_of_its_own_is_started_as_it_is(wd: Path, name: str) -> None:
    (wd / name).write_text("#!/usr/bin/env fish\necho one\n")
    (wd / name).chmod(0o755)
    (job,) = jobfile.load(str(wd / name)).jobs
    assert job["execution"] == {"exec": str(wd / name), "args": []}


def test_the_head_of_a_script_says_what_it_needs(wd: Path) -> None:
    head = "#!/bin/bash\n# about\n#PILOTFISH --cores 4 --wt 10m\n\n#PILOTFISH --name 'sim' --gpus=1 --retries 2 --stdout o\n"
    (wd / "job.sh").write_text(f"{head}echo one\n#PILOTFISH --cores 8\n")
    (job,) = jobfile.load(str(wd / "job.sh")).jobs
    assert job["name"] == "sim"
    assert job["resources"] == {"numCores": 4, "wt": "10m", "nodeCrs": {"gpu": 1}}
    assert (job["retries"], job["execution"]["stdout"]) == (2, "o")


@pytest.mark.parametrize(
    ("directive", "told"),
    [
        ("--cors 4", "No such option"),
        ("--cores four", "Invalid value for '--cores'"),
        ("--cores 0", "Invalid value for '--cores'"),
        ("4", "Got unexpected extra argument"),
        ("--name 'x", "No closing quotation"),
    ],
)
def test_a_directive_that_is_wrong_is_told_with_its_line(wd: Path, directive: str, told: str) -> None:
    (wd / "job.sh").write_text(f"#!/bin/sh\n#PILOTFISH {directive}\ntrue\n")
    with pytest.raises(UsageError) as refused:
        jobfile.load(str(wd / "job.sh"))
    assert "job.sh: line 2: " in str(refused.value)
    assert told in str(refused.value)


def test_any_name_is_lines_when_that_is_said(wd: Path) -> None:
    (wd / "tasks").write_text("echo one\n")
    assert scripts_of(str(wd / "tasks"), "lines") == ["echo one"]


@pytest.mark.parametrize("form", [None, "lines"])
@pytest.mark.parametrize("begin", ["", "\ufeff", "\n"])
def test_a_first_line_of_a_script_is_refused_under_any_name(wd: Path, begin: str, form: str | None) -> None:
    (wd / "tasks.txt").write_text(f"{begin}#!/bin/bash\n{SCRIPT}")
    with pytest.raises(UsageError, match=r"begins with #!.*pilotfish run -- bash "):
        jobfile.load(str(wd / "tasks.txt"), form)


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        "export X=1\necho $X\n",
        "x=5\necho $x\n",
        'x="a b"\necho $x\n',
        "set -euo pipefail\nmake\n",
        "module load gcc/12\nmake\n",
        "for i in 1 2; do\n  echo $i\ndone\n",
        "if true; then\n  echo yes\nfi\n",
        "f() {\n  echo f\n}\n",
        "cat <<EOF > x\nsome text\nEOF\n",
        "echo a \\\n  b\n",
    ],
)
def test_a_script_is_not_cut_into_lines_even_without_its_first_line(wd: Path, text: str) -> None:
    (wd / "tasks.txt").write_text(text)
    with pytest.raises(UsageError, match=r"line \d: .*each line is a task of its own.*pilotfish run -- bash "):
        jobfile.load(str(wd / "tasks.txt"))


@pytest.mark.parametrize(
    "line",
    [
        *["cd", "cd build;", "cd -- build", "cd 'my build'", 'cd "$HOME/my build"', 'cd "$(dirname "$0")"'],
        *["cd build || exit 1", "cd build || { echo no; exit 1; }", "cd build 2>&1", "pushd build > /dev/null", "popd"],
        *["set -e;", "module load gcc; ", "ml gcc/12", "module swap gcc intel", "conda activate env"],
        *["source env/bin/activate", ". activate", "umask 077", "ulimit -s unlimited", "unset X", "shopt -s nullglob"],
        *['export PATH="$HOME/bin:$PATH"', "readonly X=1", "x=5;"],
    ],
)
def test_a_line_that_only_changes_its_shell_is_refused_however_it_is_written(wd: Path, line: str) -> None:
    (wd / "tasks.txt").write_text(f"mkdir -p build\n{line}\nrm -rf ./*\n")
    with pytest.raises(UsageError, match=r"line 2: .*does nothing for the lines that follow"):
        jobfile.load(str(wd / "tasks.txt"))


@pytest.mark.parametrize(
    "line",
    [
        "cd build && make",
        "cd build; make",
        "cd build || mkdir build",
        "cd build & make",
        "cdo -f nc copy a b",
        "ml avail",
        "source run.sh 3",
        "ulimit -a",
        "umask",
        "x=5; echo $x",
        "X=1 ./simulate",
        "x=$(touch made)",
        "for i in 1 2; do echo $i; done",
        "[ -e x ] && echo yes",
        "{ echo a; echo b; } > out",
        "echo 'a\\'",
        "echo a\\\\",
        "echo donee",
        "set",
        ": task 1",
        "export X=$(touch made)",
        "echo a\x0cb",
    ],
)
def test_commands_that_only_look_like_parts_of_a_script_are_tasks(wd: Path, line: str) -> None:
    (wd / "tasks.txt").write_text(line + "\n")
    assert scripts_of(str(wd / "tasks.txt")) == [line.replace("$", "$$$$")]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"echo a\0b\n", "NUL"),
        (b"<!DOCTYPE html>\n<p>hello\n", "is a page"),
        (b'[{"name": "a", "execution": {"exec": "true"}}]', "holds JSON"),
        (b"\x7fELF\x02\x01\x00\x00", "NUL"),
        (b"", "there is no task in it"),
    ],
)
def test_what_is_no_list_of_commands_is_refused_whatever_it_is_called(wd: Path, content: bytes, what: str) -> None:
    (wd / "tasks.txt").write_bytes(content)
    with pytest.raises(UsageError, match=what):
        jobfile.load(str(wd / "tasks.txt"))


@pytest.mark.parametrize("words", [["run", "-"], ["submit", "-"], ["run", "tasks.txt"], ["submit", "tasks.txt"]])
def test_the_commands_run_no_line_of_a_script(wd: Path, words: list[str]) -> None:
    (wd / "tasks.txt").write_text("#!/bin/bash\ntouch ran\n")
    with open(wd / "tasks.txt") as script:
        done = subprocess.run(
            [sys.executable, "-m", "pilotfish", *words],
            cwd=wd,
            stdin=script,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "pilotfish run -- " in done.stderr
    assert [path.name for path in wd.iterdir()] == ["tasks.txt"]


def test_a_pipe_from_another_command_is_lines(wd: Path) -> None:
    """`pilotfish run <(make-tasks)`: its name tells nothing, as that of standard input."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m pilotfish run --quiet <(seq 3 | sed 's/^/touch f-/')"],
        cwd=wd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in wd.glob("f-*")) == ["f-1", "f-2", "f-3"]


def test_run_starts_a_script_once_with_what_its_head_asks_for(wd: Path) -> None:
    (wd / "job.sh").write_text("#PILOTFISH --cores 2\necho $QCG_PM_NPROCS >>out\necho two >>out\n")
    command = [sys.executable, "-m", "pilotfish", "run", "--nodes", "2", "job.sh"]
    subprocess.run(command, cwd=wd, check=True, timeout=PATIENCE_S, capture_output=True)
    assert (wd / "out").read_text() == "2\ntwo\n"
