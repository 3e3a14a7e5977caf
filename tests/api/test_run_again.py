"""`pilotfish run FILE --continue`: a task is what it does, so an edited file runs what is new in it and nothing twice.

Each task writes a line when it runs, so that what ran, and how often, can be read from a file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

# A shell that starts tests in the background lets them ignore Ctrl-C, and children inherit that.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "pilotfish"
from pilotfish.__main__ import main
main()
"""


class Runs:
    """Runs of one file in one folder."""

    def __init__(self, wd: Path, name: str = "tasks.txt") -> None:
        self.wd = wd
        self.name = name

    def lines(self, *names: str) -> None:
        """A file with one line for each name; `fail-...` fails, `wait-...` waits for a file `go`."""
        ends = {"fail": "; exit 3", "wait": "; touch waits; [ -e go ] || sleep 1000; echo $n >> ended"}
        lines = [f"n={name}; echo $n >> ran; echo of-$n{ends.get(name.split('-')[0], '')}\n" for name in names]
        (self.wd / self.name).write_text("".join(lines))

    def jobs(self, *jobs: dict[str, Any]) -> None:
        self.name = "jobs.json"
        (self.wd / self.name).write_text(json.dumps(jobs))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", RUN, "run", "--nodes", "2", "--json", *words]

    def run(self, *words: str, go_on: bool = True, code: int = 0, file: bool = True) -> dict[str, Any]:
        """The summary; `said` is what was written to stderr, `ran` what ran now, in alphabetical order."""
        before = self.ran()
        named = [self.name] if file else []
        done = subprocess.run(
            self.command(*named, *(["--continue"] if go_on else []), *words),
            cwd=self.wd,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        summary["said"] = done.stderr
        summary["ran"] = sorted((Counter(self.ran()) - Counter(before)).elements())
        return summary

    def ran(self) -> list[str]:
        return (self.wd / "ran").read_text().split() if (self.wd / "ran").exists() else []


@pytest.fixture
def runs(wd: Path) -> Runs:
    return Runs(wd)


def counts(summary: dict[str, Any]) -> tuple[int, int, int, int]:
    return summary["tasks"], summary["succeeded"], summary["failed"], summary["stopped"] + summary["not_run"]


def writes(**parts: Any) -> dict[str, Any]:
    """A job that writes a line; `text` is the line, `name` by default `j`."""
    text = parts.pop("text", "j")
    return {"name": "j", "execution": {"exec": "sh", "args": ["-c", f"echo {text} >> ran"]}, **parts}


# --- what has failed ----------------------------------------------------------------------------------------------------


def test_what_has_failed_runs_again_when_that_is_asked_for(runs: Runs) -> None:
    runs.lines("fail-a", "b", "fail-c")
    runs.run(code=1)
    again = runs.run("--retry-failed", code=1)
    assert (again["ran"], counts(again)) == (["fail-a", "fail-c"], (3, 1, 2, 0))
    assert "2 tasks failed before and run again; 1 as before" in again["said"]
    assert runs.run("--retry-code", "4", code=1)["ran"] == []
    assert runs.run("--retry-code", "4", "--retry-code", "3", code=1)["ran"] == ["fail-a", "fail-c"]
    assert runs.run("--retry-reason", "out of memory", code=1)["ran"] == []
    needs = runs.run("--retry-failed", file=False, code=2)["said"]
    assert "--retry-failed: needs the tasks; give the FILE or -- COMMAND again" in needs


def test_one_iteration_that_has_failed_runs_again_with_what_waits_for_it(runs: Runs) -> None:
    flaky = "echo ${it} >>ran; [ ${it} != 1 ] || [ -e mended ]"
    job = {"name": "a", "execution": {"exec": "sh", "args": ["-c", flaky]}, "iteration": {"stop": 3}}
    runs.jobs(job, writes(text="after", dependencies={"after": ["a"]}))
    runs.run(code=1)
    (runs.wd / "mended").touch()
    again = runs.run("--retry-failed")
    assert (again["ran"], counts(again)) == (["1", "after"], (4, 4, 0, 0))


# --- lines --------------------------------------------------------------------------------------------------------------


def test_each_edit_runs_what_is_new_in_the_file_and_nothing_twice(runs: Runs) -> None:
    """One file after another in the same folder: what runs, the counts, and what is said of the difference."""
    story: list[tuple[str, str, tuple[int, int, int, int], str]] = [
        ("fail-a b c", "b c fail-a", (3, 2, 1, 0), ""),
        ("fail-a b c", "", (3, 2, 1, 0), ""),  # the same: the failure stays one
        ("a b C", "C a", (3, 3, 0, 0), "2 tasks changed; 1 as before"),
        ("x a b C", "x", (4, 4, 0, 0), "1 task new; 3 as before"),
        ("C a x b", "", (4, 4, 0, 0), ""),  # in another order
        ("C x", "", (2, 2, 0, 0), "2 tasks no longer in tasks.txt; 2 as before"),
        ("C a x c a a", "a a", (6, 6, 0, 0), "2 tasks new; 4 as before"),  # a and c ran long ago
        ("a C", "", (2, 2, 0, 0), "4 tasks no longer in tasks.txt; 2 as before"),  # one of three equal ones
        ("fail-a C", "", (2, 1, 1, 0), "1 task no longer in tasks.txt; 2 as before"),  # back to what failed
        ("a C", "", (2, 2, 0, 0), ""),
    ]
    for lines, ran, wanted, said in story:
        runs.lines(*lines.split())
        found = runs.run(code=int(wanted[2] > 0))
        assert (" ".join(found["ran"]), counts(found)) == (ran, wanted), lines
        assert said in found["said"], lines
    assert counts(runs.run(file=False)) == (2, 2, 0, 0)


def test_what_a_new_task_prints_does_not_overwrite_what_another_has_printed(runs: Runs) -> None:
    runs.lines("a", "b")
    runs.run(go_on=False)
    kept = {path.name: path.read_text() for path in (runs.wd / "pilotfish-output").iterdir()}
    runs.lines("x", "a", "B")
    runs.run()
    now = {path.name: path.read_text() for path in (runs.wd / "pilotfish-output").iterdir()}
    assert kept.items() <= now.items()
    assert sorted(filter(None, now.values())) == ["of-B\n", "of-a\n", "of-b\n", "of-x\n"]


def test_what_comes_by_a_pipe_is_compared_too(runs: Runs) -> None:
    for text, wanted in (("echo a >> ran\necho b >> ran\n", ["a", "b"]), ("echo c >> ran\necho a >> ran\n", ["c"])):
        before = runs.ran()
        done = subprocess.run(
            runs.command("-", "--continue"),
            cwd=runs.wd,
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        assert sorted(Counter(runs.ran()) - Counter(before)) == wanted, done.stderr


# --- options ------------------------------------------------------------------------------------------------------------


def test_limits_matter_only_to_what_has_not_succeeded(runs: Runs) -> None:
    """The second task is over its time at first."""
    (runs.wd / "tasks.txt").write_text("echo a >> ran\necho b >> ran; [ -e go ] || sleep 1000\n")
    runs.run("--wt", "1s", go_on=False, code=1)
    (runs.wd / "go").touch()
    assert runs.run("--wt", "1s", code=1)["ran"] == []
    again = runs.run("--wt", "10m")
    assert (again["ran"], counts(again)) == (["b"], (2, 2, 0, 0))


def test_other_cores_are_another_task_and_the_default_is_one_wherever_output_goes(runs: Runs) -> None:
    runs.lines("a")
    runs.run(go_on=False)
    assert runs.run("--cores", "1", "--output", "elsewhere")["ran"] == []
    assert runs.run("--cores", "2")["ran"] == ["a"]


def test_a_command_gets_more_iterations_or_is_another(runs: Runs) -> None:
    command = ["--", "sh", "-c", "echo $$$$0-${it} >> ran", "a"]
    assert runs.run("--iterations", "2", *command, file=False, go_on=False)["ran"] == ["a-0", "a-1"]
    assert runs.run("--iterations", "4", *command, file=False)["ran"] == ["a-2", "a-3"]
    assert (runs.wd / "pilotfish-output" / "task-3.out").exists()
    again = runs.run("--iterations", "2", *command[:-1], "b", file=False)
    assert (again["ran"], counts(again)) == (["b-0", "b-1"], (2, 2, 0, 0))


# --- job descriptions ---------------------------------------------------------------------------------------------------


def test_each_part_of_what_a_job_does_makes_it_another(runs: Runs) -> None:
    changes: dict[str, dict[str, Any]] = {
        "env": {"env": {"X": "2"}},
        "wd": {"wd": "sub", "args": ["-c", "echo wd >> ../ran"]},
        "stdout": {"stdout": "elsewhere"},
        "args": {"args": ["-c", "echo args >> ran", "other"]},
        "exec": {"exec": "bash"},
    }
    jobs = {name: writes(name=name, text=name) for name in [*changes, "none"]}
    runs.jobs(*jobs.values())
    runs.run(go_on=False)
    for name, change in changes.items():
        jobs[name]["execution"] |= change
    runs.jobs(*jobs.values())
    assert runs.run()["ran"] == sorted(changes)


def test_what_says_the_same_in_other_words_is_the_same(runs: Runs) -> None:
    """Another format, another order of members, defaults written down, numbers for text, another name."""
    runs.jobs(writes(execution={"exec": "sh", "args": ["-c", "echo j >> ran", "1"]}))
    runs.run(go_on=False)
    runs.name = "jobs.yaml"
    (runs.wd / "jobs.yaml").write_text(
        "jobs:\n- resources: {numCores: {exact: 1}}\n  priority: 3\n  retries: 0\n"
        "  execution: {args: [-c, echo j >> ran, 1], exec: sh, env: {}}\n  name: other\n"
    )
    assert runs.run()["ran"] == []


def test_a_job_runs_the_iterations_it_has_not_run(runs: Runs) -> None:
    changes: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
        ({"stop": 2}, {"stop": 4}, ["2", "3"]),
        ({"start": 1, "stop": 3}, {"start": 0, "stop": 4}, ["0", "3"]),
        ({"stop": 4}, {"start": 1, "stop": 3}, []),
        ({"values": ["a", "b"]}, {"values": ["x", "a", "y", "b"]}, ["x", "y"]),
        ({"values": ["a", "b"]}, {"values": ["b"]}, []),
        ({"values": ["a", "a"]}, {"values": ["a", "a", "a"]}, ["a"]),
        ({"values": ["0", "1"]}, {"stop": 3}, ["2"]),
    ]

    def write(which: int) -> None:
        runs.jobs(
            *[
                writes(name=f"j{number}", text=f"j{number}-${{itval}}", iteration=change[which])
                for number, change in enumerate(changes)
            ]
        )

    write(0)
    assert counts(runs.run(go_on=False)) == (16, 16, 0, 0)
    write(1)
    again = runs.run()
    assert again["ran"] == sorted(f"j{number}-{value}" for number, (_, _, new) in enumerate(changes) for value in new)
    assert counts(again) == (21, 21, 0, 0)
    assert runs.run()["ran"] == []


def test_new_iterations_have_the_index_and_the_job_name_of_the_file(runs: Runs) -> None:
    runs.jobs(writes(text="${jname}-${it}-${itval}", iteration={"values": ["a"]}))
    runs.run(go_on=False)
    runs.jobs(writes(text="${jname}-${it}-${itval}", iteration={"values": ["a", "b"]}))
    assert runs.run()["ran"] == ["j-1-b"]


def test_what_waits_for_something_that_is_new_runs_again(runs: Runs) -> None:
    join = writes(name="join", text="join", dependencies={"after": ["j"]})
    other = writes(name="other", text="other", dependencies={"after": ["k"]})
    runs.jobs(writes(text="${it}", iteration={"stop": 2}), join, writes(name="k", text="k"), other)
    runs.run(go_on=False)
    runs.jobs(writes(text="${it}", iteration={"stop": 3}), join, writes(name="k", text="k"), other)
    assert runs.run()["ran"] == ["2", "join"]
    assert runs.ran()[-2:] == ["2", "join"]
    assert runs.run()["ran"] == []


def test_index_by_index_only_what_waits_for_something_new_runs(runs: Runs) -> None:
    def jobs(*values: str) -> list[dict[str, Any]]:
        second = writes(
            name="k",
            text="k-${it}",
            iteration={"stop": len(values)},
            dependencies={"after": ["j:${it}"]},
        )
        return [writes(text="${itval}", iteration={"values": list(values)}), second]

    runs.jobs(*jobs("a", "b"))
    runs.run(go_on=False)
    runs.jobs(*jobs("a", "B", "c"))
    again = runs.run()
    assert (again["ran"], counts(again)) == (["B", "c", "k-1", "k-2"], (6, 6, 0, 0))
    assert runs.run()["ran"] == []


def test_a_dependent_of_a_failure_that_was_mended_runs(runs: Runs) -> None:
    join = writes(name="join", text="join", dependencies={"after": ["j"]})
    runs.jobs(writes(execution={"exec": "false"}), join)
    assert counts(runs.run(go_on=False, code=1)) == (2, 0, 2, 0)
    runs.jobs(writes(execution={"exec": "true"}), join)
    again = runs.run()
    assert (again["ran"], counts(again)) == (["join"], (2, 2, 0, 0))


# --- work that was stopped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_edited_while_it_was_stopped_only_what_is_in_the_file_runs(
    runs: Runs, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    """One task runs, two wait: one of these goes, one is changed, one is new. Twice in a row."""
    runs.lines("a", "wait-b", "wait-c", "gone", "old")
    process = subprocess.Popen(
        [*runs.command("tasks.txt"), "--cores", "2"],
        cwd=runs.wd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((runs.wd / "waits").exists, "the second task runs", 60.0)
    children = psutil.Process(process.pid).children(recursive=True) if number == signal.SIGKILL else []
    everyone: list[psutil.Process | subprocess.Popen[bytes]] = [*children, process]
    for each in everyone:
        with suppress(psutil.NoSuchProcess):  # a worker may have gone with its agent by now
            each.send_signal(number)
    process.wait(60)
    assert runs.ran() == ["a", "wait-b"]
    (runs.wd / "go").touch()
    runs.lines("new", "a", "wait-b", "wait-c", "OLD")
    again = runs.run("--cores", "2")
    assert (again["ran"], counts(again)) == (["OLD", "new", "wait-b", "wait-c"], (5, 5, 0, 0))
    assert (runs.wd / "ended").read_text().split() == ["wait-b", "wait-c"]
    runs.lines("new", "a", "wait-b", "wait-c", "OLD", "gone", "old")
    assert runs.run("--cores", "2")["ran"] == ["gone", "old"]


def test_a_file_added_to_an_earlier_run_leaves_its_tasks_alone(runs: Runs) -> None:
    runs.lines("a", "fail-b")
    runs.run(go_on=False, code=1)
    runs.name = "more.txt"
    runs.lines("a", "c")
    again = runs.run(code=1)
    assert (again["ran"], counts(again)) == (["c"], (3, 2, 1, 0))
    assert "1 task of earlier files" in again["said"]


def test_an_earlier_run_that_has_not_written_down_its_tasks_is_not_guessed_at(runs: Runs) -> None:
    """As one of an older version: its line 1 may have been any command."""
    runs.lines("a")
    runs.run(go_on=False)
    next(runs.wd.glob(".qcgpjm-service-*/run-tasks.json")).unlink()
    refused = runs.run(code=2)
    assert "the earlier run has not written down what its tasks were" in refused["said"]
    assert runs.run(file=False)["ran"] == []


def test_jobs_that_are_refused_leave_the_earlier_ones_as_they_were(runs: Runs) -> None:
    runs.jobs(writes(text="a"))
    runs.run(go_on=False)
    runs.jobs(writes(text="b"), writes(name="k", resources={"numCores": 99}))
    assert "Not enough resources" in runs.run(code=2)["said"]
    assert counts(runs.run(file=False)) == (1, 1, 0, 0)
    runs.jobs(writes(text="a"))
    assert runs.run()["ran"] == []


def test_the_folder_may_be_moved(runs: Runs) -> None:
    runs.lines("a", "b")
    runs.run(go_on=False)
    moved = runs.wd / "moved"
    moved.mkdir()
    for path in list(runs.wd.iterdir()):
        if path != moved:
            os.rename(path, moved / path.name)
    other = Runs(moved)
    other.lines("a", "b", "c")
    again = other.run()
    assert (again["ran"], counts(again)) == (["c"], (3, 3, 0, 0))


def test_only_chooses_among_what_would_run(runs: Runs) -> None:
    """What is left out waits for the next session; what has ended and is not chosen stays what it is."""

    def sweep(*words: str) -> tuple[list[str], dict[str, Any], str]:
        command = ("--grid", "i=range(4)", "--", "sh", "-c", "echo {i} >> ran; exit $(( {i} % 3 ))")
        before = runs.ran()
        done = subprocess.run(runs.command(*words, *command), cwd=runs.wd, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        return sorted(runs.ran()[len(before) :]), json.loads(done.stdout), done.stderr

    ran, summary, told = sweep("--only", "i > 1")
    assert (ran, counts(summary)) == (["2", "3"], (2, 1, 1, 0))
    assert told.splitlines()[0] == "--only leaves out 2 tasks: they wait for a later --continue"
    ran, _, _ = sweep("--continue", "--retry-failed", "--only", "i == 0 or code == 1")
    assert ran == ["0"]
    ran, summary, _ = sweep("--continue", "--retry-failed", "--only", "code == 2")
    assert (ran, counts(summary)) == (["2"], (3, 2, 1, 0))
    ran, summary, _ = sweep("--continue")
    assert (ran, counts(summary)) == (["1"], (4, 2, 2, 0))
