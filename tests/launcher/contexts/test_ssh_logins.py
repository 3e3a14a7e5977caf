"""What `ssh HOST` does by the user's keys, configuration and known hosts, a submission does too, over a real sshd."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import need, only_when_thorough, wait_until
from sshd import Sshd

from pilotfish.launcher.cli import doctor
from pilotfish.launcher.contexts.base import Finding
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh.choice import choose
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.contexts.ssh.session import HostKeyError, LoginError
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.pilot.model.errors import PilotfishError

both = pytest.mark.usefixtures("transport")


@pytest.fixture(autouse=True)
def programs() -> None:
    need("ssh", "ssh-keygen")


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def sign(authority: Path, public: Path, *options: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *options, public], check=True)


def public(path: Path) -> str:
    return " ".join(path.read_text().split()[:2])


def config_of(sshd: Sshd, wd: Path, *lines: str, name: str = "cluster", **changes: Any) -> dict[str, Any]:
    """The profile of a user who has written down everything in the ssh configuration."""
    given = {
        "HostName": "127.0.0.1",
        "Port": sshd.port,
        "User": "root",
        "IdentityFile": f"{sshd.folder}/user",
        "UserKnownHostsFile": f"{sshd.folder}/known_hosts",
    }
    options = [f" {key} {value}" for key, value in (given | changes).items() if value is not None]
    (wd / "config").write_text("\n".join([f"Host {name}", *options, *lines]) + "\n")
    profile = {key: sshd.profile[key] for key in ("reconnect_for", "timeout", "transport")}
    return {"hostname": name, "ssh_config": str(wd / "config"), **profile}


def says_hello(profile: dict[str, Any], wd: Path) -> bool:
    with SSHContext(wd, str(wd), profile) as there:
        return there.run(users("echo hello")).out == "hello\n"


@pytest.fixture
def agent(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An ssh-agent of its own; `agent(key)` adds a key."""
    path = wd / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))

    def add(key: Path) -> None:
        subprocess.run(["ssh-add", "-q", key], check=True, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        """The socket is there before anybody listens; 2: there is no agent."""
        return subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode != 2

    wait_until(answers, "the agent to answer", of=process)
    yield add
    process.terminate()
    process.wait()


# --- certificates ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certified(wd: Path) -> Iterator[Sshd]:
    """A server that takes whatever an authority has signed; the key `wd/id` with `wd/id-cert.pub` is."""
    authority, key = make_key(wd / "authority"), make_key(wd / "id")
    sign(authority, key.with_suffix(".pub"), "-n", "root", "-V", "+1h")
    with Sshd(wd / "sshd", f"TrustedUserCAKeys {authority}.pub") as server:
        yield server


@both
def test_a_certificate_that_lies_beside_the_key_is_used(certified: Sshd, wd: Path) -> None:
    assert says_hello({**certified.profile, "key_filename": str(wd / "id")}, wd)


@both
def test_a_certificate_that_the_configuration_names_is_used(certified: Sshd, wd: Path) -> None:
    (wd / "id-cert.pub").rename(wd / "elsewhere.pub")
    make_key(wd / "another")  # of which it is not the certificate
    lines = (f" CertificateFile {wd}/elsewhere.pub", f" IdentityFile {wd}/another")
    assert says_hello(config_of(certified, wd, *lines, IdentityFile=wd / "id"), wd)


def test_a_certificate_is_a_reason_for_openssh(certified: Sshd, wd: Path) -> None:
    profile = {**certified.profile, "key_filename": str(wd / "id")}
    assert choose(profile).name == "openssh"
    assert "certificate" in choose(profile).why


# --- known hosts ----------------------------------------------------------------------------------------------------------


def known(sshd: Sshd, wd: Path, *lines: str) -> dict[str, Any]:
    (wd / "known").write_text("".join(f"{line}\n" for line in lines))
    return {**sshd.profile, "known_hosts": str(wd / "known")}


@both
def test_lines_about_other_hosts_and_lines_that_are_none_are_passed_over(sshd: Sshd, wd: Path) -> None:
    other = public(make_key(wd / "other").with_suffix(".pub"))
    lines = [
        f"@cert-authority *.example.org {other}",
        f"@revoked old.example.org {other}",
        "nonsense",
        "a ssh-rsa AAA=",
    ]
    assert says_hello(known(sshd, wd, *lines, (sshd.folder / "known_hosts").read_text().strip()), wd)


@both
@pytest.mark.parametrize("pattern", ["[127.0.0.?]:*", "nobody,[127.*]:{port}"])
def test_a_host_that_is_known_by_a_pattern(sshd: Sshd, wd: Path, pattern: str) -> None:
    assert says_hello(known(sshd, wd, f"{pattern.format(port=sshd.port)} {public(sshd.folder / 'host.pub')}"), wd)


@both
def test_a_host_that_a_pattern_leaves_out_is_not_known(sshd: Sshd, wd: Path) -> None:
    line = f"[127.*]:*,![127.0.0.1]:{sshd.port} {public(sshd.folder / 'host.pub')}"
    with pytest.raises(HostKeyError, match="has not been seen before"):
        says_hello(known(sshd, wd, line), wd)


@both
def test_a_host_that_is_known_by_a_hash_of_its_name(sshd: Sshd, wd: Path) -> None:
    profile = known(sshd, wd, (sshd.folder / "known_hosts").read_text().strip())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", wd / "known"], check=True, stderr=subprocess.DEVNULL)
    assert "127.0.0.1" not in (wd / "known").read_text()
    assert says_hello(profile, wd)


@both
def test_a_key_that_was_revoked_is_refused_although_the_host_is_known(sshd: Sshd, wd: Path) -> None:
    line = (sshd.folder / "known_hosts").read_text().strip()
    with pytest.raises(HostKeyError, match="revoked"):
        says_hello(known(sshd, wd, f"@revoked * {public(sshd.folder / 'host.pub')}", line) | {"accept_new": True}, wd)


def test_a_host_that_is_known_by_its_authority(wd: Path) -> None:
    authority = make_key(wd / "authority")
    server = Sshd(wd / "sshd", f"HostCertificate {wd}/sshd/host-cert.pub")
    sign(authority, wd / "sshd/host.pub", "-h", "-n", "127.0.0.1")
    with server:
        profile = known(server, wd, f"@cert-authority [127.0.0.1]:* {public(wd / 'authority.pub')}")
        assert choose(profile).name == "openssh"
        assert says_hello(profile, wd)
        with pytest.raises(HostKeyError, match='set "transport": "openssh"'):
            says_hello(profile | {"transport": "paramiko"}, wd)


@both
def test_the_name_under_which_a_host_is_known_may_be_another(sshd: Sshd, wd: Path) -> None:
    known(sshd, wd, f"mycluster {public(sshd.folder / 'host.pub')}")
    assert says_hello(config_of(sshd, wd, HostKeyAlias="mycluster", UserKnownHostsFile=wd / "known"), wd)


@both
@pytest.mark.parametrize("value", ["no", "accept-new"])
def test_a_new_host_is_accepted_where_the_configuration_says_so_and_a_changed_one_is_not(
    sshd: Sshd, wd: Path, value: str
) -> None:
    options = {"StrictHostKeyChecking": value, "UserKnownHostsFile": str(wd / "new")}
    assert says_hello(config_of(sshd, wd, **options), wd)
    known(sshd, wd, f"[127.0.0.1]:{sshd.port} {public(make_key(wd / 'other').with_suffix('.pub'))}")
    with pytest.raises(HostKeyError, match="has changed"):
        says_hello(config_of(sshd, wd, **(options | {"UserKnownHostsFile": str(wd / "known")})), wd)


# --- configuration --------------------------------------------------------------------------------------------------------


@both
def test_a_configuration_that_includes_another_file(sshd: Sshd, wd: Path) -> None:
    profile = config_of(sshd, wd)
    (wd / "config").rename(wd / "included")
    (wd / "config").write_text(f"Include {wd}/included\n")
    assert says_hello(profile, wd)


@both
def test_a_configuration_with_conditions_that_only_ssh_knows(sshd: Sshd, wd: Path) -> None:
    profile = config_of(sshd, wd, Port=None, User=None)
    with open(wd / "config", "a") as file:
        file.write(f'Match originalhost cluster exec "true"\n Port {sshd.port}\n User root\n')
    assert says_hello(profile, wd)


@both
def test_the_one_key_of_an_agent_of_which_only_the_public_half_is_here(
    sshd: Sshd, wd: Path, agent: Callable[[Path], None]
) -> None:
    """The agent holds more keys than a server lets anybody try."""
    for number in range(7):
        agent(make_key(wd / f"other{number}"))
    agent(sshd.folder / "user")
    half = wd / "half.pub"
    half.write_text((sshd.folder / "user.pub").read_text())
    assert says_hello(config_of(sshd, wd, IdentityFile=half, IdentitiesOnly="yes"), wd)


@both
def test_a_key_whose_passphrase_only_the_agent_knows(sshd: Sshd, wd: Path, agent: Callable[[Path], None]) -> None:
    agent(sshd.folder / "user")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "unknown", "-f", sshd.folder / "user"], check=True)
    assert says_hello(sshd.profile, wd)


