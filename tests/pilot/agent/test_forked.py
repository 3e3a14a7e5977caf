"""Processes that are started in a group: as posix_spawn would, errors included. The group's file is an ordinary one here."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pilotfish.pilot.agent.forked import GroupError, spawn_in_group
from pilotfish.pilot.agent.launch import Launch, environment, prepare
from pilotfish.pilot.model.job_spec import Execution

SCRIPT = 'echo "$GREETING"; cat; read _ _ _ _ _ sid _ </proc/$$/stat; echo $sid >&2; kill -s PIPE $$'


def launch_of(wd: Path, *args: str, **members: Any) -> Launch:
    execution = Execution(exec="sh", args=args, wd=str(wd), **members)
    return prepare(execution, environment(execution, dict(os.environb), {b"GREETING": b"hello"}, 1), str(wd))


@pytest.fixture
def procs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "procs").write_text("")
    return tmp_path / "procs"


def test_it_is_the_program_in_a_session_of_its_own(tmp_path: Path, procs: Path) -> None:
    (tmp_path / "in").write_text("from stdin\n")
    launch = launch_of(tmp_path, "-c", SCRIPT, stdin="in", stdout="out", stderr="err")
    pid = spawn_in_group(launch, procs)
    _, status = os.waitpid(pid, 0)
    assert (tmp_path / "out").read_text() == "hello\nfrom stdin\n"
    assert int((tmp_path / "err").read_text()) == pid
    assert os.waitstatus_to_exitcode(status) == -13  # Python ignores SIGPIPE; the program does not
    assert procs.read_text() == "0"


def test_both_streams_may_go_to_one_file(tmp_path: Path, procs: Path) -> None:
    launch = launch_of(tmp_path, "-c", "echo a; echo b >&2", stdout="both", stderr="both")
    os.waitpid(spawn_in_group(launch, procs), 0)
    assert (tmp_path / "both").read_text() == "a\nb\n"


@pytest.mark.parametrize(
    ("stdin", "program", "number"),
    [("missing", "/bin/sh", errno.ENOENT), ("procs", "/", errno.EACCES), ("procs", "/no/such", errno.ENOENT)],
)
def test_what_fails_is_raised_here(tmp_path: Path, procs: Path, stdin: str, program: str, number: int) -> None:
    launch = launch_of(tmp_path, stdin=stdin)
    launch.program = program
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        spawn_in_group(launch, procs)
    assert caught.value.errno == number


def test_a_nul_is_refused_as_by_posix_spawn(tmp_path: Path, procs: Path) -> None:
    with pytest.raises(ValueError, match="null byte"):
        spawn_in_group(launch_of(tmp_path, "a\0b"), procs)


def test_a_group_that_takes_nobody_is_told_apart(tmp_path: Path, procs: Path) -> None:
    with pytest.raises(GroupError, match="No such file"):
        spawn_in_group(launch_of(tmp_path, "-c", "touch ran"), tmp_path / "gone" / "procs")
    assert not (tmp_path / "ran").exists()
