"""One SSH connection: finding the host, checking its key, logging in, running commands, coming back after an outage.

Host keys are checked. A host never seen before is an error that shows its fingerprint, unless the profile says `accept_new`;
a changed key is always refused.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import logging
import math
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....pilot.model.errors import RefusedError, UsageError
from ...description.secrets import resolve
from ..base import ContextLostError
from .totp import one_time_password

if TYPE_CHECKING:
    import paramiko

_BANNER_S = 60.0
_AUTH_S = 30.0
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between two tries to connect; the last one again and again."""
_MOST_HOPS = 8


class HostKeyError(RefusedError):
    """The host's key is not known, or another than before."""

    code = "host-key"


class LoginError(UsageError):
    """No way to log in was accepted; trying again gives the same."""

    code = "login"


class BrokenError(Exception):
    """The connection broke while it was used; what was under way may or may not have happened."""


@dataclass(frozen=True)
class Target:
    """A host as the profile and ~/.ssh/config describe it."""

    host: str
    port: int
    user: str
    keys: tuple[str, ...]
    known_hosts: tuple[str, ...]
    jump: str | None
    proxy_command: str | None

    @property
    def name_in_known_hosts(self) -> str:
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


_left_to_the_parent: list[object] = []
"""Connections that a forked child has inherited: kept, so that nobody closes them there."""


