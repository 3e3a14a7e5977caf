"""What a shell suggests for arguments that name something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete, get_completion_class
from patience import need

from pilotfish import Jobs, LocalManager
from pilotfish.commands import COMMANDS, cli
from pilotfish.completions import NAMES
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job import store
from pilotfish.launcher.job.single import JobRecord

MACHINE = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
Suggest = Callable[..., list[str]]


@pytest.fixture
def suggest(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Suggest:
    """The words of a line after `pilotfish`, of which the last is being written -> what is suggested."""
    monkeypatch.chdir(wd)
    for name in ("HOME", "XDG_CONFIG_HOME", "PILOTFISH_HOME"):
        monkeypatch.setenv(name, str(wd / name))

    def suggested(*words: str) -> list[str]:
        found = ShellComplete(cli, {}, "pilotfish", "_PILOTFISH_COMPLETE").get_completions(list(words[:-1]), words[-1])
        return [item.value for item in found if item.type == "plain"]

    return suggested


def test_machines_profiles_batch_jobs_and_systems(wd: Path, suggest: Suggest) -> None:
    folder = wd / "XDG_CONFIG_HOME" / "pilotfish" / "machines"
    folder.mkdir(parents=True)
    for name in ("near", "far"):
        (folder / f"{name}.json").write_text(json.dumps(MACHINE))
    record = store.create(JobRecord("0123456789abcdef" * 2 + "01234567", parse_machine(MACHINE), "/x", "j", id="4711"))
    assert suggest("doctor", "") == ["far", "near"]
    assert suggest("job", "run", "-M", "n") == ["near"]
    assert suggest("job", "queue", "--machine", "f") == ["far"]
    assert suggest("job", "run", "-p", "sm")[0] == "small"
    assert suggest("job", "profile", "edit", "lo") == ["long"]
    assert suggest("job", "profile", "edit", "long", "me") == ["mem="]
    assert suggest("job", "wait", "") == ["last", record.hash[:10], "4711"]
    assert suggest("job", "run", "--after", "47") == ["4711"]
    assert suggest("submissions", "status", "0") == [record.hash[:10]]
    assert "pbs" in suggest("job", "keywords", "--system", "")


def test_runs_tasks_and_jobs_of_a_pilot(wd: Path, suggest: Suggest) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="one", exec="true").add(name="many", exec="true", iteration=3))
        assert suggest("info", "") == ["one", "many"]
        assert suggest("cancel", "m") == ["many"]
        pilot.wait4all()
    run = next(wd.glob(".qcgpjm-service-*")).name.removeprefix(".qcgpjm-service-")
    assert suggest("show", "") == ["last", run]
    assert suggest("wait", "l") == ["last"]
    assert suggest("cat", "last", "") == ["one", "many:"]
    assert suggest("tail", run, "many:") == ["many:0", "many:1", "many:2"]
    assert suggest("info", "") == []  # it has ended
    assert suggest("report", "l") == ["last", "launch-stats"]
    assert suggest("report", "last", "gantt") == ["gantt", "gantt-gaps"]
    assert suggest("report", "last", "job", "o") == ["one"]
    assert suggest("report", "stats", "") == []


def test_what_cannot_be_read_suggests_nothing(wd: Path, suggest: Suggest) -> None:
    """An error in the middle of somebody's line helps nobody."""
    (wd / "XDG_CONFIG_HOME" / "pilotfish").mkdir(parents=True)
    (wd / "XDG_CONFIG_HOME" / "pilotfish" / "profiles.ini").write_text("no ini")
    assert suggest("job", "run", "-p", "") == []
    assert suggest("cat", "nowhere", "") == []
    assert suggest("submissions", "logs", "nowhere", "") == []


def test_every_parameter_of_the_table_is_there() -> None:
    """A name in the table that no command has any more completes nothing."""
    for place, param in NAMES:
        group, _, rest = place.partition(" ")
        if group == "*":
            continue
        assert group in COMMANDS, place
        command = cli.get_command(cli.make_context("pilotfish", [], resilient_parsing=True), group)
        while command is not None and rest:
            name, _, rest = rest.partition(" ")
            below = getattr(command, "commands", {})
            known = [each for each in below.values() if any(p.name == param for p in _all_parameters(each))]
            assert known if name == "*" else name in below, place
            command = None if name == "*" else below[name]
        assert command is None or any(each.name == param for each in command.params), (place, param)


def _all_parameters(command: click.Command) -> list[click.Parameter]:
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(param for each in below for param in _all_parameters(each))]


@pytest.mark.parametrize(("shell", "text"), [("bash", "plain,last"), ("zsh", "plain\nlast\n_"), ("fish", "plain,last")])
def test_each_shell_is_told_in_its_form(
    suggest: Suggest, monkeypatch: pytest.MonkeyPatch, shell: str, text: str
) -> None:
    monkeypatch.setenv("COMP_WORDS", "pilotfish show l")
    monkeypatch.setenv("COMP_CWORD", "l" if shell == "fish" else "2")
    complete = get_completion_class(shell)
    assert complete is not None
    assert complete(cli, {}, "pilotfish", "_PILOTFISH_COMPLETE").complete() == text


def test_bash_completes_a_line(wd: Path) -> None:
    """The script that `pilotfish completion bash` prints, in a real bash."""
    (wd / "pilotfish").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pilotfish "$@"\n')
    (wd / "pilotfish").chmod(0o700)
    line = "COMP_WORDS=(pilotfish sho); COMP_CWORD=1; _pilotfish_completion pilotfish; echo ${COMPREPLY[@]}"
    script = f"source <(pilotfish completion bash)\n{line}\n"
    environ = os.environ | {"PATH": f"{wd}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=environ, cwd=wd)
    assert done.stdout.split() == ["show"]


@pytest.mark.parametrize(
    ("shell", "ask", "answer"),
    [
        ("bash", ["-ic", "complete -p pilotfish"], "_pilotfish_completion"),
        ("zsh", ["-ic", "print $_comps[pilotfish]"], "_pilotfish_completion"),
        ("fish", ["-c", "complete -C 'pilotfish sho'"], "show"),
    ],
)
def test_an_installed_completion_is_there_in_new_shells(wd: Path, shell: str, ask: list[str], answer: str) -> None:
    """And stands in the start file once, however often it is installed."""
    need(shell)
    (wd / "pilotfish").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pilotfish "$@"\n')
    (wd / "pilotfish").chmod(0o700)
    (wd / ".bashrc").write_text("true")  # without the end of its line
    environ = {"HOME": str(wd), "PATH": f"{wd}:{os.environ['PATH']}", "SHELL": f"/bin/{shell}"}
    for _ in range(2):
        command = [str(wd / "pilotfish"), "completion", "--install"]
        subprocess.run(command, env=environ, cwd=wd, check=True, capture_output=True)
    asked = subprocess.run([shell, *ask], env=environ, cwd=wd, capture_output=True, text=True, check=False)
    assert answer in asked.stdout
    starts = [wd / ".bashrc", wd / ".zshrc"]
    lines = [line for path in starts if path.exists() for line in path.read_text().splitlines() if "--install" in line]
    assert len(lines) == (0 if shell == "fish" else 1)


def test_a_shell_that_is_not_known_is_refused(wd: Path) -> None:
    environ = os.environ | {"SHELL": "/bin/tcsh"}
    command = [sys.executable, "-m", "pilotfish", "completion", "--install"]
    done = subprocess.run(command, env=environ, cwd=wd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "SHELL" in done.stderr
    assert "bash, zsh, fish" in done.stderr
