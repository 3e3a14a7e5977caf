"""How long a connection is tried for, what is never tried again, and what ssh's own words mean."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import need
from sshd import Sshd

from pilotfish.launcher.contexts.base import ContextLostError
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.contexts.ssh.login import failure
from pilotfish.launcher.contexts.ssh.session import Channel, HostKeyError, LoginError, Session, Transport
from pilotfish.launcher.contexts.ssh.target import make_target
from pilotfish.pilot.model.errors import PilotfishError, RefusedError, UsageError


class NoTransport(Transport):
    """A connection that breaks at the first command."""

    name = "none"

    def start(self, command: bytes, timeout_s: float) -> Channel:
        raise ConnectionResetError(errno.ECONNRESET, "broken")

    def connect_to(self, host: str, port: int) -> Channel:
        raise NotImplementedError

    def is_alive(self) -> bool:
        return True

    def close(self) -> None: ...

    def leave_to_parent(self) -> None: ...


class World:
    """A session whose time passes only while it pauses; `trouble` are errors of its connections, the last one for ever."""

    def __init__(self, *trouble: Exception | None, **profile: Any) -> None:
        self.now = 0.0
        self.tries = 0
        self.told: list[str] = []
        self._trouble = trouble
        given = {"hostname": "login.example", "reconnect_for": 600, **profile}
        self.session = Session(given, self._connect, self.told.append, lambda: self.now, self._sleep)

    def _connect(self, again: bool) -> Transport:
        error = self._trouble[min(self.tries, len(self._trouble) - 1)]
        self.tries += 1
        if error is not None:
            raise error
        return NoTransport()

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def fails(self, kind: type[PilotfishError] = ContextLostError) -> PilotfishError:
        with pytest.raises(kind) as caught:
            self.session.start(b"true", 1.0)
        return caught.value


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize(
    ("trouble", "tries", "remedy"),
    [
        (REFUSED, 2, "are hostname and port right?"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), 2, "VPN"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), 2, "VPN"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1, "is the name right"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), 2, "connected to a network"),
        (OSError("banner"), 2, "ssh -v login.example"),
    ],
)
def test_a_first_connection_fails_after_two_tries_with_what_to_look_at(
    trouble: Exception, tries: int, remedy: str
) -> None:
    world = World(trouble)
    error = world.fails()
    assert (world.tries, remedy in error.remedy) == (tries, True)
    assert world.now <= 1.0
    assert world.told == []
    assert "jobs there go on" not in error.remedy


def test_a_connection_that_was_there_is_tried_again_for_as_long_as_the_profile_says() -> None:
    world = World(None, REFUSED)
    error = world.fails()
    assert 590 < world.now <= 600
    assert "jobs there go on" in error.remedy
    assert len(world.told) == 1
    assert "trying again for 600 s (`reconnect_for`). Ctrl-C is safe" in world.told[0]


@pytest.mark.parametrize("error", [LoginError("no"), HostKeyError("changed"), UsageError("key"), RefusedError("kex")])
@pytest.mark.parametrize("before", [(), (None,)], ids=["at first", "when it has come back"])
def test_what_does_not_pass_is_never_tried_again(error: PilotfishError, before: tuple[None, ...]) -> None:
    world = World(*before, error)
    assert world.fails(type(error)) is error
    assert world.tries == len(before) + 1


def test_a_first_connection_is_not_tried_for_longer_than_the_profile_says() -> None:
    world = World(REFUSED, reconnect_for=0)
    world.fails()
    assert world.tries == 1


@pytest.mark.usefixtures("transport")
def test_a_port_where_nobody_listens_is_told_at_once(wd: Path, transport: str) -> None:
    need("ssh-keygen")
    server = Sshd(wd / "sshd")  # not started
    profile = {**server.profile, "reconnect_for": 600}
    with (
        pytest.raises(ContextLostError, match=r"refused.*are hostname and port right"),
        SSHContext(wd, str(wd), profile) as there,
    ):
        there.run(users("true"))


def test_a_submission_to_a_host_that_refuses_says_that_nothing_runs_there(wd: Path) -> None:
    need("ssh-keygen")
    server = Sshd(wd / "sshd")  # not started
    (wd / "w/a").mkdir(parents=True)
    machine = {"batch_type": "Shell", "context_type": "SSH", "local_root": str(wd), "remote_root": "x"}
    given = {
        "work_base": "w",
        "machine": {**machine, "remote_profile": {**server.profile, "reconnect_for": 600}},
        "resources": {"group_size": 1},
        "task_list": [{"command": "true", "task_work_path": "a"}],
    }
    (wd / "run.json").write_text(json.dumps(given))
    command = [sys.executable, "-m", "pilotfish", "submit", str(wd / "run.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no job has been submitted; the same command begins where it stopped" in done.stderr
    assert "jobs go on" not in done.stderr
    assert "are hostname and port right?" in done.stderr


# --- the words of ssh -----------------------------------------------------------------------------------------------------

LOG = "debug1: Server host key: ssh-ed25519 SHA256:abc\ndebug1: Offering public key: /home/ann/.ssh/work ED25519 SHA256:x\n"


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known", socket.gaierror, "not known"),
        ("ssh: connect to host x port 22: Connection refused", ConnectionRefusedError, "refused"),
        ("ssh: connect to host x port 22: Connection timed out", TimeoutError, "timed out"),
        ("Connection timed out during banner exchange", TimeoutError, "banner"),
        ("ssh: connect to host x port 22: No route to host", OSError, "No route"),
        ("kex_exchange_identification: Connection closed by remote host", OSError, "closed by remote"),
        ("", OSError, "said nothing"),
        ("ann@x: Permission denied (publickey).", LoginError, "key /home/ann/.ssh/work"),
        ("Received disconnect from x port 22:2: Too many authentication failures", LoginError, "Too many"),
        ("No ED25519 host key is known for x and you have ...\nHost key verification failed.", HostKeyError, "abc"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            HostKeyError,
            "changed",
        ),
        ("@ WARNING: REVOKED HOST KEY DETECTED! @\nHost key verification failed.", HostKeyError, "revoked"),
        ("Unable to negotiate with x port 22: no matching host key type found.", RefusedError, "in common"),
        ("/x/config: line 3: Bad configuration option: nonsense", UsageError, "line 3"),
        ("Bad owner or permissions on /home/ann/.ssh/config", UsageError, "permissions"),
    ],
)
def test_what_ssh_says_becomes_an_error_of_the_right_kind(log: str, kind: type[Exception], words: str) -> None:
    found = failure(LOG + log + "\n", make_target("x", {"username": "ann"}, {}))
    assert type(found) is kind
    assert words in str(found)


def test_a_name_server_that_does_not_answer_is_trouble_that_may_pass() -> None:
    log = "ssh: Could not resolve hostname x: Temporary failure in name resolution"
    found = failure(log, make_target("x", {}, {}))
    assert isinstance(found, socket.gaierror)
    assert found.errno == socket.EAI_AGAIN
