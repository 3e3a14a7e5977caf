"""The output of many tasks in few files, and the last lines of those that fail whatever else is thrown away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager, Run
from pilotfish.api.task_output import last_lines

COMMAND = ("--", "sh", "-c", "echo out {i}; echo err {i} >&2; exit $(( {i} == 7 ))")
SWEEP = ("run", "--quiet", "--nodes", "2", "--grid", "i=range(12)")


def pilotfish(wd: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a run of twelve tasks, of which task:7 failed, with all output in streams."""
    wd = tmp_path_factory.mktemp("s")
    pilotfish(wd, *SWEEP, "--stream", *COMMAND, code=1)
    return wd


def test_all_output_is_in_a_few_files_with_an_index_that_anybody_can_read(streamed: Path) -> None:
    folder = Run("last", streamed).path / "streams"
    assert len(os.listdir(folder)) <= 2 * 3  # two nodes
    lines = [line.split("\t") for path in folder.glob("*.index") for line in path.read_text().splitlines()[1:]]
    assert {words[0] for words in lines} == {f"task:{index}" for index in range(12)}
    (path,) = (path for path in folder.glob("*.index") if "\ntask:7\t" in path.read_text())
    (words,) = (words for words in lines if words[0] == "task:7" and words[3] != "-")
    _, attempt, _, exit_code, name, start, size, *_ = words
    assert (attempt, exit_code) == ("1", "1")
    out = path.with_suffix(f".{name}").read_bytes()
    assert out[int(start) : int(start) + int(size)] == b"out 7\n"


def test_cat_tail_and_show_read_from_streams(streamed: Path) -> None:
    assert pilotfish(streamed, "cat", "last", "task:3").stdout == "out 3\n"
    assert pilotfish(streamed, "cat", "last", "task:3", "--stderr").stdout == "err 3\n"
    assert pilotfish(streamed, "tail", "-f", "last", "task:11").stdout == "out 11\n"
    assert json.loads(pilotfish(streamed, "tail", "last", "task:4", "--json").stdout)["lines"] == ["out 4"]
    assert "task:7 i=7: FAILED exit code 1\n    | err 7\n" in pilotfish(streamed, "show").stdout


def test_cat_and_show_take_an_expression(streamed: Path) -> None:
    assert (
        pilotfish(streamed, "cat", "last", "--only", "i in (2, 7)", "task:2", "task:7").stdout.count("==> task:") == 2
    )
    assert pilotfish(streamed, "cat", "last", "--only", "code == 1").stdout == "==> task:7 <==\nout 7\n"
    assert pilotfish(streamed, "show", "--only", "i > 6 and code == 1").stdout.splitlines()[1].startswith("task:7 ")
    assert pilotfish(streamed, "show", "--only", "j > 6", code=2).stderr.startswith("Error: --only: there is no 'j'; ")


def test_the_last_lines_of_a_failed_task_are_kept_though_output_is_thrown_away(wd: Path) -> None:
    """Those of a success are not, and a long stderr takes no more room than the last of it."""
    command = ("--", "sh", "-c", "yes {i} | head -300000 >&2; echo the end {i} >&2; exit $(( {i} == 7 ))")
    done = pilotfish(wd, *SWEEP, "--no-output", *command, code=1)
    assert "    | 7\n    | the end 7\n" in done.stderr
    assert pilotfish(wd, "tail", "-n1", "last", "task:7", "--stderr").stdout == "the end 7\n"
    assert "was not kept" in pilotfish(wd, "cat", "last", "task:3", "--stderr", code=2).stderr
    assert sum(path.stat().st_size for path in (Run("last", wd).path / "streams").iterdir()) < 10_000


