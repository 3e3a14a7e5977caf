"""Which transport a profile gets, and why.

`transport: auto` is paramiko where that is installed (extra `ssh`), which needs no program and takes secrets from the profile,
unless the host is one for which the
user's ssh configuration, keys or known_hosts have something that paramiko does not do and OpenSSH does. What the configuration
says is compared option by option, as `ssh -G` prints it with and without the user's file: so options that nobody here has heard
of count too. A profile with a password or a one-time secret stays with paramiko.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ....pilot.model.errors import UsageError
from .prompts import Prompts
from .session import Transport
from .target import Options, Target, config_file, make_target, read_by_paramiko, read_by_ssh

NAMES = ("paramiko", "openssh")
_BY_BOTH = """
host hostname user port identityfile userknownhostsfile proxyjump proxycommand stricthostkeychecking connecttimeout
connectionattempts serveraliveinterval serveralivecountmax compression hashknownhosts checkhostip updatehostkeys
passwordauthentication kbdinteractiveauthentication pubkeyauthentication numberofpasswordprompts preferredauthentications
"""
_FOR_TERMINALS = """
addkeystoagent batchmode clearallforwardings controlmaster controlpath controlpersist dynamicforward enableescapecommandline
escapechar exitonforwardfailure fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout
forwardx11trusted gatewayports localcommand localforward loglevel logverbose permitlocalcommand remotecommand remoteforward
requesttty sendenv sessiontype setenv stdinnull streamlocalbindmask streamlocalbindunlink syslogfacility tcpkeepalive tunnel
tunneldevice visualhostkey xauthlocation tag ipqos gssapidelegatecredentials gssapiauthentication
"""
"""They mean nothing for commands without a terminal, or are looked at by themselves."""
_NO_REASON = frozenset(f"{_BY_BOTH} {_FOR_TERMINALS}".split())
_SHELL = re.compile(r"[$`;&|<>(){}*?~]|%\w")
_MATCH = re.compile(r"^\s*match\b", re.IGNORECASE | re.MULTILINE)
"""paramiko knows some conditions, and for others runs programs by itself."""
_INCLUDE = re.compile(r"^\s*include\b", re.IGNORECASE | re.MULTILINE)
_NOTHING = {"", "no", "none", "false"}


class NoParamikoError(UsageError):
    """This machine has no paramiko, and what speaks SSH here otherwise will not do."""

    code = "no-paramiko"

    def __init__(self, what: str, *, where: str) -> None:
        remedy = 'pip install \'pilotfish[ssh]\', or choose "transport": "openssh"'
        super().__init__(what, where=where, remedy=remedy)


@dataclass(frozen=True)
class Choice:
    """The name of a transport, and the reason why it is that one."""

    name: str
    why: str


def choose(profile: Mapping[str, Any]) -> Choice:
    """Raises UsageError for a name that is none, NoParamikoError."""
    given = str(profile.get("transport") or "auto")
    if given == "paramiko":
        _need_paramiko("the profile says so")
    if given in NAMES:
        return Choice(given, "the profile says so")
    if given != "auto":
        remedy = f"it may be auto, {' or '.join(NAMES)}"
        raise UsageError(f"unknown {given!r}", where="remote_profile.transport", remedy=remedy)
    why = ""
    if any(profile.get(name) for name in ("password", "totp_secret")):
        why = "the profile has a password or a one-time secret"
    elif shutil.which("ssh") is None:
        why = "there is no ssh in PATH"
    if why:
        _need_paramiko(why)
        return Choice("paramiko", why)
    if not _has_paramiko():
        return Choice("openssh", "paramiko is not installed")
    reason = next(needs(profile), None)
    return Choice("paramiko", "nothing needs another") if reason is None else Choice("openssh", reason)


def _has_paramiko() -> bool:
    return find_spec("paramiko") is not None


def _need_paramiko(why: str) -> None:
    """Raises NoParamikoError where it is not installed."""
    if not _has_paramiko():
        raise NoParamikoError(f"the package paramiko is not installed, and {why}", where="remote_profile.transport")


def needs(profile: Mapping[str, Any]) -> Iterator[str]:
    """What this host needs that paramiko does not do."""
    host = str(profile["hostname"])
    options = read_by_ssh(host, profile, profile)
    if options is None:
        return
    target = make_target(host, profile, options)
    of_system = read_by_ssh(host, profile, profile, of_system=True) or {}
    yield from _changed(options, of_system)
    yield from _read_otherwise(host, profile, target, of_system)
    yield from _keys(profile, target)
    known = target.known_keys()
    if known.authorities:
        yield "known_hosts has an authority for the host (@cert-authority)"
    if known.revoked:
        yield "known_hosts has a revoked key of the host (@revoked)"
    if known.by_pattern:
        yield "known_hosts names the host by a pattern"


def _changed(options: Options, of_system: Options) -> Iterator[str]:
    """Options that the user's file sets for the host, and some that the system's may."""
    for name in options:
        if name not in _NO_REASON and options[name] != of_system.get(name, ("none",)):
            yield f"the ssh configuration sets {name} for the host"
    for name in ("hostkeyalias", "certificatefile", "pkcs11provider", "knownhostscommand", "identitiesonly"):
        if not _NOTHING.issuperset(options.get(name, ())):
            yield f"the ssh configuration sets {name} for the host"
    if Path(options.get("controlpath", ("none",))[0]).is_socket():
        yield "a master of yours runs (ControlPath): it is logged in already"
    if options.get("gssapiauthentication") == ("yes",) and _has_ticket():
        yield "there is a Kerberos ticket, and the ssh configuration has GSSAPIAuthentication"


def _read_otherwise(host: str, profile: Mapping[str, Any], target: Target, of_system: Options) -> Iterator[str]:
    """Where paramiko's reader comes to something else: by Match, Include, a token, the system's file."""
    file = config_file(profile)
    text = file.read_text(errors="replace") if file.exists() else ""
    if _MATCH.search(text):
        yield "the ssh configuration has conditions (Match), of which paramiko knows some only"
        return
    try:
        other = make_target(host, profile, read_by_paramiko(host, profile))
    except UsageError:
        yield f"paramiko cannot read {file}"
        return
    by = " (Include)" if _INCLUDE.search(text) else ""
    for name in ("host", "port", "user", "jump", "proxy_command", "keys", "known_hosts"):
        here, there = getattr(target, name), getattr(other, name)
        option = {"user": "user", "known_hosts": "userknownhostsfile"}.get(name, "")
        if option and option not in other.options and target.options.get(option) == of_system.get(option):
            continue  # ssh prints what it takes by default
        if here != there and str(here).lower() != str(there).lower():
            yield f"paramiko reads another {name.replace('_', ' ')} from the ssh configuration{by}"
    if _SHELL.search(target.proxy_command or ""):
        yield "the proxy command needs a shell, or tokens that paramiko does not fill in"


def _keys(profile: Mapping[str, Any], target: Target) -> Iterator[str]:
    by_default = [
        str(Path.home() / ".ssh" / f"id_{kind}") for kind in ("ed25519", "ecdsa", "rsa", "ed25519_sk", "ecdsa_sk")
    ]
    for path in target.keys or (by_default if profile.get("look_for_keys", True) else []):
        if os.path.exists(f"{path}-cert.pub"):
            yield f"a certificate lies beside the key {path}"
        for file in (path, f"{path}.pub"):
            with suppress(OSError), open(file, "rb") as content:
                if content.read(3) == b"sk-":
                    yield f"{path} is a hardware key"


def _has_ticket() -> bool:
    kind, colon, rest = os.environ.get("KRB5CCNAME", f"FILE:/tmp/krb5cc_{os.geteuid()}").partition(":")
    return os.path.exists(rest) if kind == "FILE" and colon else os.path.exists(kind) if not colon else True


class Connector:
    """Logs in to one machine, by the transport that is chosen when that is needed first.

    Args:
        interactive: whoever sits at the terminal may be asked.
    """

    def __init__(self, profile: Mapping[str, Any], *, interactive: bool = True) -> None:
        self._profile = profile
        self._prompts = Prompts(profile, interactive=interactive)

    @cached_property
    def choice(self) -> Choice:
        return choose(self._profile)

    def __call__(self, again: bool) -> Transport:
        if self.choice.name == "openssh":
            from .openssh import OpenSsh

            return OpenSsh(self._profile, self._prompts, again=again)
        from .paramiko_transport import ParamikoTransport

        return ParamikoTransport(self._profile, self._prompts)
