"""SSH by paramiko: needs no program, and takes passwords and one-time passwords from the profile.

Of OpenSSH's ways it knows keys (with certificates), agents, passwords and questions. It checks host keys by known_hosts, but
cannot check what a host authority has signed; for that and all the rest there is `openssh.py`.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....pilot.model.errors import RefusedError, UsageError
from . import refusals
from .keys import agent_keys, certifies, is_public, public_half
from .known_hosts import KnownKeys
from .prompts import Prompts
from .session import BrokenError, Channel, HostKeyError, LoginError, Transport
from .target import Target, split_hop, target_of

if TYPE_CHECKING:
    import paramiko

_BANNER_S = 60.0
_AUTH_S = 30.0
_MOST_HOPS = 8
_PROXY_ENDS_IN_S = 1.0
_OTHER = 'set "transport": "openssh" in remote_profile'
_PROHIBITED = 1
"""Code of a channel that the host does not open (RFC 4254, 5.1)."""

_left_to_the_parent: list[object] = []
"""Connections that a forked child has inherited: kept, so that nobody closes them there."""


class ParamikoTransport(Transport):
    """Connects and logs in when it is made.

    Raises OSError for what may pass, HostKeyError, LoginError, UsageError.
    """

    name = "paramiko"

    def __init__(self, profile: Mapping[str, Any], prompts: Prompts) -> None:
        self._profile = profile
        self._prompts = prompts
        self._hops: list[paramiko.Transport] = []
        prompts.new_login()
        try:
            with _as_os_error():
                target = target_of(str(profile["hostname"]), profile, profile)
                self._transport = self._open(target, self._socket_to(target))
        except BaseException:
            for hop in reversed(self._hops):
                hop.close()
            raise

    def start(self, command: bytes, timeout_s: float) -> Channel:
        import paramiko

        try:
            with _as_os_error():
                channel = self._transport.open_session(timeout=self._timeout_s)
        except paramiko.ChannelException as error:
            raise refusals.no_session(str(self._profile["hostname"]), error.text) from error
        channel.settimeout(timeout_s)
        try:
            with _as_os_error():
                channel.exec_command(command)  # names in it may be no text
        except OSError as error:
            raise BrokenError(str(error)) from error
        return _Channel(channel)

    def connect_to(self, host: str, port: int) -> Channel:
        import paramiko

        try:
            with _as_os_error():
                return _Channel(self._channel_through(self._transport, host, port))
        except paramiko.ChannelException as error:
            by, forbidden = str(self._profile["hostname"]), error.code == _PROHIBITED
            raise refusals.no_connection(host, port, by, error.text, forbidden=forbidden) from error

    def is_alive(self) -> bool:
        return self._transport.is_active()

    def close(self) -> None:
        for transport in [self._transport, *reversed(self._hops)]:
            with suppress(Exception):  # paramiko closes as well as it can
                transport.close()

    def leave_to_parent(self) -> None:
        """The thread that serves the connection is the parent's."""
        _left_to_the_parent.append(self)

    # --- connecting -----------------------------------------------------------------------------------------------------

    @property
    def _timeout_s(self) -> float:
        return float(self._profile.get("timeout", 10))

    def _socket_to(self, target: Target) -> Any:
        """A connection to the host's port: direct, through a command, or through other hosts."""
        if target.proxy_command:
            return _through_command(target.proxy_command)
        if target.jump is None:
            return self._connection(target)
        connection: Any = None
        hops = target.jump.split(",")
        if len(hops) + len(self._hops) > _MOST_HOPS:
            raise UsageError(
                f"more than {_MOST_HOPS} jump hosts", where="remote_profile.jump", remedy="is there a circle?"
            )
        for hop in hops:
            step = self._hop(hop, target)
            connection = self._socket_to(step) if connection is None else self._through(self._hops[-1], step)
            self._hops.append(self._open(step, connection))
        return self._through(self._hops[-1], target)

    def _hop(self, text: str, target: Target) -> Target:
        user, host, port = split_hop(text)
        given: dict[str, Any] = {"username": user, "port": port}
        given |= {name: self._profile.get(name) for name in ("known_hosts", "accept_new")}
        step = target_of(host, given, self._profile)
        return replace(step, keys=step.keys or target.keys)

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
        import paramiko

        try:
            return self._channel_through(hop, target.host, target.port)
        except paramiko.ChannelException as error:
            raise ConnectionRefusedError(f"not from the jump host: {error.text}") from error

    def _channel_through(self, transport: paramiko.Transport, host: str, port: int) -> paramiko.Channel:
        return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=self._timeout_s)

    def _open(self, target: Target, connection: Any) -> paramiko.Transport:
        import paramiko
        from paramiko.ssh_exception import IncompatiblePeer

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
            known = target.known_keys()
            _prefer(transport, known)
            transport.start_client(timeout=self._timeout_s)
            self._check_key(target, transport.get_remote_server_key(), known)
            self._log_in(target, transport)
        except BaseException as error:
            transport.close()
            if isinstance(error, IncompatiblePeer):
                what = f"the host and paramiko have no method in common: {error}"
                raise RefusedError(what, where=target.host, remedy=_OTHER) from error
            raise
        return transport

    def _check_key(self, target: Target, key: paramiko.PKey, known: KnownKeys) -> None:
        name, blob = target.name_in_known_hosts, key.asbytes()
        fingerprint = f"{key.get_name()} SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        if blob in known.revoked:
            raise refusals.revoked_key(name, fingerprint)
        if any(blob == each for _, each in known.keys):
            return
        if key.get_name() in known.types:
            raise refusals.changed_key(name, fingerprint)
        if known.authorities:
            what = f"the host is known by an authority only, which paramiko cannot check; its key is {fingerprint}"
            raise HostKeyError(what, where=name, remedy=_OTHER)
        if not target.accepts_new:
            raise refusals.unknown_key(name, fingerprint)
        file = Path(target.known_hosts[0])
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file, "a", encoding="ascii") as lines:
            lines.write(f"{name} {key.get_name()} {key.get_base64()}\n")

    # --- logging in -----------------------------------------------------------------------------------------------------

    def _log_in(self, target: Target, transport: paramiko.Transport) -> None:
        with agent_keys() as agent:
            self._try_ways(target, transport, agent)

    def _try_ways(self, target: Target, transport: paramiko.Transport, agent: Mapping[bytes, paramiko.PKey]) -> None:
        """Keys first, then password, then questions; each may be one of several factors."""
        import paramiko

        refused: list[str] = []
        offered: list[str] | None = None
        remedy = "give key_filename, password or totp_secret in remote_profile, or start an ssh-agent"
        for what, attempt in self._ways(target, transport, agent):
            try:
                offered = attempt()
                if transport.is_authenticated():
                    return
            except paramiko.BadAuthenticationType as error:
                refused.append(f"the host takes no {what}, but {', '.join(error.allowed_types)}")
            except LoginError as error:  # a question without an answer
                refused.append(error.what)
                remedy = error.remedy
                break
            except paramiko.AuthenticationException as error:
                refused.append(f"{what}: {error}")
            if not transport.is_active():
                break
        told = "; ".join(refused) or "nothing to log in with"
        still = f"; then the host asks for {', '.join(offered)}" if offered else ""
        raise LoginError(f"{target.user} cannot log in: {told}{still}", where=target.name_in_known_hosts, remedy=remedy)

    def _ways(
        self, target: Target, transport: paramiko.Transport, agent: Mapping[bytes, paramiko.PKey]
    ) -> Iterator[tuple[str, Callable[[], list[str]]]]:
        for name, key in self._keys(target, agent):
            yield f"key {name}", lambda key=key: transport.auth_publickey(target.user, key)  # type: ignore[misc]
        password = self._prompts.secret("password")
        if password is not None and self._prompts.secret("totp_secret") is None:
            yield "password", lambda: transport.auth_password(target.user, password, fallback=False)
        yield "keyboard-interactive", lambda: self._answer(target.user, transport)

    def _answer(self, user: str, transport: paramiko.Transport) -> list[str]:
        """paramiko calls the handler in our thread, so that its errors are ours."""

        def handler(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            said = "\n".join(filter(None, (title.strip(), instructions.strip())))
            return [self._prompts.answer(text, user, instructions=said, shown=shown) for text, shown in prompts]

        return transport.auth_interactive(user, handler)

    def _keys(self, target: Target, agent: Mapping[bytes, paramiko.PKey]) -> Iterator[tuple[str, paramiko.PKey]]:
        """Each key as it is certified, then as it is."""
        in_profile = bool(self._profile.get("key_filename"))
        for path in target.keys:
            held = agent.get(public_half(path))
            try:
                if os.path.exists(path) and not is_public(path):
                    yield from self._with_certificates(path, target.certificates)
                    continue
            except UsageError:  # a key with a passphrase: the agent may hold it
                if held is None:
                    raise
            if held is not None:
                yield path, held
            elif in_profile:
                raise refusals.missing_key(path)
        if target.only_these_keys and target.keys:
            return
        if self._profile.get("look_for_keys", True):
            yield from ((key.get_name(), key) for key in agent.values())
            for name in ("id_ed25519", "id_ecdsa", "id_rsa"):
                path = str(Path.home() / ".ssh" / name)
                if os.path.exists(path) and path not in target.keys:
                    with suppress(UsageError):  # a key with a passphrase, which is not the one meant
                        yield from self._with_certificates(path, target.certificates)

    def _with_certificates(self, path: str, certificates: tuple[str, ...]) -> Iterator[tuple[str, paramiko.PKey]]:
        plain = self._key(path)
        for certificate in (f"{path}-cert.pub", *certificates):
            if certifies(certificate, plain):
                key = self._key(path)
                key.load_certificate(certificate)
                yield f"{path} with {certificate}", key
        yield path, plain

    def _key(self, path: str) -> paramiko.PKey:
        import paramiko

        problem: Exception | None = None
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            try:
                return kind.from_private_key_file(path, self._prompts.secret("passphrase"))
            except (ValueError, TypeError, OSError, paramiko.SSHException) as error:  # another kind, or not readable
                problem = error if problem is None or isinstance(error, paramiko.PasswordRequiredException) else problem
        raise refusals.unreadable_key(path, str(problem)) from problem


class _Channel:
    """paramiko's channel, whose errors are OSErrors."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def sendall(self, data: bytes, /) -> None:
        with _as_os_error():
            self._channel.sendall(data)

    def shutdown_write(self) -> None:
        with _as_os_error():
            self._channel.shutdown_write()

    def recv(self, size: int, /) -> bytes:
        with _as_os_error():
            return self._channel.recv(size)

    def recv_stderr(self, size: int, /) -> bytes:
        with _as_os_error():
            return self._channel.recv_stderr(size)

    def recv_exit_status(self) -> int:
        return self._channel.recv_exit_status()

    def close(self) -> None:
        """Also over a connection that is gone."""
        with suppress(OSError), _as_os_error():
            self._channel.close()


def _through_command(command: str) -> paramiko.ProxyCommand:
    """A connection through a program; paramiko only tells it to end, and leaves it and its pipes to Python's collector."""
    import paramiko

    class Ended(paramiko.ProxyCommand):
        def close(self) -> None:
            self.process.terminate()
            try:
                self.process.wait(_PROXY_ENDS_IN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for pipe in filter(None, (self.process.stdin, self.process.stdout, self.process.stderr)):
                with suppress(OSError):
                    pipe.close()

    return Ended(command)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What paramiko raises when a connection breaks; refusals and logins have errors of their own."""
    import paramiko

    try:
        yield
    except (paramiko.ChannelException, paramiko.AuthenticationException, OSError):
        raise
    except (EOFError, paramiko.SSHException) as error:
        raise OSError(str(error) or type(error).__name__) from error


def _prefer(transport: paramiko.Transport, known: KnownKeys) -> None:
    """Ask for a key of a kind we know, as OpenSSH does: another kind would look like an unknown host."""
    if known.keys:
        options = transport.get_security_options()
        rsa = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known.types else set()
        first = [kind for kind in options.key_types if kind in known.types or kind in rsa]
        options.key_types = first + [kind for kind in options.key_types if kind not in first]
