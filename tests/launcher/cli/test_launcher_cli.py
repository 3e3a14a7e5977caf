"""The launcher's commands as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import PATIENCE_S

from pilotfish.launcher.cli import init
from pilotfish.launcher.description.submission import load_submission, parse_submission

SCRIPT = """# /// script
# requires-python = ">=3.8"
# [tool.pilotfish]
# work_base = "w"
# [tool.pilotfish.machine]
# batch_type = "Shell"
# context_type = "Local"
# local_root = "{wd}"
# remote_root = "{wd}/there"
# [tool.pilotfish.resources]
# group_size = 1
# [[tool.pilotfish.task_list]]
# command = "{python}"
# task_work_path = "case*"
# backward_files = ["out"]
# ///
open("out", "w").write("ran")
"""


def pilotfish(wd: Path, *words: str, code: int = 0, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    done = subprocess.run(command, cwd=wd, input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def write(wd: Path) -> Callable[..., str]:
    """Writes a submission file of these commands; its name."""

    def made(*commands: str, **more: Any) -> str:
        machine = {
            "batch_type": "Shell",
            "context_type": "Local",
            "local_root": ".",
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        tasks = [
            {"command": command, "task_work_path": f"t{number}", "task_name": f"n{number}", "backward_files": ["log"]}
            for number, command in enumerate(commands)
        ]
        given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": tasks, **more}
        (wd / "s.json").write_text(json.dumps(given))
        (wd / "w").mkdir(exist_ok=True)
        return "s.json"

    return made


def test_submit_brings_results_home_and_tells_them_to_programs(wd: Path, write: Callable[..., str]) -> None:
    done = pilotfish(wd, "submit", write("echo hi"), "--json")
    assert [row["exit_code"] for row in json.loads(done.stdout)["tasks"]] == [0]
    assert (wd / "w/t0/log").read_text() == "hi\n"
    assert "submitted as" in done.stderr
    assert "nothing submitted yet" in pilotfish(wd, "submissions").stderr


def test_a_failed_task_is_exit_code_1_and_its_logs_can_be_seen(wd: Path, write: Callable[..., str]) -> None:
    done = pilotfish(wd, "submit", write("true", "echo oh no >&2; exit 3"), code=1)
    assert "task in t1: exit code 3" in done.stderr
    (row,) = json.loads(pilotfish(wd, "submissions", "--json").stdout)["submissions"]
    assert (row["state"], row["tasks"]) == ("failed", {"tasks": 2, "done": 1, "failed": 1})
    status = json.loads(pilotfish(wd, "submissions", "status", row["id"][:6], "--json").stdout)
    assert [task["state"] for task in status["tasks"]] == ["finished", "failed"]
    assert ("failed", 1, "program") in [(job["phase"], job["attempts"], job["reason"]) for job in status["jobs"]]
    assert [task["reason"] for task in status["tasks"]] == ["", "exit code 3"]
    assert pilotfish(wd, "submissions", "logs", "last", "--stderr").stdout == "oh no\n", "of those that failed"
    assert pilotfish(wd, "submissions", "logs", "last", "n1", "--stderr").stdout == "oh no\n"
    logs = json.loads(pilotfish(wd, "submissions", "logs", "last", "n1", "--json").stdout)
    assert logs == {"version": 1, "logs": {"t1/log": "", "t1/err": "oh no\n"}}
    pilotfish(wd, "submissions", "clean", "last")
    assert list((wd / "there").iterdir()) == []


def test_detached_then_watched(wd: Path, write: Callable[..., str]) -> None:
    done = pilotfish(wd, "submit", write("sleep 0.5; echo hi"), "--detach", code=75)
    assert "submissions watch" in done.stderr
    pilotfish(wd, "submissions", "watch", "last", "--check-interval", "1")
    assert (wd / "w/t0/log").read_text() == "hi\n"


def test_what_is_there_comes_home_while_jobs_run_and_cancel_ends_them(wd: Path, write: Callable[..., str]) -> None:
    pilotfish(wd, "submit", write("echo early; touch $REMOTE_ROOT/on; sleep 1000"), "--detach", code=75)
    while not list((wd / "there").glob("*/on")):
        pass
    assert json.loads(pilotfish(wd, "submissions", "download", "last", "--json").stdout)["files"] == [
        "t0/err",
        "t0/log",
    ]
    assert (wd / "w/t0/log").read_text() == "early\n"
    assert json.loads(pilotfish(wd, "submissions", "cancel", "last", "--json").stdout)["cancelled"] == 1
    assert "cancelled" in pilotfish(wd, "submissions", "status", "last", "--offline").stdout
    assert (
        "1 of 1 jobs were cancelled" in pilotfish(wd, "submissions", "watch", "last", "--clean", "never", code=1).stderr
    )
    assert "removed" in json.loads(pilotfish(wd, "submissions", "clean", "last", "--json").stdout)


def test_a_dry_run_shows_what_would_be_submitted(wd: Path, write: Callable[..., str]) -> None:
    file = write("echo marker")
    assert "echo marker" in pilotfish(wd, "submit", file, "--dry-run").stdout
    pilotfish(wd, "submit", file, "--dry-run", "--output", "scripts")
    assert len(list((wd / "scripts").iterdir())) == 2
    assert not (wd / "there").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resources": {"group_sise": 1}}, "did you mean 'group_size'?"),
        ({"machine": "nowhere"}, "there is no machine 'nowhere'"),
        ({"task_list": []}, "at least 1 task"),
    ],
)
def test_bad_input_is_exit_code_2_with_its_place(
    wd: Path, write: Callable[..., str], change: dict[str, Any], message: str
) -> None:
    done = pilotfish(wd, "submit", write("true", **change), code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_options_of_submissions_are_refused_for_files_of_jobs(wd: Path) -> None:
    (wd / "jobs.json").write_text('[{"name": "a", "execution": {"exec": "true"}}]')
    done = pilotfish(wd, "submit", "jobs.json", "--detach", code=2)
    assert "is a file of jobs for a running pilot" in done.stderr


def test_a_host_that_cannot_be_reached_is_exit_code_3(wd: Path, write: Callable[..., str]) -> None:
    profile = {"hostname": "127.0.0.1", "port": 1, "reconnect_for": 0}
    machine = {
        "batch_type": "Slurm",
        "context_type": "SSH",
        "local_root": ".",
        "remote_root": "r",
        "remote_profile": profile,
    }
    done = pilotfish(wd, "submit", write("true", machine=machine), code=3)
    assert "cannot be reached" in done.stderr
    (wd / "m.json").write_text(json.dumps(machine))
    assert "BAD  connection" in pilotfish(wd, "doctor", "m.json", code=3).stdout


def test_the_doctor_looks_at_this_machine(wd: Path, write: Callable[..., str]) -> None:
    told = json.loads(pilotfish(wd, "doctor", write("true"), "--json").stdout)
    found = {each["what"]: each for each in told["findings"]}
    assert all(
        found[what]["ok"] for what in ("connection", "clock", "bash", "commands", "write access", "job of one second")
    )


def test_the_doctor_names_commands_that_are_not_there(wd: Path, write: Callable[..., str]) -> None:
    machine = {"batch_type": "Fugaku", "context_type": "Local", "local_root": ".", "remote_root": str(wd / "there")}
    done = pilotfish(wd, "doctor", write("true", machine=machine), code=1)
    assert "command pjsub: not on the PATH" in done.stdout


def test_a_script_runs_where_its_comment_says(wd: Path) -> None:
    for number in range(2):
        (wd / f"w/case{number}").mkdir(parents=True)
    (wd / "calc.py").write_text(SCRIPT.format(wd=wd, python=sys.executable))
    pilotfish(wd, "script", "calc.py")
    assert [(wd / f"w/case{number}/out").read_text() for number in range(2)] == ["ran", "ran"]
    (wd / "plain.py").write_text("print(1)\n")
    assert "No PEP 723 metadata found." in pilotfish(wd, "script", "plain.py", code=2).stderr


@pytest.mark.parametrize("context", ["Local", "LazyLocal", "SSH"])
@pytest.mark.parametrize("pilot", [True, False])
def test_init_writes_a_file_that_loads(context: str, pilot: bool) -> None:
    text = init.render(
        batch_type="Slurm",
        context_type=context,
        hostname="h",
        username="u",
        remote_root="/r",
        queue="q",
        pilot=pilot,
    )
    found = parse_submission(yaml.safe_load(text))
    assert found.resources.queue_name == "q"
    assert (found.pilot is not None) is pilot
    assert "# walltime" in text


def test_init_asks_what_was_not_said(wd: Path) -> None:
    pilotfish(wd, "init", text="Slurm\nSSH\nlogin\n\n\nq\ny\n4\n64\n2h\n")
    found = load_submission(wd / "submission.yaml")
    assert (found.machine.profile, found.machine.remote_root) == ({"hostname": "login"}, "~/pilotfish")
    resources = found.resources
    assert (resources.number_node, resources.cpu_per_node, resources.walltime_s, resources.queue_name) == (
        4,
        64,
        7200,
        "q",
    )
    assert "is there already" in pilotfish(wd, "init", code=2).stderr


def test_init_without_a_terminal_says_what_to_do(wd: Path) -> None:
    assert "say all by options" in pilotfish(wd, "init", code=2).stderr
    assert not (wd / "submission.yaml").exists()


def test_init_without_a_batch_system_runs_at_once(wd: Path) -> None:
    pilotfish(wd, "init", "--machine", "Shell", "--context", "Local", "--remote-root", "there", "--no-pilot")
    assert "dependencies" not in (wd / "submission.yaml").read_text()
    pilotfish(wd, "submit", "submission.yaml", "--check-interval", "0.5")
    assert (wd / "work/case1/log").read_text().startswith("hello from ")


def test_init_keeps_a_machine_under_a_name(wd: Path) -> None:
    words = ("--machine", "Shell", "--context", "LazyLocal", "--no-pilot", "--save-machine", "mine")
    pilotfish(wd, "init", *words)
    assert yaml.safe_load((wd / "submission.yaml").read_text())["machine"] == "mine"
    assert load_submission(wd / "submission.yaml").machine.batch_type == "Shell"
    found = json.loads(pilotfish(wd, "doctor", "submission.yaml", "--json").stdout)
    assert all(each["ok"] or each["warning"] for each in found["findings"])
    assert "is there already" in pilotfish(wd, "init", "other.yaml", *words, code=2).stderr
    assert "is no name" in pilotfish(wd, "init", "other.yaml", *words[:-1], "a/b", code=2).stderr


def test_the_doctor_does_not_wait_for_a_host(wd: Path) -> None:
    profile = {"hostname": "127.0.0.1", "port": 1}
    machine = {
        "batch_type": "Slurm",
        "context_type": "SSH",
        "local_root": ".",
        "remote_root": "r",
        "remote_profile": profile,
    }
    (wd / "m.json").write_text(json.dumps(machine))
    (found,) = json.loads(pilotfish(wd, "doctor", "m.json", "--json", code=3).stdout)["findings"]
    assert "ssh 127.0.0.1" in found["remedy"]


def test_a_pilots_tasks_are_seen_and_cancelled_from_outside(
    wd: Path, write: Callable[..., str], wait_until: Callable[..., None]
) -> None:
    commands = ("echo early", "sleep 1000", "sleep 1000", "echo late")
    file = write(*commands, pilot={"python": sys.executable}, resources={"cpu_per_node": 2})
    pilotfish(wd, "submit", file, "--detach", code=75)

    def states() -> dict[str, str]:
        status = json.loads(pilotfish(wd, "submissions", "status", "last", "--json").stdout)
        return {task["name"]: task["state"] for task in status["tasks"]}

    wait_until(lambda: states()["n0"] == "finished", "the first task to end")
    (wd / "more.json").write_text('[{"name": "more", "execution": {"script": "echo >added", "wd": "x"}}]')
    wait_until(lambda: states()["n2"] == "running", "both cores to be busy")
    assert states() == {"n0": "finished", "n1": "running", "n2": "running", "n3": "waiting"}
    assert json.loads(pilotfish(wd, "submissions", "add", "last", "more.json", "--json").stdout)
    pilotfish(wd, "submissions", "cancel", "last", "--task", "n1", "--task", "n2")
    pilotfish(wd, "submissions", "watch", "last", "--check-interval", "1", "--clean", "never", code=1)
    assert list((wd / "there").glob("*/x/added"))
    assert states() == {"n0": "finished", "n1": "failed", "n2": "failed", "n3": "finished"}


@pytest.mark.parametrize("end", [">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("command", "code"), [("echo hi", 0), ("exit 3", 1)])
def test_the_exit_code_is_that_of_the_work_whatever_can_be_said_of_it(
    wd: Path, write: Callable[..., str], end: str, command: str, code: int
) -> None:
    line = f'"{sys.executable}" -m pilotfish submit {write(f"{command} > log")} --json {end}'
    done = subprocess.run(["bash", "-c", line], cwd=wd, timeout=PATIENCE_S, check=False)
    assert done.returncode == code
    if code == 0:
        assert (wd / "w" / "t0" / "log").read_text() == "hi\n"


def test_a_report_of_a_submission_is_that_of_its_pilots(wd: Path, write: Callable[..., str]) -> None:
    """Also of one that went before, whose folder lies aside."""
    file = write(
        "echo hi >log", "echo oh no >&2; exit 3", resources={"group_size": 0}, pilot={"options": ["--nodes", "2"]}
    )
    pilotfish(wd, "submit", file, "--clean", "never", code=1)
    (aux,) = (wd / "there").glob("*/.qcgpjm-service-*")
    shutil.copytree(aux, aux.with_name(f".before-17{aux.name.replace('service-', 'service-old')}"))
    found = json.loads(pilotfish(wd, "submissions", "report", "last", "stats", "--json").stdout)
    assert (found["total_jobs"], found["failed_jobs"], len(found["runs"])) == (4, 2, 2)


def test_a_submission_without_a_pilot_has_no_report(wd: Path, write: Callable[..., str]) -> None:
    pilotfish(wd, "submit", write("exit 3"), code=1)
    assert "it has no pilot" in pilotfish(wd, "submissions", "report", "last", code=2).stderr
