"""A machine over a real sshd: logging in, transfers, outages."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import only_when_thorough
from sshd import TOTP_SECRET, Sshd

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import NO_FOLDER, ContextLostError, TransferError
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.contexts.ssh.session import HostKeyError, LoginError
from pilotfish.launcher.contexts.ssh.totp import one_time_password
from pilotfish.launcher.submission.placement import Placement
from pilotfish.pilot.model.errors import TransientError, UsageError

both = pytest.mark.usefixtures("transport")
ODD = 'it\'s a "$folder"\n&'


def context(sshd: Sshd, wd: Path, **changes: Any) -> SSHContext:
    return SSHContext(wd, str(wd / "there" / ODD), {**sshd.profile, **changes})


# --- logging in -----------------------------------------------------------------------------------------------------------


@both
def test_a_host_never_seen_is_refused_with_its_fingerprint(sshd: Sshd, wd: Path) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", wd / "sshd/host.pub"], capture_output=True, text=True, check=True
    ).stdout
    with pytest.raises(HostKeyError) as caught, context(sshd, wd, known_hosts=str(wd / "none")) as there:
        there.run(users("true"))
    assert shown.split()[1] in str(caught.value)
    assert '"accept_new": true' in str(caught.value)


@both
def test_a_new_host_may_be_accepted_and_is_known_then(sshd: Sshd, wd: Path) -> None:
    known = str(wd / "known")
    with context(sshd, wd, known_hosts=known, accept_new=True) as there:
        assert there.run(users("true")).code == 0
    with context(sshd, wd, known_hosts=known) as there:
        assert there.run(users("true")).code == 0


@both
def test_a_changed_key_is_refused_whatever_is_said(sshd: Sshd, wd: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wd / "other"], check=True)
    kind, key = (wd / "other.pub").read_text().split()[:2]
    (wd / "known").write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    with (
        pytest.raises(HostKeyError, match="has changed"),
        context(sshd, wd, known_hosts=str(wd / "known"), accept_new=True) as there,
    ):
        there.run(users("true"))


@both
def test_no_way_to_log_in_is_told_with_what_was_tried(sshd: Sshd, wd: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wd / "other"], check=True)
    with pytest.raises(LoginError, match=f"key {wd}/other"), context(sshd, wd, key_filename=str(wd / "other")) as there:
        there.run(users("true"))
    with pytest.raises(UsageError, match="not found!"), context(sshd, wd, key_filename="/none") as there:
        there.run(users("true"))


@both
def test_a_key_with_a_passphrase_from_a_file(sshd: Sshd, wd: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", wd / "sshd/user"], check=True)
    (wd / "phrase").write_text("secret words\n")
    with context(sshd, wd, passphrase=f"file:{wd}/phrase") as there:
        assert there.run(users("true")).code == 0
    with (
        pytest.raises(UsageError, match="is the passphrase right") as caught,
        context(sshd, wd, passphrase="wrong") as there,
    ):
        there.run(users("true"))
    assert "wrong" not in str(caught.value)


@both
def test_names_and_keys_from_ssh_config(sshd: Sshd, wd: Path) -> None:
    (wd / "config").write_text(
        f"Host cluster\n HostName 127.0.0.1\n Port {sshd.port}\n User root\n IdentityFile {wd}/sshd/user\n"
        f" UserKnownHostsFile {wd}/sshd/known_hosts\n"
    )
    with SSHContext(wd, str(wd), {"hostname": "cluster", "ssh_config": str(wd / "config")}) as there:
        assert there.run(users("echo hi")).out == "hi\n"


@both
def test_through_two_other_hosts(sshd: Sshd, wd: Path) -> None:
    """The same key opens all; the target is reached from the last of them."""
    with Sshd(wd / "first") as first, Sshd(wd / "second") as second:
        for each in (first, second):
            (each.folder / "user.pub").write_text((wd / "sshd/user.pub").read_text())
        known = "".join((each.folder / "known_hosts").read_text() for each in (first, second, sshd))
        (wd / "known").write_text(known)
        jump = f"root@127.0.0.1:{first.port},root@127.0.0.1:{second.port}"
        with context(sshd, wd, jump=jump, known_hosts=str(wd / "known")) as there:
            port = there.run(users("echo $SSH_CONNECTION")).out.split()[3]
        assert port == str(sshd.port)
        assert "Accepted publickey" in (first.folder / "log").read_text()
        assert "Accepted publickey" in (second.folder / "log").read_text()


@both
def test_through_a_command(sshd: Sshd, wd: Path) -> None:
    program = f"{os.path.realpath('/proc/self/exe')} {Path(__file__).parents[1] / 'relay.py'} %h %p"
    with context(sshd, wd, proxy_command=program) as there:
        assert there.run(users("echo hi")).out == "hi\n"


def by_password(server: Sshd, wd: Path, user: str, **more: Any) -> SSHContext:
    profile = {**server.profile, "username": user, "look_for_keys": False, **more}
    del profile["key_filename"]
    return SSHContext(wd, "/tmp", profile)


@both
def test_a_password_from_the_environment(sshd: Sshd, wd: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "secret")
    with by_password(sshd, wd, user, password="env:MY_PASSWORD") as there:
        assert there.run(users("id -un")).out.strip() == user
    with pytest.raises(LoginError), by_password(sshd, wd, user, password="wrong") as there:
        there.run(users("true"))


@both
@pytest.mark.skipif(not Path("/lib/x86_64-linux-gnu/security/pam_oath.so").exists(), reason="needs libpam-oath")
def test_password_and_one_time_password(wd: Path, user: str, sshd: Sshd) -> None:
    """Keyboard-interactive by a PAM stack of its own, in a mount namespace."""
    folder = wd / "otp"
    folder.mkdir()
    (folder / "users").write_text(f"HOTP/T30/6 {user} - 3132333435363738393031323334353637383930\n")
    (folder / "users").chmod(0o600)
    (folder / "pam").write_text(
        f"auth required pam_unix.so\nauth required pam_oath.so usersfile={folder}/users window=20 digits=6\n"
        "account required pam_permit.so\nsession required pam_permit.so\n"
    )
    lines = ("UsePAM yes", "KbdInteractiveAuthentication yes", "PasswordAuthentication no", "PubkeyAuthentication no")
    with (
        Sshd(folder, *lines) as server,
        by_password(server, wd, user, password="secret", totp_secret=TOTP_SECRET) as there,
    ):
        assert there.run(users("id -un")).out.strip() == user
        (wd / "big").write_bytes(os.urandom(2 << 20))
        there.put(f"/tmp/{wd.name}-otp", staging.forward(["big"], wd, ""))
        there.remove(f"/tmp/{wd.name}-otp")
        if rsync.is_here():
            assert there._rsync.travelled_bytes > 2 << 20, "no second login"


def test_one_time_passwords_of_the_standard() -> None:
    """RFC 6238, appendix B (the last six digits)."""
    times = (59, 1111111109, 20000000000)
    assert [one_time_password(TOTP_SECRET.lower(), now) for now in times] == ["287082", "081804", "353130"]


# --- work -----------------------------------------------------------------------------------------------------------------


@both
def test_commands_and_folders(sshd: Sshd, wd: Path) -> None:
    with context(sshd, wd) as there:
        root = there.root_for("hash", "w")
        there.write({f"{root}/x": b"1"})
        done = there.run(users("cat x; cat; echo err >&2; exit 3"), cwd=root, stdin=b"in")
        assert (done.code, done.out, done.err) == (3, "1in", "err\n")
        assert there.run(users("touch /tmp/must-not-be"), cwd=f"{root}/none").code == NO_FOLDER
        assert not Path("/tmp/must-not-be").exists()
        with pytest.raises(TransientError):
            there.run(users("sleep 60"), timeout_s=0.3)


@both
def test_a_command_after_each_connect_may_print_much(sshd: Sshd, wd: Path) -> None:
    command = f"echo x >>{wd}/connected; head -c 5000000 /dev/zero"
    with context(sshd, wd, execute_command=command) as there:
        assert there.run(users("echo in")).out == "in\n"
        sshd.cut()
        assert there.run(users("echo back")).out == "back\n"
    assert (wd / "connected").read_text() == "x\nx\n"


@both
def test_much_goes_in_and_out_at_once_and_what_is_not_read_does_no_harm(sshd: Sshd, wd: Path) -> None:
    """More than SSH's windows and the machine's pipes hold."""
    much = os.urandom(6 << 20).hex()
    with context(sshd, wd) as there:
        assert there.run(users("cat"), stdin=much.encode()).out == much
        done = there.run(users("echo enough >&2; exit 4"), stdin=much.encode())
        assert (done.code, done.out, done.err) == (4, "", "enough\n")
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


def test_home_is_where_relative_roots_begin(sshd: Sshd, wd: Path) -> None:
    with SSHContext(wd, "~/pf", sshd.profile) as there:
        assert there.absolute("~/pf") == there.absolute("pf") == str(Path.home() / "pf")


@both
def test_files_go_and_come_back_by_content(sshd: Sshd, wd: Path) -> None:
    work = wd / "w"
    (work / ODD).mkdir(parents=True)
    for number in range(50):
        (work / ODD / f"-f '{number}").write_text("x" * number)
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    files = staging.forward(["*"], work, "")
    with context(sshd, wd) as there:
        root = there.root_for("hash", "w")
        assert len(there.put(root, files, ["empty/er"]).moved) == 51
        again = there.put(root, files)
        assert (again.moved, len(again.same), again.sent_bytes) == ((), 51, 0)
        (work / "run.sh").write_text("#!/bin/bash\n")
        assert there.put(root, staging.forward(["*"], work, "")).moved == ("run.sh",)
        listing = there.list_files(root, ["**"])
        assert len(listing) == 51
        there.get(root, [file.path for file in listing], wd / "back")
        assert there.get(root, [file.path for file in listing], wd / "back").moved == ()
        assert there.read([f"{root}/run.sh", f"{root}/none"]) == {f"{root}/run.sh": b"#!/bin/bash\n"}
        with pytest.raises(TransferError):
            there.get(root, ["none"], wd / "back")
        there.remove(root)
        there.remove(root)
    assert os.access(wd / "back/run.sh", os.X_OK)
    assert (wd / "back" / ODD / "-f '7").read_text() == "xxxxxxx"


@both
def test_more_folders_and_files_than_a_command_line_takes(sshd: Sshd, wd: Path) -> None:
    folders = [f"{'long' * 30}-{number}" for number in range(1500)]
    for folder in folders:
        (wd / "work" / folder).mkdir(parents=True)
        (wd / "work" / folder / "in").write_text(folder)
    files = [file for folder in folders for file in staging.forward(["in"], wd / "work", folder)]
    root = str(wd / "there" / "many")
    with context(sshd, wd) as there:
        assert len(there.put(root, files, folders).moved) == 1500
        assert len(there.put(root, files, folders).same) == 1500
        assert len(there.list_files(root, [".", *folders])) == 1500
        assert len(there.get(root, [file.path for file in files], wd / "home").moved) == 1500
        there.delete(root, [file.path for file in files])
        assert there.list_files(root, ["**"]) == []


@both
def test_a_full_disk_there_is_told(sshd: Sshd, wd: Path) -> None:
    disk = wd / "disk"
    disk.mkdir()
    (wd / "big").write_bytes(os.urandom(2 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        with SSHContext(wd, str(disk), sshd.profile) as there:
            with pytest.raises(TransferError, match="KiB are free there"):
                there.put(there.root_for("h", ""), staging.forward(["big"], wd, ""))
            with pytest.raises(TransferError, match="KiB are free there"):
                there.write({f"{disk}/x": b"x" * (2 << 20)})
    finally:
        subprocess.run(["umount", disk], check=True)


# --- outages --------------------------------------------------------------------------------------------------------------


@both
def test_a_server_that_comes_back_is_waited_for(sshd: Sshd, wd: Path) -> None:
    with context(sshd, wd) as there:
        there.run(users("true"))
        sshd.kill()
        back = threading.Timer(1.0, sshd.start)
        back.start()
        assert there.run(users("echo back")).out == "back\n"
        back.join()


@both
def test_who_waits_for_a_server_is_told(sshd: Sshd, wd: Path) -> None:
    told: list[str] = []
    with context(sshd, wd) as there:
        there.tell = told.append
        there.run(users("true"))
        sshd.kill()
        back = threading.Timer(1.0, sshd.start)
        back.start()
        there.run(users("true"))
        back.join()
    assert len(told) == 1
    assert "trying again for" in told[0]


def test_a_host_that_does_not_exist_is_not_waited_for(sshd: Sshd, wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*ignored: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # here a name server may not answer at all
    with pytest.raises(ContextLostError, match="is the name right"), context(sshd, wd) as there:
        there.run(users("true"))


@both
def test_a_server_that_stays_away_is_lost_with_a_remedy(sshd: Sshd, wd: Path) -> None:
    with context(sshd, wd, reconnect_for=0.5) as there:
        there.run(users("true"))
        sshd.kill()
        with pytest.raises(ContextLostError, match="jobs there go on"):
            there.run(users("true"))


@both
def test_what_must_not_be_repeated_is_not(sshd: Sshd, wd: Path, wait_until: Callable[..., None]) -> None:
    with context(sshd, wd) as there:
        there.run(users("true"))
        ran = wd / "ran"

        def cut_when_it_runs() -> None:
            wait_until(lambda: ran.exists() and ran.read_text(), "the command")
            sshd.cut()

        killer = threading.Thread(target=cut_when_it_runs)
        killer.start()
        with pytest.raises(TransientError, match="the connection broke"):
            there.run(users(f"echo x >>{wd}/ran; sleep 5"), once=True)
        killer.join()
        assert ran.read_text() == "x\n"


@both
@only_when_thorough
@pytest.mark.parametrize("threshold", [0, 1 << 16], ids=["one archive", "in parts"])
def test_transfers_go_on_after_cuts(sshd: Sshd, wd: Path, threshold: int) -> None:
    """The connection is cut again and again while files of 24 MiB travel, to the machine and back."""
    work = wd / "w"
    work.mkdir()
    for number in range(12):
        (work / f"f{number}").write_bytes(os.urandom(2 << 20))
    files = staging.forward(["*"], work, "")
    cuts = 0

    def watch(done: int, whole: int) -> None:
        nonlocal cuts
        if done > (cuts + 1) * (6 << 20) and cuts < 3:
            cuts += 1
            sshd.cut()

    with context(sshd, wd, archive_chunk_size=threshold) as there:
        root = there.root_for("hash", "w")
        there.put(root, files, (), watch)
        assert cuts > 0
        cuts = 0
        there.get(root, [file.path for file in files], wd / "back", watch)
        assert cuts > 0
    for file in files:
        assert (wd / "back" / file.path).read_bytes() == file.source.read_bytes()


@both
@only_when_thorough
def test_a_submission_survives_an_outage_while_it_runs(
    sshd: Sshd, wd: Path, submission: Callable[..., Placement]
) -> None:
    """The server dies while jobs run, and comes back later; jobs go on meanwhile."""
    machine = {"context_type": "SSH", "remote_profile": sshd.profile}
    command = f"echo x >>{wd}/starts; until [ -e {wd}/back ]; do sleep 0.1; done; echo done >out"
    tasks = [{"command": command, "task_work_path": name, "backward_files": ["out"]} for name in "ab"]
    told: list[str] = []

    def back_again() -> None:
        sshd.start()
        (wd / "back").touch()

    def tell(text: str) -> None:
        told.append(text)
        if len([line for line in told if "submitted as" in line]) == 2 and not (wd / "down").exists():
            (wd / "down").touch()
            sshd.kill()
            threading.Timer(1.5, back_again).start()

    began = time.monotonic()
    made = submission(*tasks, machine=machine, tools={"tell": tell})
    assert made.run(check_interval_s=0.5).over
    assert time.monotonic() - began > 1.5
    assert (wd / "starts").read_text() == "x\nx\n"
    assert [(wd / "here/w" / name / "out").read_text() for name in "ab"] == ["done\n", "done\n"]


@both
def test_a_forked_child_has_a_connection_of_its_own(sshd: Sshd, wd: Path) -> None:
    """The thread that serves the parent's stays there; two processes on it would break it for both."""
    with context(sshd, wd) as there:
        server = there.run(users("echo $PPID")).out
        child = os.fork()
        if child == 0:
            said = there.run(users("echo $PPID")).out
            os._exit(0 if said.strip().isdigit() and said != server else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert there.run(users("echo $PPID")).out == server, "the parent's connection is still the same"
