"""The `pilotfish` command as a user types it: output, exit codes, and one clear line for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager


def pilotfish(*words: str, wd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    return subprocess.run(command, cwd=wd, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_one_task_per_line_runs_and_failures_are_shown_with_their_stderr(wd: Path) -> None:
    (wd / "tasks.txt").write_text("# comment\necho $((6 * 7)) > answer\nls /no/such/place\n")
    done = pilotfish("run", "tasks.txt", "--output", "logs", wd=wd)
    assert done.returncode == 1
    assert "2 tasks: 1 succeeded, 1 failed" in done.stderr
    assert "line-3: FAILED, exit code 2" in done.stderr
    assert "No such file or directory" in done.stderr
    assert (wd / "answer").read_text() == "42\n"


def test_a_command_runs_as_often_as_asked_and_the_summary_is_json(wd: Path) -> None:
    done = pilotfish("run", "--iterations", "20", "--json", "--", "touch", "f-${it}", wd=wd)
    summary = json.loads(done.stdout)
    assert done.returncode == 0
    assert (summary["tasks"], summary["succeeded"], summary["failed"]) == (20, 20, 0)
    assert len(list(wd.glob("f-*"))) == 20


def test_what_lines_and_commands_print_is_kept_without_being_asked(wd: Path) -> None:
    """One file for both streams, in the order in which they were written."""
    done = pilotfish("run", "-", wd=wd, given="echo out; echo err >&2; exit 4\n")
    assert (wd / "pilotfish-output" / "line-1.out").read_text() == "out\n"
    assert (wd / "pilotfish-output" / "line-1.err").read_text() == "err\n"
    assert "    | err" in done.stderr
    pilotfish("run", "--no-output", "--wd", "other", "--", "echo", "x", wd=wd)
    assert not (wd / "other" / "pilotfish-output").exists()


def test_the_same_command_line_with_resume_runs_only_what_is_missing(wd: Path) -> None:
    (wd / "tasks.txt").write_text("echo 1 >> ran-1\nfalse\n")
    assert pilotfish("run", "tasks.txt", wd=wd).returncode == 1
    (wd / "tasks.txt").write_text("echo 1 >> ran-1\nfalse\necho 3 >> ran-3\n")
    summary = json.loads(pilotfish("run", "tasks.txt", "--resume", ".", "--json", wd=wd).stdout)
    assert (summary["tasks"], summary["failed"]) == (3, 1)
    assert [(wd / name).read_text() for name in ("ran-1", "ran-3")] == ["1\n", "3\n"]


def test_a_resume_refuses_jobs_without_a_name(wd: Path) -> None:
    (wd / "jobs.json").write_text('[{"name": "a", "execution": {"exec": "true"}}]')
    pilotfish("run", "jobs.json", wd=wd)
    (wd / "jobs.json").write_text('[{"execution": {"exec": "true"}}]')
    done = pilotfish("run", "jobs.json", "--resume", ".", wd=wd)
    assert done.returncode == 2
    assert "jobs[0]: without a fixed name nobody can tell whether it ran" in done.stderr


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", '[{"name": "a", "execution": {"exec": "true"}}]'),
        ("json", '[{"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "true"}}]}]'),
        ("yaml", "- name: a\n  execution: {exec: 'true'}\n"),
        ("toml", '[[jobs]]\nname = "a"\nexecution = {exec = "true"}\n'),
    ],
)
def test_files_of_jobs_in_each_format_run(wd: Path, suffix: str, text: str) -> None:
    (wd / f"jobs.{suffix}").write_text(text)
    assert pilotfish("run", f"jobs.{suffix}", wd=wd).returncode == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "nothing.json"], "nothing.json: cannot be read: No such file or directory"),
        (["run", "bad.json"], "bad.json: is not JSON: Trailing comma, which JSON does not allow: line 1 column 2"),
        (["run", "bad.yaml"], "bad.yaml: is not YAML"),
        (["run"], "nothing to run; give a FILE"),
        (["servce"], "Did you mean 'service'?"),
        (["service", "--nodes", "0"], "must not be less than 1"),
        (["service", "--log", "loud"], "--log: 'loud' is not one of"),
    ],
)
def test_bad_input_is_one_clear_error_and_exit_code_2(wd: Path, words: list[str], text: str) -> None:
    (wd / "bad.json").write_text("[,]")
    (wd / "bad.yaml").write_text("a: [")
    done = pilotfish(*words, wd=wd)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("job", "code", "place"),
    [
        ('{"name": "a", "execution": {"exec": "true"}, "resources": {"mem": "lots"}}', 2, "jobs[0].resources.mem: "),
        (
            '{"name": "a", "execution": {"exec": "true"}, "resources": {"numCores": 99}}',
            2,
            "jobs[0].resources: Not enough resources",
        ),
    ],
)
def test_a_job_the_pilot_refuses_is_one_clear_error_that_names_its_place_once(
    wd: Path, job: str, code: int, place: str
) -> None:
    (wd / "jobs.json").write_text(f"[{job}]")
    done = pilotfish("run", "--nodes", "1", "jobs.json", wd=wd)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert errors[0].count(place) == 1


def test_what_is_here_can_be_seen_without_a_pilot(wd: Path) -> None:
    shown = json.loads(pilotfish("resources", "--here", "--json", "--nodes", "a:2", wd=wd).stdout)
    assert shown["nodes"][0]["name"] == "a"
    assert shown["sources"] == [{"what": "nodes", "value": "a:2", "where": "--nodes"}]
    assert "cores" in pilotfish("resources", "--here", "--resources", "local", wd=wd).stdout
    assert pilotfish("resources", "--here", "--resources", "slurm", wd=wd).returncode == 2


def test_without_a_pilot_clients_say_where_they_looked(wd: Path) -> None:
    done = pilotfish("jobs", "-c", str(wd), wd=wd)
    assert done.returncode == 3
    assert f"{wd}: no running pilot found" in done.stderr


def test_client_commands_talk_to_a_running_pilot(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}):
        assert pilotfish("submit", "-", wd=wd, given="true\nfalse\n").stdout == "2 jobs submitted\n"
        assert "2 tasks, 1 failed" in pilotfish("watch", wd=wd).stdout
        told = json.loads(pilotfish("jobs", "--json", wd=wd).stdout)
        assert told["version"] == 1
        assert {name: entry["status"] for name, entry in told["jobs"].items()} == {
            "line-1": "SUCCEED",
            "line-2": "FAILED",
        }
        info = json.loads(pilotfish("info", "line-2", "--json", wd=wd).stdout)
        assert info["jobs"]["line-2"]["data"]["runtime"]["exit_code"] == "1"
        assert pilotfish("cancel", "line-1", wd=wd).returncode == 1
        assert pilotfish("remove", "line-1", wd=wd).stdout == "1 removed\n"
        assert json.loads(pilotfish("resources", "--json", wd=wd).stdout)["total_cores"] == 1
        events = [json.loads(line) for line in pilotfish("watch", "--json", wd=wd).stdout.splitlines()]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_script_can_ask_whether_all_is_done_and_why_something_waits(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        assert pilotfish("status", "--all-finished", wd=wd).returncode == 0
        pilot.submit(Jobs().add(name="a", exec="sleep", args=["1000"]).add(name="b", exec="true", after="a"))
        assert pilotfish("status", "--all-finished", wd=wd).returncode == 1
        assert "it waits for a, which is " in pilotfish("info", "b", "--explain", wd=wd).stdout
        pilot.cancel(["a"])
