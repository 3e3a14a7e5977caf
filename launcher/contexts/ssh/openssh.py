"""SSH by the system's `ssh`: the user's whole configuration, certificates, agents, authorities and keys of every kind.

There is one login, and one `ssh` (a ControlMaster) that holds it; commands go over its control socket. It belongs to us alone:
the socket is in a folder of our own, and it ends within seconds when nobody holds a connection to that socket any more, so even
a launcher that is killed leaves nothing behind. Where the user's own configuration has a master that runs already, that one is
used: it has answered the second factor. When it breaks the next one is ours.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....pilot.model.errors import UsageError
from .. import shell
from . import mux, refusals
from .login import Login
from .prompts import Prompts
from .session import Channel, Transport
from .target import Target, config_options, split_hop, target_of

_PREFIX = "pilotfish-ssh-"
_LONGEST_FOLDER = 50
"""The name of a socket has room for a hundred bytes, and ssh puts seventeen behind it while it makes one."""
_LINGER_S = 5
"""How long a master stays that nobody is connected to: the time from its login to our connection."""
_ANSWER_S = 10.0
"""A master that lives answers at once."""
_LARGEST_LOG = 1 << 20
_HOUR_S = 3600.0
_OPEN_FAILED = re.compile(r"open failed: (.*)")


class OpenSsh(Transport):
    """Logs in when it is made.

    Args:
        again: there was a connection that broke; only a login of our own will do.

    Raises OSError for what may pass, HostKeyError, LoginError, RefusedError, UsageError.
    """

    name = "openssh"

    def __init__(self, profile: Mapping[str, Any], prompts: Prompts, *, again: bool = False) -> None:
        program = shutil.which("ssh")
        if program is None:
            remedy = 'install OpenSSH\'s client, or set "transport": "paramiko"'
            raise UsageError("no ssh is found in PATH", where="remote_profile.transport", remedy=remedy)
        self._host = str(profile["hostname"])
        self._timeout_s = float(profile.get("timeout", 10))
        self._folder: Path | None = None
        self._held: mux.Control | None = None
        target = target_of(self._host, profile, profile)
        if not again and self._attach(target.options.get("controlpath", ("none",))[0]):
            return
        if profile.get("key_filename") and not any(map(os.path.exists, (target.keys[0], f"{target.keys[0]}.pub"))):
            raise refusals.missing_key(target.keys[0])
        self._folder = _private_folder()
        try:
            words = Words(program, profile, target).master(str(self._folder / "m"))
            Login(words, self._folder, target, prompts, self._timeout_s).run()
            self._path = str(self._folder / "m")
            self._held = mux.Control(self._path, _ANSWER_S)
        except BaseException:
            self.close()
            raise

    def _attach(self, path: str) -> bool:
        """Use the user's own master, where one runs."""
        if path == "none" or not os.path.exists(path):
            return False
        with suppress(OSError):
            held = mux.Control(path, _ANSWER_S)
            if held.is_alive():
                self._held, self._path = held, path
                return True
            held.close()
        return False

    def start(self, command: bytes, timeout_s: float) -> Channel:
        self._cut_log()
        try:
            return mux.run(self._path, command, timeout_s=timeout_s, open_timeout_s=self._timeout_s)
        except mux.DeniedError as error:
            raise refusals.no_session(self._host, self._why_not() or str(error)) from error

    def connect_to(self, host: str, port: int) -> Channel:
        self._cut_log()
        try:
            return mux.forward(self._path, host, port, open_timeout_s=self._timeout_s)
        except mux.DeniedError as error:
            reason = self._why_not() or str(error)
            forbidden = "prohibited" in reason
            raise refusals.no_connection(host, port, self._host, reason, forbidden=forbidden) from error

    def is_alive(self) -> bool:
        return self._held is not None and self._held.is_alive()

    def close(self) -> None:
        if self._held is not None:
            if self._folder is not None:
                self._held.terminate()
            self._held.close()
            self._held = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def leave_to_parent(self) -> None:
        if self._held is not None:
            self._held.close_copy()
            self._held = None

    def _why_not(self) -> str:
        """The last refusal in the log."""
        if self._folder is None:
            return ""
        with suppress(OSError):
            found = _OPEN_FAILED.findall((self._folder / "log").read_text(errors="replace"))
            return str(found[-1]) if found else ""
        return ""

    def _cut_log(self) -> None:
        """ssh appends to it for each command, maybe for weeks."""
        if self._folder is not None:
            log = self._folder / "log"
            with suppress(OSError):
                if log.stat().st_size > _LARGEST_LOG:
                    os.truncate(log, 0)


