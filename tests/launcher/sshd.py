"""A real sshd on loopback, for tests: for this user by key, for a test user by password or one-time password."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from patience import PATIENCE_S, wait_until

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
TOTP_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""Base32 of the secret that `oath_users` has in hex."""

_Kind = TypeVar("_Kind", bound="Sshd")


class Sshd:
    """Use as a context manager. `profile` logs in; `kill` and `start` are an outage."""

    transport = "auto"
    """Of all profiles; the fixture `transport` sets it."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.port = port or _free_port()
        self._lines = lines
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("host", "user"):
            if not (folder / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        public = (folder / "host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        (folder / "empty").touch()

    @property
    def profile(self) -> dict[str, object]:
        return {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": getpass.getuser(),
            "key_filename": str(self.folder / "user"),
            "known_hosts": str(self.folder / "known_hosts"),
            "ssh_config": str(self.folder / "empty"),
            "reconnect_for": PATIENCE_S,
            "timeout": PATIENCE_S,
            "transport": self.transport,
        }

    def start(self) -> None:
        os.makedirs("/run/sshd", exist_ok=True)
        variables = [line.removeprefix("SetEnv ") for line in self._lines if line.startswith("SetEnv ")]
        text = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/user.pub",
            "PermitRootLogin yes",
            "StrictModes no",
            "UseDNS no",
            "MaxStartups 100",
            " ".join(["SetEnv", f"PILOTFISH_HOME={self.folder}/pilotfish", *variables]),  # sshd takes only the first
            *(["UsePAM no"] if not any(line.startswith("UsePAM") for line in self._lines) else []),
            *(line for line in self._lines if not line.startswith("SetEnv ")),
        ]
        (self.folder / "sshd_config").write_text("\n".join(text) + "\n")
        log = open(self.folder / "log", "ab")
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if (self.folder / "pam").exists():  # an own PAM stack, without touching the machine's
            mount = f'mount --bind {self.folder}/pam /etc/pam.d/sshd && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", mount, "sh", *command]
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        log.close()
        wait_until(lambda: _answers(self.port), (self.folder / "log").read_text, of=self._process)

    def kill(self) -> None:
        """SIGKILL to the server and to all its connections."""
        assert self._process is not None
        _kill_tree(self._process.pid)
        self._process.wait()
        self._process = None

    def cut(self) -> None:
        """SIGKILL to the connections only."""
        assert self._process is not None
        for child in _children(self._process.pid):
            _kill_tree(child)

    def __enter__(self: _Kind) -> _Kind:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill_tree(pid: int) -> None:
    """The sshd processes only: what a user's session has started goes on, as after a broken connection."""
    children = _children(pid)
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name.startswith("sshd"):
            os.kill(pid, 9)
    except OSError:
        return
    for child in children:
        _kill_tree(child)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
