"""Which transport a profile gets: paramiko, unless the host needs what only OpenSSH does and the profile has no secrets."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import need

from pilotfish.launcher.contexts.ssh import choice
from pilotfish.launcher.contexts.ssh.choice import Choice, NoParamikoError, choose
from pilotfish.launcher.description.machine import machine_to_dict, parse_machine
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.pilot.model.errors import UsageError

Chosen = Callable[..., str]


@pytest.fixture(autouse=True)
def programs() -> None:
    need("ssh", "ssh-keygen")


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """`chosen(lines, key=value)`: the reason for openssh for the host `cluster` with that configuration; empty: paramiko."""
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/ticket")

    def reason(lines: str = "", **profile: Any) -> str:
        (tmp_path / "config").write_text(lines.replace("{tmp}", str(tmp_path)))
        found = choose(
            {"hostname": "cluster", "ssh_config": str(tmp_path / "config"), "look_for_keys": False, **profile}
        )
        assert found.name == ("paramiko" if found.why == "nothing needs another" else "openssh")
        return "" if found.name == "paramiko" else found.why

    return reason


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "Host other\n HostKeyAlias x",
        "Host cluster\n HostName login.example\n User ann\n Port 2222\n IdentityFile ~/.ssh/work\n ProxyJump gate",
        "Host clus*\n ProxyCommand nc %h %p\n UserKnownHostsFile ~/.ssh/more",
        "Host *\n ControlMaster auto\n ControlPath ~/.ssh/%C\n ForwardAgent yes\n SendEnv LANG\n ServerAliveInterval 60",
        "Host *\n GSSAPIAuthentication yes\n LocalForward 1234 localhost:80\n AddKeysToAgent yes",
    ],
)
def test_what_both_do_is_done_by_paramiko(chosen: Chosen, lines: str) -> None:
    assert chosen(lines) == ""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("Host cluster\n HostKeyAlias other", "sets hostkeyalias"),
        ("Host cluster\n CertificateFile ~/.ssh/x-cert.pub", "sets certificatefile"),
        ("Host cluster\n PKCS11Provider /usr/lib/p11.so", "sets pkcs11provider"),
        ("Host *\n IdentitiesOnly yes", "sets identitiesonly"),
        ("Host cluster\n HostbasedAuthentication yes", "sets hostbasedauthentication"),
        ("Host cluster\n KexAlgorithms +diffie-hellman-group1-sha1", "sets kexalgorithms"),
        ("Host cluster\n AddressFamily inet6", "sets addressfamily"),
        ("Match originalhost cluster exec true\n HostName login.example", "(Match)"),
        ("Match final all\n Port 2222", "(Match)"),
        ("Host cluster\n ProxyCommand ssh gate nc $(cat port) %h", "needs a shell"),
        ("Host cluster\n ProxyCommand nc %h %p %k", "tokens that paramiko"),
    ],
)
def test_what_only_openssh_does_is_a_reason(chosen: Chosen, lines: str, reason: str) -> None:
    assert reason in chosen(lines)


def test_an_included_file_is_a_reason(chosen: Chosen, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host cluster\n HostName login.example\n")
    assert "reads another host" in chosen("Include {tmp}/more")
    assert "(Include)" in chosen("Include {tmp}/more")
    (tmp_path / "more").write_text("Host other\n HostName login.example\n")
    assert chosen("Include {tmp}/more") == "", "it says nothing of this host"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("@cert-authority *.example {key}", ""),
        ("@cert-authority clu* {key}", "authority"),
        ("@revoked cluster {key}", "revoked"),
        ("clu?ter {key}", "pattern"),
        ("cluster {key}", ""),
    ],
)
def test_what_known_hosts_has_for_the_host_may_be_a_reason(
    chosen: Chosen, tmp_path: Path, line: str, reason: str
) -> None:
    (tmp_path / "known").write_text(line.format(key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5") + "\n")
    why = chosen(known_hosts=str(tmp_path / "known"))
    assert (reason in why) if reason else why == ""


def test_a_master_of_the_users_own_that_runs_is_a_reason(chosen: Chosen, tmp_path: Path) -> None:
    lines = "Host *\n ControlPath {tmp}/master"
    assert chosen(lines) == ""
    with socket.socket(socket.AF_UNIX) as master:
        master.bind(str(tmp_path / "master"))
        assert "a master of yours runs" in chosen(lines)


def test_a_hardware_key_is_a_reason(chosen: Chosen, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("sk-ssh-ed25519@openssh.com AAAA ann\n")
    assert "hardware key" in chosen(key_filename=str(tmp_path / "id"))


def test_a_kerberos_ticket_is_a_reason_where_it_may_be_used(chosen: Chosen, tmp_path: Path) -> None:
    (tmp_path / "ticket").touch()
    assert chosen() == ""
    assert "Kerberos" in chosen("Host *\n GSSAPIAuthentication yes")


@pytest.mark.parametrize("secret", ["password", "totp_secret"])
def test_a_secret_in_the_profile_keeps_paramiko(tmp_path: Path, secret: str) -> None:
    (tmp_path / "config").write_text("Host *\n HostKeyAlias x\n")
    profile = {"hostname": "cluster", "ssh_config": str(tmp_path / "config"), secret: "env:X"}
    assert choose(profile).name == "paramiko"
    assert choose({**profile, "transport": "openssh"}).name == "openssh"


def test_without_ssh_in_path_it_is_paramiko(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "config").write_text("Host *\n HostKeyAlias x\n")
    choice = choose({"hostname": "cluster", "ssh_config": str(tmp_path / "config")})
    assert (choice.name, choice.why) == ("paramiko", "there is no ssh in PATH")


# --- keys of the profile --------------------------------------------------------------------------------------------------


def machine(**profile: Any) -> Any:
    given = {"batch_type": "Shell", "context_type": "SSH", "local_root": ".", "remote_root": "x"}
    return parse_machine({**given, "remote_profile": {"hostname": "cluster", **profile}})


def test_without_paramiko_it_is_openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `ssh` is missing: keys go by the `ssh` of this machine, and what needs paramiko says what to install."""
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    profile = {"hostname": "cluster", "ssh_config": str(tmp_path / "config")}
    assert choose(profile) == Choice("openssh", "paramiko is not installed")
    for more in ({"password": "x"}, {"totp_secret": "x"}, {"transport": "paramiko"}):
        with pytest.raises(NoParamikoError, match=r"paramiko is not installed.*pip install 'pilotfish\[ssh\]'"):
            choose({**profile, **more})
    assert choose({**profile, "password": "x", "transport": "openssh"}).name == "openssh"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoParamikoError, match="there is no ssh in PATH"):
        choose(profile)