class Words:
    """Command lines of ssh for one profile. What the profile says comes first, so it wins over the configuration."""

    def __init__(self, program: str, profile: Mapping[str, Any], target: Target) -> None:
        self._program = program
        self._profile = profile
        self._target = target

    def master(self, path: str) -> list[str]:
        """A login that goes to the background, with its control socket at `path` and its log beside it."""
        profile = self._profile
        words = [self._program, *config_options(profile), "-M", "-N", "-T", "-x", "-S", path]
        words += ["-E", str(Path(path).with_name("log"))]
        words += _options(
            LogLevel="DEBUG1",
            ControlPersist=_LINGER_S,
            ClearAllForwardings="yes",
            RemoteCommand="none",
            NumberOfPasswordPrompts=1 if profile.get("password") or profile.get("totp_secret") else 3,
        )
        words += self._shared()
        if profile.get("tar_compress", True):
            words += _options(Compression="no")  # archives are compressed already
        if profile.get("key_filename") or not profile.get("look_for_keys", True):
            words += _options(IdentitiesOnly="yes")
        words += ["-l", str(profile["username"])] if profile.get("username") else []
        words += ["-p", str(profile["port"])] if profile.get("port") else []
        if profile.get("proxy_command"):
            words += _options(ProxyCommand=str(profile["proxy_command"]))
        elif profile.get("jump"):
            words += _options(ProxyCommand=self._proxy(str(profile["jump"]).split(",")))
        return [*words, "--", str(profile["hostname"])]

    def _shared(self) -> list[str]:
        """What holds for hosts on the way too."""
        profile = self._profile
        options: dict[str, Any] = {"StrictHostKeyChecking": "accept-new" if self._target.accepts_new else "yes"}
        if profile.get("known_hosts"):
            options["UserKnownHostsFile"] = " ".join(_quoted(file) for file in self._target.known_hosts)
        options["ConnectTimeout"] = math.ceil(float(profile.get("timeout", 10)))
        keepalive = math.ceil(float(profile.get("keepalive", 30)))
        words = _options(**options, ServerAliveInterval=keepalive, ServerAliveCountMax=2)
        return words + (["-i", self._target.keys[0]] if profile.get("key_filename") else [])

    def _proxy(self, hops: Sequence[str]) -> str:
        """A command that leads through the hosts, the last of them connecting to ours."""
        user, host, port = split_hop(hops[-1])
        words = [self._program, *config_options(self._profile), "-x", *self._shared()]
        words += ["-l", user] if user else []
        words += ["-p", port] if port else []
        if hops[:-1]:
            words += _options(ProxyCommand=self._proxy(hops[:-1]))
        words = [word.replace("%", "%%") for word in words]  # the ssh that starts this one fills in what has one
        return shell.words([*words, "-W", "[%h]:%p", "--", host])


def _options(**values: Any) -> list[str]:
    return [word for name, value in values.items() for word in ("-o", f"{name}={value}")]


def _quoted(path: str) -> str:
    """As a word of ssh_config; percent signs are tokens there."""
    return '"' + path.replace("%", "%%") + '"'


def _private_folder() -> Path:
    """For sockets, with a short name. What launchers that were killed have left is removed."""
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) + len(_PREFIX) > _LONGEST_FOLDER:
        base = Path("/tmp")
    for old in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if old.lstat().st_uid == os.geteuid() and not old.is_symlink() and _is_left(old):
                shutil.rmtree(old)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))


def _is_left(folder: Path) -> bool:
    """Whether its master has gone. One that is just made has none yet."""
    if time.time() - folder.stat().st_mtime < _HOUR_S:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(folder / "m")) != 0
