"""What a host, or the check of its key, turns down: the same words whichever transport meets it."""

from __future__ import annotations

from ....pilot.model.errors import RefusedError, UsageError
from ..shell import word
from .session import HostKeyError


def changed_key(name: str, fingerprint: str) -> HostKeyError:
    remedy = f"if that is right: ssh-keygen -R {word(name)}, and connect anew"
    return HostKeyError(f"the key of {name} has changed; it is now {fingerprint}", where=name, remedy=remedy)


def unknown_key(name: str, fingerprint: str) -> HostKeyError:
    remedy = 'compare it, then `ssh` there once, or set "accept_new": true in remote_profile'
    return HostKeyError(f"the host has not been seen before; its key is {fingerprint}", where=name, remedy=remedy)


def revoked_key(name: str, fingerprint: str) -> HostKeyError:
    remedy = "whoever has it may not be that host: ask its administrators before you take the line from known_hosts"
    return HostKeyError(f"the key of {name} is revoked in known_hosts; it is {fingerprint}", where=name, remedy=remedy)


def missing_key(path: str) -> UsageError:
    return UsageError(f"{path} not found!", where="remote_profile.key_filename")


def unreadable_key(path: str, problem: str) -> UsageError:
    what = f"the key {path} cannot be read: {problem}"
    return UsageError(what, where="remote_profile.key_filename", remedy="is the passphrase right?")


def no_session(host: str, reason: str) -> RefusedError:
    remedy = "are there too many at once (MaxSessions of its sshd)?"
    return RefusedError(f"the host opens no session: {reason}", where=host, remedy=remedy)


def no_connection(host: str, port: int, by: str, reason: str, *, forbidden: bool) -> RefusedError:
    remedy = "its sshd does not allow it (AllowTcpForwarding)" if forbidden else "is it still there?"
    return RefusedError(f"{by} does not connect: {reason}", where=f"{host}:{port}", remedy=remedy)
