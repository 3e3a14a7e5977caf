"""Profiles: sets of options with a name, in `~/.config/pilotfish/profiles.ini`, or else those of fyrd."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....pilot.model.errors import UsageError
from ...description.schema import nearest
from .options import check_arguments

_BUILT_IN: dict[str, dict[str, Any]] = {
    "DEFAULT": {"nodes": 1, "cores": 1},
    "large": {"cores": 16, "mem": 32000, "time": "24:00:00"},
}


class ProfileError(UsageError):
    """No profile has this name, or the file of profiles cannot be read."""

    code = "profile"


class Profile:
    """Options with a name; `profile.cores` and `profile.cores = 4` (checked) work, what is not set is None."""

    name: str
    args: dict[str, Any]

    def __init__(self, name: str, args: Mapping[str, Any]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "args", check_arguments(args))

    def __getattr__(self, name: str) -> Any:
        return self.args.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.args.update(check_arguments({name: value}))

    def __repr__(self) -> str:
        return f"<Profile {self.name} {self.args}>"

    def write(self) -> None:
        set_profile(self.name, self.args)


def profiles_file(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pilotfish" / "profiles.ini"


def get_profile(name: str | None = None) -> Profile:
    """A profile with what DEFAULT says of the rest; without a name DEFAULT. Raises ProfileError."""
    found = _read()
    wanted = name or "DEFAULT"
    wanted = "DEFAULT" if wanted == "default" and wanted not in found else wanted  # as older releases of fyrd write it
    if wanted not in found:
        remedy = nearest(wanted, found) or f"known are {', '.join(found)}"
        raise ProfileError(f"no profile is called {wanted!r}", remedy=remedy)
    return Profile(wanted, {**found["DEFAULT"], **found[wanted]})


def get_profiles() -> dict[str, Profile]:
    return {name: get_profile(name) for name in _read()}


def set_profile(name: str, args: Mapping[str, Any]) -> None:
    """Write a profile; options that are given replace those it had. Raises OptionsError."""
    found = _read()
    found[name] = {**found.get(name, {}), **check_arguments(args)}
    _write(found)


def del_profile(name: str) -> None:
    """Raises ProfileError."""
    found = _read()
    if name not in found or name == "DEFAULT":
        raise ProfileError(f"cannot remove the profile {name!r}")
    del found[name]
    _write(found)


def _read() -> dict[str, dict[str, Any]]:
    """Profiles without what they inherit; DEFAULT first."""
    paths = [profiles_file(), Path.home() / ".fyrd" / "profiles.txt"]
    path = next((each for each in paths if each.exists()), None)
    if path is None:
        return {name: dict(args) for name, args in _BUILT_IN.items()}
    parser = configparser.ConfigParser(default_section="DEFAULT", interpolation=None)
    try:
        parser.read_string(path.read_text(), str(path))
    except (OSError, configparser.Error) as error:
        raise ProfileError(str(error), where=str(path)) from error
    default = {name: _value(text) for name, text in parser.defaults().items()}
    found = {"DEFAULT": default}
    for name in parser.sections():
        own = {key: _value(text) for key, text in parser[name].items()}
        found[name] = {key: value for key, value in own.items() if default.get(key) != value}
    return found


def _value(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    return words.get(text, int(text) if text.isdigit() else text)


def _write(found: Mapping[str, Mapping[str, Any]]) -> None:
    path = profiles_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    parser = configparser.ConfigParser(default_section="DEFAULT", interpolation=None)
    parser.read_dict({name: {key: _text(value) for key, value in args.items()} for name, args in found.items()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        parser.write(file)
    os.replace(temporary, path)


def _text(value: Any) -> str:
    return ",".join(str(each) for each in value) if isinstance(value, list) else str(value)
