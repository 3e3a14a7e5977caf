"""A task's streams, descriptors and limits are what a shell with the same redirections would have given it."""

from __future__ import annotations

import array
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from pilotfish.pilot import variable_names
from pilotfish.pilot.agent import launch as launching
from pilotfish.pilot.agent.forked import spawn_in_group
from pilotfish.pilot.agent.launch import environment, prepare
from pilotfish.pilot.inherited import Inherited
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames

PROBE = """
import fcntl, json, os, sys
def look(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD), os.readlink(f"/proc/self/fd/{fd}")
streams = [look(fd) for fd in range(3)]
try:
    os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    terminal = True
except OSError:
    terminal = False
more = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
with open(sys.argv[1], "w") as file:
    json.dump([streams, terminal, more], file)
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Things a stream can lead to, by name."""
    (tmp_path / "in").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    master, slave = os.openpty()
    (tmp_path / "old").write_text("more than will be written" * 1000)
    yield {"pipe": "pipe", "terminal": os.ttyname(slave), "old": "old", "new": "new", "in": "in"}
    for descriptor in (reader, master, slave):
        os.close(descriptor)


REDIRECTIONS: dict[str, dict[str, str]] = {
    "none": {},
    "named /dev/null": {"stdin": "/dev/null", "stdout": "/dev/null", "stderr": "/dev/null"},
    "files": {"stdin": "in", "stdout": "new", "stderr": "old"},
    "one file": {"stdout": "new", "stderr": "new"},
    "pipe": {"stdout": "pipe"},
    "pipe as stderr": {"stdin": "in", "stderr": "pipe"},
    "one pipe": {"stdout": "pipe", "stderr": "pipe"},
    "terminal": {"stdin": "terminal", "stdout": "terminal", "stderr": "terminal"},
    "stdout by name": {"stdout": "new", "stderr": "/dev/stdout"},
    "pipe by name": {"stdout": "pipe", "stderr": "/proc/self/fd/1"},
}


@pytest.mark.parametrize("redirections", REDIRECTIONS)
def test_streams_have_the_flags_that_a_shell_gives_them(
    manager: FakeManager, tmp_path: Path, places: dict[str, str], redirections: str
) -> None:
    streams: dict[str, Any] = {name: places.get(place, place) for name, place in REDIRECTIONS[redirections].items()}
    wanted = {"stdin": "/dev/null", "stdout": "/dev/null", "stderr": "/dev/null", **streams}
    both = streams.get("stdout") is not None and streams.get("stdout") == streams.get("stderr")
    to_stderr = "2>&1" if both else '2>"$3"'
    line = f'("$4" -c "$5" shell <"$1" >"$2" {to_stderr}); exit'  # in a process of its own, which leads no session
    words = ["bash", "-c", line, "bash", wanted["stdin"], wanted["stdout"], wanted["stderr"], sys.executable, PROBE]
    subprocess.run(words, check=True, cwd=tmp_path, start_new_session=True)
    assert manager.run(Execution(exec=sys.executable, args=("-c", PROBE, "task"), **streams)).exit_code == 0
    of_task, of_shell = (json.loads((tmp_path / name).read_text()) for name in ("task", "shell"))
    if wanted["stderr"] == "/dev/null":  # the last lines of it are kept
        assert of_task[0].pop()[2].startswith("/memfd:")
        of_shell[0].pop()
    assert of_task == of_shell


