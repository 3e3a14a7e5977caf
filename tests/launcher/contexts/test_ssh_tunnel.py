"""Ports behind a real sshd, and a running pilot there, reached from here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S, wait_until
from sshd import Sshd

from pilotfish.api.jobs import Jobs
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.tunnel import remote_manager, remote_pilot
from pilotfish.pilot.model.errors import LostError, RefusedError, UsageError
from pilotfish.pilot.wire import connection

both = pytest.mark.usefixtures("transport")
Make = Callable[..., Placement]
RUNS = {"SCHEDULED", "EXECUTING"}
"""A task that has begun is told as executing when its agent's word is with the manager."""


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that sends back what it gets, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=answer, args=(peer,), daemon=True).start()

    def answer(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while data := peer.recv(65536):
                peer.sendall(data.upper())

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def said(address: str, text: bytes) -> bytes:
    """What comes back from there until it closes; empty when it does not let us speak."""
    host, _, port = address.partition(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer, suppress(ConnectionError):
        peer.sendall(text)
        peer.shutdown(socket.SHUT_WR)
        while block := peer.recv(65536):
            got += block
    return got


@both
def test_several_connections_go_through_one_tunnel(sshd: Sshd, wd: Path, echo: int) -> None:
    much = b"x" * 3_000_000
    with SSHContext(wd, str(wd), sshd.profile) as there, there.tunnel("localhost", echo) as tunnel:
        assert tunnel.address.startswith("127.0.0.1:")
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(said(tunnel.address, much))) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert there.run(users("echo commands go on")).out == "commands go on\n"
        for thread in threads:
            thread.join()
        assert found == [much.upper()] * 3
        tunnel.close()
        with pytest.raises(OSError, match="refused"):
            said(tunnel.address, b"x")


@both
def test_through_a_jump_host(sshd: Sshd, wd: Path, echo: int) -> None:
    with Sshd(wd / "first") as first:
        (first.folder / "user.pub").write_text((wd / "sshd/user.pub").read_text())
        (wd / "known").write_text("".join((each.folder / "known_hosts").read_text() for each in (first, sshd)))
        profile = {**sshd.profile, "jump": f"root@127.0.0.1:{first.port}", "known_hosts": str(wd / "known")}
        with SSHContext(wd, str(wd), profile) as there, there.tunnel("127.0.0.1", echo) as tunnel:
            assert said(tunnel.address, b"hello") == b"HELLO"


@both
def test_after_an_outage_new_connections_get_through(sshd: Sshd, wd: Path, echo: int) -> None:
    with SSHContext(wd, str(wd), sshd.profile) as there, there.tunnel("127.0.0.1", echo) as tunnel:
        assert said(tunnel.address, b"a") == b"A"
        sshd.kill()
        sshd.start()
        assert said(tunnel.address, b"b") == b"B"


@both
def test_without_a_target_or_leave_it_is_refused_with_the_reason(wd: Path, sshd: Sshd, echo: int) -> None:
    with SSHContext(wd, str(wd), sshd.profile) as there:
        with pytest.raises(RefusedError, match=r"onnect failed.*; is it still there"):
            there.tunnel("127.0.0.1", 1)
        assert there.run(users("true")).code == 0
    with (
        Sshd(wd / "strict", "AllowTcpForwarding no") as strict,
        SSHContext(wd, str(wd), strict.profile) as there,
        pytest.raises(RefusedError, match="AllowTcpForwarding"),
    ):
        there.tunnel("127.0.0.1", echo)


def test_where_nothing_lies_between_it_is_the_port_itself(wd: Path) -> None:
    with LocalContext(wd, str(wd), {}) as here, here.tunnel("node7", 1234) as tunnel:
        assert tunnel.address == "node7:1234"


# --- a pilot --------------------------------------------------------------------------------------------------------------


def machine(sshd: Sshd) -> dict[str, Any]:
    return {"context_type": "SSH", "remote_profile": sshd.profile}


@pytest.fixture
def placed(sshd: Sshd, wd: Path, submission: Make) -> Iterator[Placement]:
    """A submission whose pilot runs on this host, as if behind SSH: task `a` waits for the file `go`."""
    command = f"touch {wd}/begun; until [ -e {wd}/go ]; do sleep 0.1; done; echo done >out"
    task = {"task_name": "a", "command": command, "task_work_path": "a", "backward_files": ["out"]}
    made = submission(task, machine=machine(sshd), pilot={"python": sys.executable})
    made.run(detach=True)
    yield made
    (wd / "go").touch()
    assert made.run(check_interval_s=0.5).over


def wait_for_task(placed: Placement, wd: Path) -> None:
    """Until it runs, and the pilot has heard of that."""
    wait_until((wd / "begun").exists, "the task to start")
    with remote_manager(placed) as pilot:
        wait_until(lambda: pilot.list()["a"]["status"] in RUNS, "the pilot to know that it runs")


@both
def test_a_manager_here_steers_the_pilot_there(placed: Placement, wd: Path) -> None:
    wait_for_task(placed, wd)
    with remote_manager(placed) as pilot:
        jobs = Jobs().add(name="more", exec="/bin/true")
        pilot.submit(jobs)
        assert pilot.wait4(["more"], timeout=PATIENCE_S) == {"more": "SUCCEED"}


def test_its_connection_file_is_private_leads_through_the_tunnel_and_is_gone_at_the_end(
    placed: Placement, wd: Path
) -> None:
    wait_until((wd / "begun").exists, "the task to start")
    with remote_pilot(placed) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        found = connection.read(path)
        addresses = [*found.request_addresses.values(), *found.event_addresses.values()]
        assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
    assert not path.parent.exists()


def test_commands_run_with_the_pilot_as_their_own(placed: Placement, wd: Path) -> None:
    wait_for_task(placed, wd)
    begin = [sys.executable, "-m", "pilotfish", "submissions", "tunnel", "last"]
    words = ["--", sys.executable, "-m", "pilotfish", "status", "a", "--json"]
    done = subprocess.run([*begin, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["jobs"]["a"]["data"]["status"] in RUNS
    assert subprocess.run([*begin, "--", "sh", "-c", "exit 7"], check=False).returncode == 7
    absent = subprocess.run([*begin, "--", "/none/at/all"], capture_output=True, text=True, check=False)
    assert (absent.returncode, "cannot be started" in absent.stderr) == (2, True)


def test_a_tunnel_stays_until_it_is_ended_and_leaves_nothing(placed: Placement, wd: Path) -> None:
    wait_for_task(placed, wd)
    command = [sys.executable, "-m", "pilotfish", "submissions", "tunnel", "last", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = Path(json.loads(process.stdout.readline())["connection"])
    for _ in range(2):
        words = [sys.executable, "-m", "pilotfish", "jobs", "-c", str(path)]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert RUNS & set(shown.split())
    process.terminate()
    process.wait(PATIENCE_S)
    process.stdout.close()
    assert not path.parent.exists()


def test_without_ssh_the_same_function_reaches_the_pilot(wd: Path, submission: Make) -> None:
    """The pilot ends with its last task, so one more waits until the question is answered."""
    command = f"touch {wd}/begun; until [ -e {wd}/go ]; do sleep 0.1; done"
    last = f"until [ -e {wd}/end ]; do sleep 0.1; done"
    made = submission(
        {"task_name": "a", "command": command, "task_work_path": "a"},
        {"task_name": "b", "command": last, "task_work_path": "b"},
        pilot={"python": sys.executable},
    )
    made.run(detach=True)
    wait_until((wd / "begun").exists, "the task to start")
    with remote_manager(made) as pilot:
        wait_until(lambda: pilot.list()["a"]["status"] in RUNS, "the pilot to know that it runs")
        (wd / "go").touch()
        assert pilot.wait4(["a"], timeout=PATIENCE_S) == {"a": "SUCCEED"}
        (wd / "end").touch()
    assert made.run(check_interval_s=0.5).over


def test_what_has_no_pilot_says_so(sshd: Sshd, wd: Path, submission: Make) -> None:
    task = {"command": "true", "task_work_path": "a"}
    with pytest.raises(UsageError, match="has no pilot"), remote_pilot(submission(task, machine=machine(sshd))):
        pass
    waiting = submission(task, machine=machine(sshd), pilot={"python": sys.executable})
    with pytest.raises(LostError, match="no pilot has been started"), remote_pilot(waiting):
        pass
    assert list(record.all_records()) == []
    assert not (wd / "there").exists()