def test_another_name_of_a_transport_is_an_error_with_those_that_there_are() -> None:
    with pytest.raises(DescriptionError, match="transport: unknown 'ssh'; did you mean 'openssh'"):
        machine(transport="ssh")
    with pytest.raises(UsageError, match="auto, paramiko or openssh"):
        choose({"hostname": "cluster", "transport": "libssh"})


def test_answers_are_texts_and_those_that_are_secret_are_in_no_record() -> None:
    with pytest.raises(DescriptionError, match=r"remote_profile\.answers"):
        machine(answers={"Passcode": 1})
    made = machine(answers={"option": "1", "Duo": "push", "Token": "env:TOKEN", "Yubikey": "secret", "PIN": "1234"})
    assert machine_to_dict(made)["remote_profile"]["answers"] == {"option": "1", "Duo": "push", "Token": "env:TOKEN"}
    assert machine_to_dict(made, secrets=True)["remote_profile"]["answers"]["Yubikey"] == "secret"
    assert "answers" not in machine_to_dict(machine(answers={"Yubikey": "secret"}))["remote_profile"]


def test_a_context_is_built_without_paramiko() -> None:
    """It takes a tenth of a second to load."""
    words = (
        "import sys; from pathlib import Path; from pilotfish.launcher.contexts.ssh.context import SSHContext;"
        "SSHContext(Path(), 'x', {'hostname': 'h'}).close(); assert 'paramiko' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
