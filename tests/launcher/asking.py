"""An SSH server on loopback that asks questions of its own at a login, for tests; commands run as this user."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.server import InteractiveQuery
from patience import PATIENCE_S


class Asking:
    """Use as a context manager. Each question is (instructions, prompt, whether what is typed may be seen).

    Attributes:
        takes: the answers that let somebody in.
        answered: what has been answered, of all logins.
    """

    def __init__(self, folder: Path, questions: Sequence[tuple[str, str, bool]], takes: Sequence[str]) -> None:
        self.questions = list(questions)
        self.takes = list(takes)
        self.answered: list[str] = []
        self._key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        known = folder / "known_asking"
        known.write_text(f"[127.0.0.1]:{port} {self._key.get_name()} {self._key.get_base64()}\n")
        (folder / "none").touch()
        self.profile: dict[str, object] = {
            "hostname": "127.0.0.1",
            "port": port,
            "username": "ann",
            "known_hosts": str(known),
            "ssh_config": str(folder / "none"),
            "look_for_keys": False,
            "timeout": PATIENCE_S,
        }

    def __enter__(self) -> Asking:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        kept = []
        with suppress(OSError):
            while True:
                transport = paramiko.Transport(self._listener.accept()[0])
                transport.add_server_key(self._key)
                kept.append(transport)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=_Login(self))


class _Login(paramiko.ServerInterface):
    def __init__(self, server: Asking) -> None:
        self._server = server
        self._at = 0

    def get_allowed_auths(self, username: str) -> str:
        return "keyboard-interactive"

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        self._at = 0
        return self._next()

    def _next(self) -> InteractiveQuery:
        instructions, prompt, shown = self._server.questions[self._at]
        return InteractiveQuery("", instructions, (prompt, shown))

    def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:
        self._server.answered += responses
        if responses != [self._server.takes[self._at]]:
            return int(AUTH_FAILED)
        self._at += 1
        return self._next() if self._at < len(self._server.questions) else int(AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_run, args=(channel, command), daemon=True).start()
        return True


def _run(channel: paramiko.Channel, command: bytes) -> None:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    channel.sendall(done.stdout)
    channel.sendall_stderr(done.stderr)
    channel.send_exit_status(done.returncode)
    channel.close()
