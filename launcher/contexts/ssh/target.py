"""A host as the profile and the user's ssh configuration describe it.

The configuration is read by `ssh -G` where there is an ssh, so that Include, Match and all that later versions invent mean here
what they mean there. Without one it is read by paramiko, which knows less.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....pilot.model.errors import UsageError
from .known_hosts import KnownKeys, look_up

SYSTEM_CONFIG = "/etc/ssh/ssh_config"
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_DEFAULT_KEYS = re.compile(r"~/\.ssh/id_(rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk|xmss)")
_ACCEPTS_NEW = ("accept-new", "no", "off", "false")
_PATIENCE_S = 20.0
Options = Mapping[str, tuple[str, ...]]
"""Options of ssh_config(5) in small letters, each with its values."""


@dataclass(frozen=True)
class Target:
    """A host to log in to.

    Attributes:
        keys: files that the profile or the configuration names.
        known_hosts: the user's files, that of the profile first.
        jump: hosts to go through, as `ProxyJump` has them.
        proxy_command: its tokens are filled in.
        host_key_alias: the name under which its key is known; empty: its own.
        certificates: files that the configuration names.
        only_these_keys: other keys of an agent are not offered.
        accepts_new: the key of a host never seen before is accepted and remembered; one that has changed never is.
        options: all that the configuration says.
    """

    host: str
    port: int
    user: str
    keys: tuple[str, ...]
    known_hosts: tuple[str, ...]
    jump: str | None
    proxy_command: str | None
    host_key_alias: str
    certificates: tuple[str, ...]
    only_these_keys: bool
    accepts_new: bool
    options: Options

    @property
    def name_in_known_hosts(self) -> str:
        return self.host_key_alias or (self.host if self.port == 22 else f"[{self.host}]:{self.port}")

    def known_keys(self) -> KnownKeys:
        """By its name with the port; else by its name alone, as OpenSSH does."""
        names = (self.name_in_known_hosts, self.host_key_alias or self.host)
        return look_up(names, (*self.known_hosts, *GLOBAL_KNOWN_HOSTS))


def config_file(profile: Mapping[str, Any]) -> Path:
    return Path(str(profile.get("ssh_config") or "~/.ssh/config")).expanduser()


def target_of(host: str, given: Mapping[str, Any], profile: Mapping[str, Any]) -> Target:
    """What is `given` (of the profile, or in the name of a jump host) wins over the configuration."""
    options = read_by_ssh(host, given, profile)
    return make_target(host, given, read_by_paramiko(host, profile) if options is None else options)


def make_target(host: str, given: Mapping[str, Any], options: Options) -> Target:
    def first(name: str, default: str = "") -> str:
        return options.get(name, (default,))[0]

    name = first("hostname", host)
    port = int(given.get("port") or first("port", "22"))
    user = str(given.get("username") or first("user") or getpass.getuser())
    tokens = {"h": name, "p": str(port), "r": user, "n": host, "d": str(Path.home()), "u": getpass.getuser(), "%": "%"}
    identity = given.get("key_filename")
    keys = [str(identity)] if identity else _configured_keys(options.get("identityfile", ()))
    files = [str(given.get("known_hosts") or ""), *first("userknownhostsfile", _KNOWN_HOSTS).split()]
    proxy = _unless_none(given.get("proxy_command") or first("proxycommand"))
    return Target(
        host=name,
        port=port,
        user=user,
        keys=tuple(_path(key, tokens) for key in keys),
        known_hosts=tuple(_path(file, tokens) for file in files if file and file != "none"),
        jump=_unless_none(given.get("jump") or first("proxyjump")),
        proxy_command=proxy and _filled_in(proxy, tokens),
        host_key_alias=first("hostkeyalias"),
        certificates=tuple(_path(file, tokens) for file in options.get("certificatefile", ()) if file != "none"),
        only_these_keys=bool(identity) or first("identitiesonly") == "yes",
        accepts_new=bool(given.get("accept_new")) or first("stricthostkeychecking") in _ACCEPTS_NEW,
        options=options,
    )


def split_hop(text: str) -> tuple[str, str, str]:
    """(user, host, port) of `USER@HOST:PORT`, with brackets around an IPv6 address; what is missing is empty."""
    user, _, place = text.strip().removeprefix("ssh://").rstrip("/").rpartition("@")
    if match := re.fullmatch(r"\[(.+)\](?::(\d+))?", place):
        return user, match[1], match[2] or ""
    host, _, port = place.partition(":")
    return user, host, port


def read_by_ssh(
    host: str, given: Mapping[str, Any], profile: Mapping[str, Any], *, of_system: bool = False
) -> Options | None:
    """What ssh would do for that host; None when there is no ssh, or it cannot read the configuration.

    `of_system`: without the user's own file.
    """
    program = shutil.which("ssh")
    if program is None:
        return None
    words = [program, "-G", *config_options(profile, of_system)]
    words += ["-l", str(given["username"])] if given.get("username") else []
    words += ["-p", str(given["port"])] if given.get("port") else []
    try:
        done = subprocess.run(
            [*words, "--", host], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found: dict[str, tuple[str, ...]] = {}
    for line in os.fsdecode(done.stdout).splitlines():
        name, _, value = line.partition(" ")
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return found


def config_options(profile: Mapping[str, Any], of_system: bool = False) -> list[str]:
    own = profile.get("ssh_config")  # named, it replaces that of the system too
    if of_system:
        return ["-F", "none" if own or not os.path.exists(SYSTEM_CONFIG) else SYSTEM_CONFIG]
    file = config_file(profile)
    if own:
        return ["-F", str(file) if file.exists() else "none"]
    if Path.home() == Path(pwd.getpwuid(os.getuid()).pw_dir):
        return []
    # ssh looks in the home folder of the account, all others in that of the environment.
    return ["-F", str(file)] if file.exists() else config_options(profile, of_system=True)


def read_by_paramiko(host: str, profile: Mapping[str, Any]) -> Options:
    """The same by a reader that knows less. Raises UsageError for what it cannot read."""
    import paramiko

    file = config_file(profile)
    try:
        config = paramiko.SSHConfig.from_path(str(file)) if file.exists() else paramiko.SSHConfig()
        found = config.lookup(host)
    except (paramiko.SSHException, OSError, ValueError) as error:  # ConfigParseError, a Match that it does not know
        raise UsageError(f"cannot be read: {error}", where=str(file), remedy="install OpenSSH's client, ssh") from error
    return {
        name: tuple(str(each) for each in value) if isinstance(value, list) else (str(value),)
        for name, value in found.items()
    }


def _configured_keys(files: tuple[str, ...]) -> list[str]:
    """`ssh -G` names the files that are tried by default where none is configured."""
    by_default = len(files) > 2 and all(_DEFAULT_KEYS.fullmatch(file) for file in files)
    return [] if by_default else [file for file in files if file != "none"]


def _path(text: str, tokens: Mapping[str, str]) -> str:
    return str(Path(_filled_in(text.strip('"'), tokens)).expanduser())


def _filled_in(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda sign: tokens.get(sign[1], sign[0]), text)


def _unless_none(value: Any) -> str | None:
    return None if value in (None, "", "none") else str(value)