def in_pipe(descriptor: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_slow_reader_of_a_named_pipe_gets_every_line(
    manager: FakeManager, tmp_path: Path, wait_until: Callable[..., None], stream: str
) -> None:
    """The pipe is full before the first line is read, so the writer has to wait."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    room = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    number = {"stdout": 1, "stderr": 2}[stream]
    streams: dict[str, Any] = {stream: "pipe"}
    key = manager.start(Execution(script=f"seq 60000 >&{number}", **streams))
    wait_until(lambda: in_pipe(reader) > room - 4096, "the pipe is full")
    os.set_blocking(reader, True)
    with open(reader) as file:
        assert [int(line) for line in file] == list(range(1, 60001))
    assert manager.finished(key).exit_code == 0


def test_a_named_pipe_that_nobody_reads_is_told_and_holds_nothing_up(manager: FakeManager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = manager.run(Execution(exec="true", stdout="pipe"))
    assert refused.message == f"cannot write stdout 'pipe' in {tmp_path}: nobody reads this named pipe"
    assert manager.run(Execution(exec="true")).exit_code == 0


@pytest.mark.parametrize("in_group", [False, True])
def test_a_task_has_the_limit_of_open_files_that_was_there_before_it_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_group: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    execution = Execution(script="ulimit -S -n; ulimit -H -n", stdout="out")
    launch = prepare(execution, environment(execution, dict(os.environb), {}, 1), str(tmp_path))
    launch.open_files = launching.OpenFiles((777, own[1]), own)
    (tmp_path / "procs").touch()
    os.waitpid(spawn_in_group(launch, tmp_path / "procs") if in_group else launch.spawn(), 0)
    assert (tmp_path / "out").read_text().split() == ["777", str(own[1])]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == own


NO_STDOUT = "a task has no stdout but the one that is named for it"


@pytest.mark.parametrize(
    ("streams", "stream", "why"),
    [
        ({"stdout": "/dev/stdout"}, "write stdout '/dev/stdout'", NO_STDOUT),
        ({"stdout": "link"}, "write stdout 'link'", NO_STDOUT),
        ({"stdin": "/dev/fd/0"}, "read stdin '/dev/fd/0'", NO_STDOUT.replace("stdout", "stdin")),
        ({"stderr": "/dev/fd/1"}, "write stderr '/dev/fd/1'", "the job names no file for stdout, or a later one"),
        (
            {"stdout": "/proc/self/fd/2", "stderr": "err"},
            "write stdout '/proc/self/fd/2'",
            "the job names no file for stderr, or a later one",
        ),
    ],
)
def test_a_stream_that_a_task_cannot_have_is_refused(
    manager: FakeManager, tmp_path: Path, streams: dict[str, Any], stream: str, why: str
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    refused = manager.run(Execution(exec="true", **streams))
    assert (refused.cause, refused.message) == (frames.Cause.NOT_STARTED, f"cannot {stream}: {why}; name a file")


def test_no_task_writes_into_what_its_worker_has_open(manager: FakeManager, tmp_path: Path) -> None:
    """Among these are the pipe that wakes the worker, whose bytes count as signals, and the agent's log."""
    for number in range(3, 20):
        refused = manager.run(Execution(exec="echo", args=("hi",), stdout=f"/dev/fd/{number}"))
        assert (
            refused.message
            == f"cannot write stdout '/dev/fd/{number}': a task inherits no descriptor {number}; name a file"
        )
    assert manager.run(Execution(exec="true")).exit_code == 0


def test_the_folder_in_pwd_is_the_task_s(manager: FakeManager, tmp_path: Path) -> None:
    assert manager.run(Execution(exec="printenv", args=("PWD",), wd="below", stdout="out")).exit_code == 0
    assert (tmp_path / "below" / "out").read_text() == f"{tmp_path}/below\n"


def test_signals_are_ignored_and_blocked_as_where_the_pilot_was_started(tmp_path: Path) -> None:
    """Also those for which agent and workers have handlers. A task is stopped all the same."""
    inherited = Inherited(
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM}),
        frozenset({signal.SIGUSR1}),
    )
    (tmp_path / "more").mkdir()
    with FakeManager(tmp_path / "more") as other:
        other.start_agent(env={variable_names.INHERITED: inherited.as_word()})
        other.welcome()
        key = other.start(Execution(script="grep -E 'Sig(Ign|Blk)' /proc/self/status; sleep 600", stdout="out"))
        other.until(lambda heard: any(started.pos == key.pos for started in heard.started))
        other.send(frames.Kill([key]))
        assert other.finished(key).exit_code == -signal.SIGKILL
    blocked, ignored = (int(line.split()[1], 16) for line in (tmp_path / "more" / "out").read_text().splitlines())
    assert (ignored & 0x7FFFFFFF, blocked) == (mask_of(inherited.ignored), mask_of(inherited.blocked))


def mask_of(signals: frozenset[int]) -> int:
    return sum(1 << number - 1 for number in signals)