def test_so_they_are_of_any_job_and_when_it_says_dev_null(wd: Path) -> None:
    words = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    execution = {"exec": sys.executable, "args": ["-c", words]}
    jobs = Jobs().add_std(name="a", execution=execution)
    jobs.add_std(name="b", execution=execution | {"stdout": "/dev/null", "stderr": "/dev/null"})
    with LocalManager(["--wd", wd, "--nodes", "2"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(jobs)
        pilot.wait4all()
    run = Run("last", wd)
    assert [last_lines(run.path, run.task(name), 5) for name in "ab"] == ["why", "why"]


def test_a_job_may_name_one_file_and_stream_the_rest(wd: Path) -> None:
    jobs = Jobs().add_std(name="a", execution={"script": "echo 1; echo 2 >&2", "stdout": "a.out", "stream": True})
    with LocalManager(["--wd", wd, "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(jobs)
        pilot.wait4all()
    assert (wd / "a.out").read_text() == "1\n"
    assert pilotfish(wd, "cat", "last", "a", "--stderr").stdout == "2\n"
    assert pilotfish(wd, "cat", "last", "a").stdout == "1\n"


def test_output_of_before_a_kill_and_after_it_is_there(wd: Path, wait_until: Callable[..., None]) -> None:
    """The whole run is killed while a task is half done; the next attempt of it begins anew, and both can be read."""
    tasks = wd / "tasks.txt"
    tasks.write_text("echo whole\necho half; test -e go || sleep 1000; echo rest\n")
    words = [
        sys.executable,
        "-m",
        "pilotfish",
        "run",
        "-q",
        "--nodes",
        "1",
        "--stream",
        "--kill-grace",
        "0.1",
        "tasks.txt",
    ]
    process = subprocess.Popen(words, cwd=wd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def printed(task: str) -> str:
        command = [sys.executable, "-m", "pilotfish", "cat", "last", task]
        return subprocess.run(command, cwd=wd, capture_output=True, text=True, check=False).stdout

    wait_until(lambda: printed("line-2") == "half\n", "the second task to print")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (wd / "go").touch()
    wait_until(lambda: Run("last", wd).state != "running", "the pilot to end with its owner")
    assert printed("line-2") == "half\n"
    pilotfish(wd, "run", "-q", "--nodes", "1", "--stream", "tasks.txt", "--continue")
    assert (printed("line-1"), printed("line-2")) == ("whole\n", "half\nrest\n")


def test_a_task_that_empties_its_output_takes_nothing_from_others(wd: Path) -> None:
    """As a shell does for `>/dev/stdout`."""
    (wd / "tasks.txt").write_text("echo first\necho second >/dev/stdout\necho lost; echo third >/dev/stdout\n")
    pilotfish(wd, "run", "-q", "--nodes", "1", "--stream", "tasks.txt")
    printed = [pilotfish(wd, "cat", "last", f"line-{number}").stdout for number in (1, 2, 3)]
    assert printed == ["first\n", "second\n", "third\n"]


def test_a_very_long_output_stays_in_a_file_of_its_own(wd: Path) -> None:
    (wd / "tasks.txt").write_text("echo a\nhead -c 5000000 /dev/zero\necho b\n")
    pilotfish(wd, "run", "-q", "--nodes", "1", "--stream", "tasks.txt")
    sizes = {path.name.partition(".")[2]: path.stat().st_size for path in (Run("last", wd).path / "streams").iterdir()}
    assert sorted(size for name, size in sizes.items() if name.endswith("out")) == [4, 5_000_000]
    assert len(pilotfish(wd, "cat", "last", "line-2").stdout) == 5_000_000


def test_files_for_output_may_be_templates(wd: Path) -> None:
    command = ("--", "sh", "-c", "echo out {i}; echo err {i} >&2")
    grid = ("run", "-q", "--nodes", "1", "--name", "s", "--grid", "i=4,5")
    pilotfish(wd, *grid, "--output", "out/{i}", *command)
    pilotfish(wd, *grid, "--stdout", "logs/{task}.txt", "--stderr", "logs/{task}.txt", *command)
    pilotfish(wd, *grid, "--stdout", "{name}/{i}-{index}", *command)
    found = {str(path.relative_to(wd)): path.read_text() for path in wd.glob("[ols]*/**/*") if path.is_file()}
    assert found == {
        **{f"out/{i}/s-{index}.{end}": f"{end} {i}\n" for index, i in enumerate("45") for end in ("out", "err")},
        **{f"logs/s-{index}.txt": f"out {i}\nerr {i}\n" for index, i in enumerate("45")},
        **{f"s/{i}-{index}": f"out {i}\n" for index, i in enumerate("45")},
    }
    assert pilotfish(wd, "cat", "last", "s:1").stdout == "out 5\n"


def test_a_template_with_a_name_that_means_nothing_is_refused_before_anything_runs(wd: Path) -> None:
    done = pilotfish(wd, "run", "--nodes", "1", "--grid", "alpha=1,2", "--output", "out/{alhpa}", "--", "true", code=2)
    assert done.stderr.startswith("Error: --output: {alhpa} is no parameter; did you mean alpha?; ")
    assert not list(wd.iterdir())


@pytest.mark.parametrize("other", [("--output", "logs"), ("--no-output",)])
def test_stream_goes_with_no_other_place_for_output(wd: Path, other: tuple[str, ...]) -> None:
    done = pilotfish(wd, "run", "--stream", *other, "--nodes", "1", "--", "true", code=2)
    assert done.stderr == f"Error: --stream: makes no sense with {other[0]}; use one of them\n"
