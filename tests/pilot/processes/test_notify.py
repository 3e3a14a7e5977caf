"""`--notify`: a command of the user's is told of the first failure and of the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish.pilot import notify
from pilotfish.pilot.model.errors import SettingsError

NOTE = """#!{python}
import json, os, sys
seen = {{name.removeprefix("PILOTFISH_EVENT"): value for name, value in os.environ.items() if "PILOTFISH_EVENT" in name}}
with open({file!r}, "a") as file:
    file.write(json.dumps({{"words": sys.argv[1:], "own": os.environ.get("PILOTFISH_NOTIFY"), **seen}}) + chr(10))
"""


@pytest.fixture
def noted(wd: Path) -> Callable[[], list[dict[str, Any]]]:
    """Makes the command `note`; what it was told so far."""
    file = wd / "noted.jsonl"
    (wd / "note").write_text(NOTE.format(python=sys.executable, file=str(file)))
    (wd / "note").chmod(0o755)
    return lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(wd: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", "run", *words]
    whole = {**os.environ, **environ}
    return subprocess.run(command, cwd=wd, env=whole, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_first_failure_and_the_end_are_told_in_variables(
    wd: Path, noted: Callable[[], list[dict[str, Any]]]
) -> None:
    (wd / "tasks.txt").write_text("exit 3\nexit 4\ntrue\n")
    assert (
        run(wd, "tasks.txt", "--nodes", "1", PILOTFISH_NOTIFY=f"{wd}/note '$(touch {wd}/no)' 'two words'").returncode
        == 1
    )
    failure, end = noted()
    assert failure["words"] == end["words"] == [f"$(touch {wd}/no)", "two words"]
    assert (failure[""], failure["_TASK"], failure["_REASON"]) == ("failure", "line-1", "exit code 3")
    assert (end[""], end["_STATE"], end["_EXIT_CODE"]) == ("end", "failed", "1")
    assert [end[name] for name in ("_TASKS", "_SUCCEEDED", "_FAILED", "_LEFT")] == ["3", "1", "2", "0"]
    assert end["_TEXT"].endswith(": failed: 3 tasks, 1 succeeded, 2 failed, 0 left")
    assert Path(end["_FOLDER"], "final_status.json").exists()
    assert end["own"] is None
    assert not (wd / "no").exists()


def test_what_a_task_is_called_or_says_is_never_more_than_text(
    wd: Path, noted: Callable[[], list[dict[str, Any]]]
) -> None:
    (wd / "jobs.json").write_text(
        json.dumps([{"name": "a", "execution": {"exec": "/no/$(touch no)`touch no`; touch no"}}])
    )
    run(wd, "jobs.json", "--nodes", "1", "--notify", f"{wd}/note")
    assert "$(touch no)" in noted()[0]["_REASON"]
    assert not (wd / "no").exists()


def test_that_a_killed_manager_is_the_end_is_told_too(
    wd: Path, noted: Callable[[], list[dict[str, Any]]], wait_until: Callable[..., None]
) -> None:
    words = [sys.executable, "-m", "pilotfish", "run", "--nodes", "1", "--notify", f"{wd}/note", "--", "sleep", "1000"]
    with subprocess.Popen(words, cwd=wd, stderr=subprocess.DEVNULL) as process:
        wait_until((wd / "pilotfish-runs" / "last").is_symlink, "the run", of=process)
        (file,) = wd.glob(".qcgpjm-*/connection.json")
        os.kill(json.loads(file.read_bytes())["pid"], signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 3
    assert [(entry[""], entry["_STATE"], entry["_LEFT"]) for entry in noted()] == [("end", "lost", "1")]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("exit 3", "has ended with 3"),
        ("kill -9 $$", "has ended with -9"),
        ("sleep 1000 & wait", "has not ended in 0.2 s, and was killed"),
    ],
)
def test_a_command_that_goes_wrong_is_told_and_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, command: str, problem: str
) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2 if "sleep" in command else PATIENCE_S)
    said: list[str] = []
    notify.run(["sh", "-c", command], {"": "end", "TEXT": "odd \0 text"}, said.append)
    assert said == [f"--notify sh: {problem}"]


def test_a_command_that_cannot_be_run_is_refused_at_the_start(wd: Path) -> None:
    for command, problem in (
        ("/no/such/program x", "--notify: there is no program '/no/such/program'; write its path"),
        ("mail 'me", '--notify: "mail \'me": No closing quotation; quote as for a shell'),
        (" ", "--notify: there is no command; write the program and its arguments"),
    ):
        with pytest.raises(SettingsError) as caught:
            notify.command_of(command)
        assert str(caught.value) == problem
    done = run(wd, "--notify", "/no/such/program", "--", "true")
    assert (done.returncode, "there is no program '/no/such/program'" in done.stderr) == (2, True)