@both
def test_a_jump_host_of_the_configuration(sshd: Sshd, wd: Path) -> None:
    with Sshd(wd / "gate") as gate:
        (gate.folder / "user.pub").write_text((sshd.folder / "user.pub").read_text())
        (wd / "known").write_text("".join((each.folder / "known_hosts").read_text() for each in (gate, sshd)))
        options = {"HostName": "127.0.0.1", "Port": gate.port, "IdentityFile": sshd.folder / "user"}
        lines = [f" {name} {value}" for name, value in {**options, "UserKnownHostsFile": wd / "known"}.items()]
        profile = config_of(sshd, wd, "Host gate", *lines, ProxyJump="gate", UserKnownHostsFile=wd / "known")
        assert says_hello(profile, wd)
        assert "Accepted publickey" in (gate.folder / "log").read_text()


# --- one login ------------------------------------------------------------------------------------------------------------


def masters(wd: Path) -> list[str]:
    """Command lines of `ssh` processes for hosts of a test."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line.split()[0].endswith("ssh") and str(wd) in line]


def test_all_goes_over_one_login_and_nothing_is_left(sshd: Sshd, wd: Path) -> None:
    with SSHContext(wd, str(wd), {**sshd.profile, "transport": "openssh"}) as there:
        for _ in range(3):
            there.run(users("true"))
        assert len(masters(wd)) == 1
        folder = Path(there.session._transport._folder)  # type: ignore[union-attr]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1
    assert not folder.exists()
    wait_until(lambda: not masters(wd), "the master to end")


def test_what_a_killed_launcher_has_left_is_removed_by_the_next_one_and_nothing_else(
    sshd: Sshd, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(wd))
    names = {"old": "pilotfish-ssh-old", "used": "pilotfish-ssh-used", "new": "pilotfish-ssh-new", "other": "other"}
    folders = {name: wd / folder for name, folder in names.items()}
    with socket.socket(socket.AF_UNIX) as master:
        for name, folder in folders.items():
            folder.mkdir()
            if name == "used":
                master.bind(str(folder / "m"))
                master.listen()
            if name != "new":
                os.utime(folder, (0, 0))
        assert says_hello({**sshd.profile, "transport": "openssh"}, wd)
    assert [name for name, folder in folders.items() if folder.exists()] == ["used", "new", "other"]


_PROGRAM = """
import os, signal
from pathlib import Path
from pilotfish.launcher.contexts.ssh.context import SSHContext
there = SSHContext(Path("."), ".", {profile!r})
said = there.run("echo $PPID").out
"""


def program(sshd: Sshd, text: str) -> list[str]:
    words = _PROGRAM.format(profile={**sshd.profile, "transport": "openssh"})
    return [sys.executable, "-c", words + text]


def test_ctrl_c_does_not_end_the_connection(sshd: Sshd) -> None:
    """The terminal sends it to the whole process group. (What a shell starts in the background ignores it.)"""
    handled = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    text = (
        handled
        + "try: os.killpg(0, signal.SIGINT)\nexcept KeyboardInterrupt: print(there.run('echo $PPID').out == said)\n"
    )
    done = subprocess.run(
        program(sshd, text + "there.close()"), capture_output=True, text=True, check=True, start_new_session=True
    )
    assert done.stdout == "True\n"


@only_when_thorough
def test_a_launcher_that_is_killed_leaves_no_ssh_behind(sshd: Sshd, wd: Path) -> None:
    done = subprocess.run(program(sshd, "os.kill(os.getpid(), signal.SIGKILL)"), check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not masters(wd), "the master to end")


def test_a_master_of_the_users_own_is_used_and_left_running(sshd: Sshd, wd: Path) -> None:
    """Somebody has logged in there already, and has answered the second factor."""
    profile = config_of(sshd, wd, ControlPath=f"{wd}/%r@%h:%p") | {"transport": "openssh"}
    ssh = ["ssh", "-F", str(wd / "config")]
    subprocess.run([*ssh, "-M", "-N", "-f", "cluster"], check=True, stderr=subprocess.DEVNULL)
    try:
        assert says_hello(profile, wd)
        assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1
        with SSHContext(wd, str(wd), profile) as there:
            there.run(users("true"))
            sshd.cut()
            assert there.run(users("echo back")).out == "back\n", "with a login of our own"
        assert (sshd.folder / "log").read_text().count("Accepted publickey") == 2
    finally:
        subprocess.run([*ssh, "-O", "exit", "cluster"], check=False, stderr=subprocess.DEVNULL)


def test_options_for_terminals_and_forwardings_of_the_configuration_do_no_harm(sshd: Sshd, wd: Path) -> None:
    lines = (" RemoteCommand false", " RequestTTY force", f" LocalForward {sshd.port} localhost:1", " ForwardX11 yes")
    assert says_hello(config_of(sshd, wd, *lines) | {"transport": "openssh"}, wd)


def test_a_configuration_with_a_mistake_is_told_with_its_line(sshd: Sshd, wd: Path) -> None:
    profile = config_of(sshd, wd, " Nonsense yes") | {"transport": "openssh"}
    with pytest.raises(PilotfishError, match="line 7: Bad configuration option"):
        says_hello(profile, wd)


# --- doctor ---------------------------------------------------------------------------------------------------------------


def examined(profile: dict[str, Any], wd: Path) -> dict[str, Finding]:
    given = {"batch_type": "Shell", "context_type": "SSH", "local_root": ".", "remote_root": str(wd / "there")}
    machine = parse_machine({**given, "remote_profile": profile})
    with SSHContext(wd, str(wd), machine.profile) as there:
        return {each.what: each for each in doctor.examine(machine, there)}


def test_doctor_says_which_transport_is_used_and_why_and_whether_the_other_works(sshd: Sshd, wd: Path) -> None:
    found = examined(sshd.profile, wd)["transport"].found
    assert found.startswith("paramiko is used: nothing needs another; openssh works too")
    found = examined(known(sshd, wd, f"[127.*]:* {public(sshd.folder / 'host.pub')}"), wd)["transport"].found
    assert found.startswith("openssh is used: known_hosts names the host by a pattern; paramiko works too")


def test_doctor_names_the_other_transport_where_only_that_one_works(
    sshd: Sshd, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy command is one for a shell, and paramiko has none."""
    relay = [os.path.realpath("/proc/self/exe"), str(Path(__file__).parents[1] / "relay.py")]
    monkeypatch.setenv("RELAY", shlex.join(relay))
    profile = config_of(sshd, wd, ProxyCommand="$RELAY %h %p") | {"transport": "paramiko"}
    connection = examined(profile, wd)["connection"]
    assert (connection.ok, connection.remedy) == (
        False,
        'openssh works: set "transport": "openssh" in remote_profile',
    )


@pytest.mark.filterwarnings("error")
def test_a_proxy_command_ends_with_its_connection(sshd: Sshd, wd: Path) -> None:
    """Also one that does not listen when it is told to; no process and no pipe is left."""
    relay = [os.path.realpath("/proc/self/exe"), str(Path(__file__).parents[1] / "relay.py")]
    (wd / "deaf").write_text(f"#!/bin/bash\ntrap '' TERM\n{shlex.join(relay)} \"$@\"\n")
    (wd / "deaf").chmod(0o700)

    def held() -> tuple[list[psutil.Process], int]:
        return psutil.Process().children(), len(os.listdir("/proc/self/fd"))

    before = held()
    for command in (shlex.join(relay), f"{wd}/deaf"):
        says_hello(config_of(sshd, wd, ProxyCommand=f"{command} %h %p") | {"transport": "paramiko"}, wd)
        wait_until(lambda: held() == before, "the proxy command to end, and its pipes to be closed")


@both
def test_a_key_that_is_not_taken_is_an_error_at_once(sshd: Sshd, wd: Path) -> None:
    with pytest.raises(LoginError, match=f"key {wd}/id"):
        says_hello({**sshd.profile, "key_filename": str(make_key(wd / "id")), "reconnect_for": 600}, wd)
