"""`SSHSession`: a connection to a host, for scripts that run commands and bring files by themselves."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ...contexts.base import Context, LocalFile
from ...contexts.registry import build_context
from ...contexts.shell import sh, users
from ...description import arguments
from ...description.machine import parse_machine
from ...submission.bound_context import Stream
from .utils.utils import get_sha256

_AS_LONG_AS_IT_TAKES_S = 7 * 86400.0


class ChannelFile(Stream):
    """What a command has printed; `channel` knows how it ended."""

    def __init__(self, data: bytes, code: int) -> None:
        super().__init__(data)
        self.channel = Ended(code)


class Ended:
    """A command that is over."""

    def __init__(self, code: int) -> None:
        self._code = code

    def recv_exit_status(self) -> int:
        return self._code

    def exit_status_ready(self) -> bool:
        return True


class SSHSession:
    """One connection, opened by its first use and again when it broke; keywords are those of `remote_profile`.

    Hosts must be known (`~/.ssh/known_hosts`), as everywhere.
    """

    def __init__(self, hostname: str, username: str | None = None, password: str | None = None, **profile: Any) -> None:
        given = {"hostname": hostname, "username": username, "password": password, **profile}
        self.remote_profile = {name: value for name, value in given.items() if value is not None}
        machine = {"batch_type": "Shell", "context_type": "SSH", "local_root": ".", "remote_root": "~"}
        self._context: Context = build_context(parse_machine({**machine, "remote_profile": self.remote_profile}))

    @property
    def remote(self) -> str:
        """USER@HOST, as rsync takes it."""
        user = self.remote_profile.get("username")
        return f"{user}@{self.remote_profile['hostname']}" if user else str(self.remote_profile["hostname"])

    def ensure_alive(self, max_check: int = 10, sleep_time: float = 10) -> None:
        """Connect, if that is not done; a lost connection is tried again for `reconnect_for` seconds.

        Raises LoginError, HostKeyError, ContextLostError.
        """
        self._context.check(sh("true"))

    def exec_command(self, cmd: str) -> tuple[None, ChannelFile, ChannelFile]:
        """Run shell text in the home there, to its end; (None, its output, its errors)."""
        done = self._context.run(users(cmd), cwd="~", timeout_s=_AS_LONG_AS_IT_TAKES_S)
        return None, ChannelFile(done.out.encode(), done.code), ChannelFile(done.err.encode(), done.code)

    def put(self, from_f: str, to_f: str) -> None:
        """Bring a file there. Raises FileNotFoundError, TransferError."""
        folder, name = os.path.split(self._context.absolute(to_f))
        source = Path(from_f)
        found = source.stat()
        self._context.make_folder(folder)
        file = LocalFile(source, name, get_sha256(from_f), found.st_size, found.st_mode & 0o777)
        self._context.put(folder, [file])

    def get(self, from_f: str, to_f: str) -> None:
        """Bring a file here. Raises TransferError when it is not there."""
        folder, name = os.path.split(self._context.absolute(from_f))
        target = Path(to_f)
        with tempfile.TemporaryDirectory(dir=target.parent) as draft:
            self._context.get(folder, [name], Path(draft))
            shutil.move(Path(draft, name), target)

    @property
    def rsync_available(self) -> bool:
        """Whether there is an rsync here. Files are brought over by whatever the machine has, too."""
        return shutil.which("rsync") is not None

    def close(self) -> None:
        self._context.close()

    @staticmethod
    def arginfo() -> Any:
        """The keys of `remote_profile`."""
        return arguments.tree(arguments.context("SSHContext").below["remote_profile"], dict)
