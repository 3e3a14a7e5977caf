"""One login by the system's `ssh`: a process that asks questions, writes a log, and goes to the background when it is in.

ssh runs in a session of its own, away from the terminal: Ctrl-C is for us, and its questions come to us by way of `askpass.py`.
Whether it has worked is its exit code; why not stands in its log, in words that have been the same for many years.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ....pilot.model.errors import PilotfishError, RefusedError, UsageError
from ..shell import sh, words
from . import refusals
from .prompts import Prompts, tell_on_terminal
from .session import HostKeyError, LoginError
from .target import Target

_LOOK_S = 0.02
_SILENCE_S = 90.0
"""Besides `timeout`, for what comes after the connection, without the time that questions take."""
_PASSPHRASE = re.compile(r"Enter passphrase for key '(.*)': ?")
_ASKED_BY = re.compile(r"^\((\S+?)@\S+\) |^(\S+?)@\S+'s ")


class Login:
    """Runs `words` to the end of the login; `folder` is a private one, for its log and its questions."""

    def __init__(self, words: Sequence[str], folder: Path, target: Target, prompts: Prompts, timeout_s: float) -> None:
        self._words = words
        self._folder = folder
        self._log = folder / "log"
        self._target = target
        self._prompts = prompts
        self._patience_s = timeout_s + _SILENCE_S
        self._passphrases: set[str] = set()

    def run(self) -> None:
        """Raises OSError for what may pass, else HostKeyError, LoginError, RefusedError, UsageError."""
        self._prompts.new_login()
        with socket.socket(socket.AF_UNIX) as questions, open(self._log, "ab") as log:
            questions.bind(str(self._folder / "ask"))
            questions.listen()
            questions.settimeout(_LOOK_S)
            process = subprocess.Popen(
                self._words,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
            try:
                self._answer_until_end(process, questions)
            finally:
                _end(process)
                for name in ("ask", "askpass"):
                    (self._folder / name).unlink(missing_ok=True)
        if process.returncode:
            raise failure(self._log.read_text(errors="replace"), self._target)

    def _environ(self) -> dict[str, str]:
        program = self._folder / "askpass"
        asks = words([sys.executable, "-IS", str(Path(__file__).with_name("askpass.py"))])
        program.write_text(sh('#!/bin/sh\nexec {asks} "$@"\n', asks=asks))
        program.chmod(0o700)
        return {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "SSH_ASKPASS": str(program),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or ":0",  # before 8.4 nobody is asked without one
            "PILOTFISH_ASKPASS": str(self._folder / "ask"),
        }

    def _answer_until_end(self, process: subprocess.Popen[bytes], questions: socket.socket) -> None:
        deadline = time.monotonic() + self._patience_s
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"the login was not done after {self._patience_s:g} s")
            with suppress(TimeoutError):
                connection, _ = questions.accept()
                with connection:
                    self._answer(connection)
                deadline = time.monotonic() + self._patience_s

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        kind, _, text = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\0")
        reply = self._reply(kind.decode(), text.decode(errors="replace"))
        with suppress(OSError):  # ssh has not waited for it
            connection.sendall(b"" if reply is None else b"+" + reply.encode())

    def _reply(self, kind: str, text: str) -> str | None:
        if kind == "none":
            tell_on_terminal(text)
            return ""
        if kind == "confirm":
            agreed = (self._prompts.ask(f"{text} (yes/no) ", shown=True) or "").lower() in ("y", "yes")
            return "yes" if agreed else None
        if match := _PASSPHRASE.fullmatch(text):
            return self._passphrase(match[1], text)
        asked_by = _ASKED_BY.match(text)
        user = (asked_by[1] or asked_by[2]) if asked_by else self._target.user
        try:
            return self._prompts.answer(text, user)
        except LoginError as error:
            what = f"{self._target.user} cannot log in: {_tried(self._log_text())}{error.what}"
            raise LoginError(what, where=self._target.name_in_known_hosts, remedy=error.remedy) from error

    def _passphrase(self, path: str, text: str) -> str | None:
        """Of a key; without one ssh goes on with the next key."""
        known = self._prompts.secret("passphrase") if path in self._target.keys else None
        if known is None:
            return self._prompts.ask(text)
        if path in self._passphrases:
            raise refusals.unreadable_key(path, "the passphrase does not fit")
        self._passphrases.add(path)
        return known

    def _log_text(self) -> str:
        return self._log.read_text(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started (questions, proxies); a login that has worked has left this process already."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- why it has not worked ------------------------------------------------------------------------------------------------

_PASSING = (
    ("Connection refused", ConnectionRefusedError, errno.ECONNREFUSED),
    ("timed out", TimeoutError, errno.ETIMEDOUT),
    ("No route to host", OSError, errno.EHOSTUNREACH),
    ("Network is unreachable", OSError, errno.ENETUNREACH),
)
_NO_SUCH_NAME = ("not known", "No address associated", "nodename nor servname")
_CONFIGURATION = (
    "configuration option",
    "Bad owner or permissions",
    "missing argument",
    "Unsupported option",
    ": line ",
)


def failure(log: str, target: Target) -> OSError | PilotfishError:
    """The error that a login has ended with, by ssh's log at level DEBUG1."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("debug")]
    last = "; ".join(dict.fromkeys(lines[-2:])) or "ssh said nothing"
    name = target.name_in_known_hosts
    if "Host key verification failed" in log or "host key is revoked" in log:
        return _host_key(log, name, last)
    if any(words in last for words in _CONFIGURATION):
        return UsageError(f"ssh cannot be started: {last}", where=target.host, remedy="mend the ssh configuration")
    if "Unable to negotiate" in log or "no matching" in last:
        remedy = "the ssh configuration (KexAlgorithms, HostKeyAlgorithms, Ciphers) may allow what the host offers"
        return RefusedError(f"the host and ssh have no method in common: {last}", where=name, remedy=remedy)
    if "Permission denied" in log or "Too many authentication failures" in log or "No more authentication" in log:
        remedy = "give key_filename, password or totp_secret in remote_profile, or start an ssh-agent"
        return LoginError(f"{target.user} cannot log in: {_tried(log)}{last}", where=name, remedy=remedy)
    return _passing(log, last)


def _passing(log: str, last: str) -> OSError:
    if match := re.search(r"Could not resolve hostname \S+: (.*)", log):
        unknown = any(words in match[1] for words in _NO_SUCH_NAME)
        return socket.gaierror(socket.EAI_NONAME if unknown else socket.EAI_AGAIN, match[1])
    return next((kind(number, last) for words, kind, number in _PASSING if words in last), OSError(last))


def _host_key(log: str, name: str, last: str) -> HostKeyError:
    shown = re.findall(r"Server host (?:key|certificate): (\S+ SHA256:\S+)", log)
    fingerprint = shown[-1].rstrip(",") if shown else "not shown"
    if "REVOKED HOST KEY" in log or "is revoked" in log:
        return refusals.revoked_key(name, fingerprint)
    if "IDENTIFICATION HAS CHANGED" in log:
        return refusals.changed_key(name, fingerprint)
    if shown:
        return refusals.unknown_key(name, fingerprint)
    return HostKeyError(f"the key of a host on the way is not accepted: {last}", where=name, remedy="`ssh` there once")


def _tried(log: str) -> str:
    keys = dict.fromkeys(re.findall(r"Offering public key: (\S+)", log))
    return f"not taken: {', '.join(f'key {key}' for key in keys)}; " if keys else ""