class Session:
    """A connection that is opened when it is first used, and again when it was lost. Several threads may ask for channels; a
    process that is forked has a connection of its own.

    Args:
        profile: `remote_profile` of the machine.
        tell: called with a line when the host is away and waited for.
        clock, sleep: for the pauses between tries.
    """

    def __init__(
        self,
        profile: Mapping[str, Any],
        tell: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._profile = profile
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._transport: paramiko.Transport | None = None
        self._hops: list[paramiko.Transport] = []
        self._was_there = False
        self._secrets: dict[str, str | None] = {}
        self._lock = threading.RLock()
        self._process = os.getpid()

    def _leave_to_parent(self) -> None:
        """In a forked child: the thread that serves the connection is the parent's, and so is the connection."""
        if self._process != os.getpid():
            _left_to_the_parent.extend((self._transport, *self._hops))
            self._transport, self._hops = None, []
            self._lock = threading.RLock()
            self._process = os.getpid()

    # --- use ------------------------------------------------------------------------------------------------------------

    def channel(self) -> paramiko.Channel:
        """A fresh channel for one command. Raises ContextLostError when the host stays away."""
        return self._new(lambda transport: transport.open_session(timeout=self._timeout_s))

    def channel_to(self, host: str, port: int) -> paramiko.Channel:
        """A connection from the host to that port, by any thread. Raises RefusedError when there is none, ContextLostError."""
        import paramiko

        place, origin = (host, port), ("127.0.0.1", 0)

        def ask(transport: paramiko.Transport) -> paramiko.Channel:
            try:
                return transport.open_channel("direct-tcpip", place, origin, timeout=self._timeout_s)
            except paramiko.ChannelException as error:
                forbidden = error.code == 1
                remedy = "its sshd does not allow it (AllowTcpForwarding)" if forbidden else "is it still there?"
                raise RefusedError(
                    f"{self._profile['hostname']} does not connect: {error.text}", where=f"{host}:{port}", remedy=remedy
                ) from error

        return self._new(ask)

    def _new(self, ask: Callable[[paramiko.Transport], paramiko.Channel]) -> paramiko.Channel:
        self._leave_to_parent()
        with self._lock:
            return self._new_in_turn(ask)

    def _new_in_turn(self, ask: Callable[[paramiko.Transport], paramiko.Channel]) -> paramiko.Channel:
        import paramiko

        patience_s = float(self._profile.get("reconnect_for", 600))
        deadline = self._clock() + patience_s
        host, told = str(self._profile["hostname"]), False
        for pause in self._pauses():
            try:
                return ask(self._connected())
            except (OSError, EOFError, paramiko.SSHException, BrokenError) as error:
                self.close()
                what = f"cannot be reached: {error or type(error).__name__}"
                if _is_unknown(error) and not self._was_there:
                    raise ContextLostError(
                        what, where=host, remedy="is the name right, here or in ~/.ssh/config?"
                    ) from error
                if self._clock() + pause > deadline:
                    remedy = "jobs there go on; the same command later goes on from here"
                    raise ContextLostError(what, where=host, remedy=remedy) from error
                if not told:
                    self._tell(f"{host} {what}; trying again for {patience_s:g} s")
                told = True
                self._sleep(pause)
        raise AssertionError("pauses do not end")

    @staticmethod
    def _pauses() -> Iterator[float]:
        yield from _PAUSES_S
        while True:
            yield _PAUSES_S[-1]

    @property
    def _timeout_s(self) -> float:
        return float(self._profile.get("timeout", 10))

    def close(self) -> None:
        self._leave_to_parent()
        for transport in [self._transport, *reversed(self._hops)]:
            if transport is not None:
                with suppress(Exception):  # paramiko closes as well as it can
                    transport.close()
        self._transport, self._hops = None, []

    # --- connecting -----------------------------------------------------------------------------------------------------

    def _connected(self) -> paramiko.Transport:
        if self._transport is None or not self._transport.is_active():
            self.close()
            target = self._target(str(self._profile["hostname"]), self._profile)
            self._transport = self._open(target, self._socket_to(target))
            self._was_there = True
            command = self._profile.get("execute_command")
            if command:
                channel = self._transport.open_session(timeout=self._timeout_s)
                channel.exec_command(command)
                channel.recv_exit_status()
        return self._transport

    def _target(self, host: str, given: Mapping[str, Any]) -> Target:
        """The profile's keys win over those of ~/.ssh/config."""
        import paramiko

        path = Path(str(self._profile.get("ssh_config") or "~/.ssh/config")).expanduser()
        config = paramiko.SSHConfig.from_path(str(path)) if path.exists() else paramiko.SSHConfig()
        found = config.lookup(host)
        identity = given.get("key_filename")
        keys = [identity] if identity else found.get("identityfile", [])
        files = [given.get("known_hosts") or "", *found.get("userknownhostsfile", "~/.ssh/known_hosts").split()]
        proxy = given.get("proxy_command") or found.get("proxycommand")
        jump = given.get("jump") or found.get("proxyjump")
        return Target(
            host=found["hostname"],
            port=int(given.get("port") or found.get("port") or 22),
            user=str(given.get("username") or found.get("user") or getpass.getuser()),
            keys=tuple(str(Path(str(key)).expanduser()) for key in keys),
            known_hosts=tuple(str(Path(name).expanduser()) for name in files if name),
            jump=None if jump in (None, "none") else str(jump),
            proxy_command=None if proxy in (None, "none") else str(proxy),
        )

    def _socket_to(self, target: Target) -> Any:
        """A connection to the host's port: direct, through a command, or through other hosts."""
        import paramiko

        if target.proxy_command:
            words = target.proxy_command.replace("%h", target.host).replace("%p", str(target.port))
            return paramiko.ProxyCommand(words.replace("%r", target.user))
        if target.jump is None:
            return self._connection(target)
        connection: Any = None
        hops = target.jump.split(",")
        if len(hops) + len(self._hops) > _MOST_HOPS:
            raise UsageError(
                f"more than {_MOST_HOPS} jump hosts", where="remote_profile.jump", remedy="is there a circle?"
            )
        for hop in hops:
            user, _, place = hop.strip().rpartition("@")
            host, _, port = place.partition(":")
            given = {"username": user, "port": port, "known_hosts": self._profile.get("known_hosts")}
            step = self._target(host, given)
            step = replace(step, keys=step.keys or target.keys)
            connection = self._socket_to(step) if connection is None else self._through(self._hops[-1], step)
            self._hops.append(self._open(step, connection))
        return self._through(self._hops[-1], target)

    def _connection(self, target: Target) -> socket.socket:
        """Of which silence is noticed: when a sign of life has not been acknowledged for two more it counts as broken."""
        made = socket.create_connection((target.host, target.port), timeout=self._timeout_s)
        if self._keepalive_s and hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000 * self._keepalive_s)
        return made

    @property
    def _keepalive_s(self) -> int:
        """Whole seconds; 0: no signs of life."""
        return math.ceil(float(self._profile.get("keepalive", 30)))

    def _through(self, hop: paramiko.Transport, target: Target) -> paramiko.Channel:
        return hop.open_channel("direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=self._timeout_s)

    def _open(self, target: Target, connection: Any) -> paramiko.Transport:
        import paramiko

        log = logging.getLogger("paramiko")
        if not log.hasHandlers():  # else its errors go to the terminal; what we raise says them
            log.addHandler(logging.NullHandler())
        transport = paramiko.Transport(connection)
        try:
            transport.banner_timeout = _BANNER_S
            transport.auth_timeout = _AUTH_S + self._timeout_s
            transport.set_keepalive(self._keepalive_s)
            if self._profile.get("tar_compress", True):
                transport.use_compression(False)  # archives are compressed already
            known = _known_keys(target)
            _prefer(transport, known)
            transport.start_client(timeout=self._timeout_s)
            self._check_key(target, transport.get_remote_server_key(), known)
            self._log_in(target, transport)
        except BaseException:
            transport.close()
            raise
        return transport

    def _check_key(self, target: Target, key: paramiko.PKey, known: Mapping[str, paramiko.PKey]) -> None:
        name = target.name_in_known_hosts
        fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        if key.get_name() in known:
            if known[key.get_name()] != key:
                what = f"the key of {name} has changed; it is now {key.get_name()} {fingerprint}"
                remedy = f"if that is right: ssh-keygen -R {shlex.quote(name)}, and connect anew"
                raise HostKeyError(what, where=name, remedy=remedy)
            return
        if not self._profile.get("accept_new"):
            what = f"the host has not been seen before; its key is {key.get_name()} {fingerprint}"
            remedy = 'compare it, then `ssh` there once, or set "accept_new": true in remote_profile'
            raise HostKeyError(what, where=name, remedy=remedy)
        file = Path(target.known_hosts[0])
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file, "a", encoding="ascii") as lines:
            lines.write(f"{name} {key.get_name()} {key.get_base64()}\n")

    # --- logging in -----------------------------------------------------------------------------------------------------

    def _log_in(self, target: Target, transport: paramiko.Transport) -> None:
        """Keys first, then password, then questions; each may be one of several factors."""
        import paramiko

        refused: list[str] = []
        offered: list[str] | None = None
        for what, attempt in self._ways(target, transport):
            try:
                offered = attempt()
                if transport.is_authenticated():
                    return
            except paramiko.BadAuthenticationType as error:
                refused.append(f"{what}: the host takes {', '.join(error.allowed_types)}")
            except paramiko.AuthenticationException as error:
                refused.append(f"{what}: {error}")
            if not transport.is_active():
                break
        told = "; ".join(refused) or "nothing to log in with"
        still = f"; then the host asks for {', '.join(offered)}" if offered else ""
        remedy = "give key_filename, password or totp_secret in remote_profile, or start an ssh-agent"
        raise LoginError(f"{target.user} cannot log in: {told}{still}", where=target.name_in_known_hosts, remedy=remedy)

    def _ways(self, target: Target, transport: paramiko.Transport) -> Iterator[tuple[str, Callable[[], list[str]]]]:
        for name, key in self._keys(target):
            yield f"key {name}", lambda key=key: transport.auth_publickey(target.user, key)  # type: ignore[misc]
        password, totp = self._secret("password"), self._secret("totp_secret")
        if password is not None and totp is None:
            yield "password", lambda: transport.auth_password(target.user, password, fallback=False)
        if password is not None or totp is not None:
            yield "keyboard-interactive", lambda: transport.auth_interactive(target.user, self._answers(target.user))

    def _keys(self, target: Target) -> Iterator[tuple[str, paramiko.PKey]]:
        import paramiko

        given = bool(self._profile.get("key_filename"))
        for path in target.keys:
            if os.path.exists(path):
                yield path, self._key(path)
            elif given:
                raise UsageError(f"{path} not found!", where="remote_profile.key_filename")
        if not given and self._profile.get("look_for_keys", True):
            with suppress(paramiko.SSHException):
                yield from ((key.get_name(), key) for key in paramiko.Agent().get_keys())
            for name in ("id_ed25519", "id_ecdsa", "id_rsa"):
                path = str(Path.home() / ".ssh" / name)
                if os.path.exists(path) and path not in target.keys:
                    with suppress(UsageError):  # a key with a passphrase, which is not the one meant
                        yield path, self._key(path)

    def _key(self, path: str) -> paramiko.PKey:
        import paramiko

        problem: Exception | None = None
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            try:
                return kind.from_private_key_file(path, self._secret("passphrase"))
            except (ValueError, TypeError, OSError, paramiko.SSHException) as error:  # another kind, or not readable
                problem = error if problem is None or isinstance(error, paramiko.PasswordRequiredException) else problem
        what = f"the key {path} cannot be read: {problem}"
        raise UsageError(what, where="remote_profile.key_filename", remedy="is the passphrase right?") from problem

    def _secret(self, name: str) -> str | None:
        if name not in self._secrets:
            given = self._profile.get(name)
            self._secrets[name] = None if given is None else resolve(given, f"remote_profile.{name}")
        return self._secrets[name]

    def _answers(self, user: str) -> Callable[[str, str, list[tuple[str, bool]]], list[str]]:
        def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            return [self._answer(text.lower(), user) for text, _ in prompts]

        return answer

    def _answer(self, prompt: str, user: str) -> str:
        totp = self._secret("totp_secret")
        if totp is not None and any(word in prompt for word in ("verification", "token", "one-time", "otp", "code")):
            return one_time_password(totp, time.time())
        if "username" in prompt or "login:" in prompt:
            return user
        return self._secret("password") or (one_time_password(totp, time.time()) if totp else "")


def _is_unknown(error: Exception) -> bool:
    """Whether there is no host of that name; a name server that does not answer says nothing about it."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


def _known_keys(target: Target) -> dict[str, paramiko.PKey]:
    """Keys of the host by type, from all files that there are."""
    import paramiko

    found: dict[str, paramiko.PKey] = {}
    for name in (*target.known_hosts, "/etc/ssh/ssh_known_hosts"):
        if os.path.exists(name):
            known = paramiko.HostKeys()
            known.load(name)
            found |= dict(known.lookup(target.name_in_known_hosts) or {})
    return found


def _prefer(transport: paramiko.Transport, known: Mapping[str, paramiko.PKey]) -> None:
    """Ask for a key of a kind we know, as OpenSSH does: another kind would look like an unknown host."""
    if known:
        options = transport.get_security_options()
        rsa = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known else set()
        first = [kind for kind in options.key_types if kind in known or kind in rsa]
        options.key_types = first + [kind for kind in options.key_types if kind not in first]
