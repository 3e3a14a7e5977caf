"""Profiles: sets of options with a name, in `~/.config/pilotfish/profiles.ini`, or else those of fyrd."""

from __future__ import annotations

import ast
import configparser
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...pilot.files import write_atomically
from ...pilot.model.errors import UsageError
from ..description.schema import nearest
from . import job_settings
from .job_options import SYNONYMS, OptionsError, check_arguments, split_keywords

BUILT_IN: dict[str, dict[str, Any]] = {
    "DEFAULT": {"nodes": 1, "cores": 1},
    "large": {"cores": 16, "mem": 32000, "time": "24:00:00"},
    "small": {"cores": 1, "mem": 4000, "time": "02:00:00"},
    "long": {"cores": 1, "mem": 4000, "time": "96:00:00"},
    "small_clean": {"cores": 1, "mem": 1000, "time": "01:00:00", "clean_files": True, "clean_outputs": True},
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
        return self.args.get(SYNONYMS.get(name, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self.args.update(check_arguments({name: value}))

    def __getitem__(self, name: str) -> Any:
        return self.args[SYNONYMS.get(name, name)]

    def __setitem__(self, name: str, value: Any) -> None:
        self.args.update(check_arguments({name: value}))

    def update(self, args: Mapping[str, Any]) -> None:
        self.args.update(check_arguments(args))

    def __repr__(self) -> str:
        return f"<Profile {self.name} {self.args}>"

    def __len__(self) -> int:
        return len(self.args)

    def write(self) -> None:
        set_profile(self.name, self.args)


def profiles_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where profiles are written: as the setting `profile_file` says, or here."""
    named = job_settings.setting("jobs", "profile_file")
    if named:
        return Path(str(named)).expanduser()
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pilotfish" / "profiles.ini"


def get_profile(name: str | None = None, path: Path | None = None) -> Profile:
    """A profile with what DEFAULT says of the rest; without a name DEFAULT. `path`: another file. Raises ProfileError."""
    found = _read(path)
    wanted = name or "DEFAULT"
    wanted = "DEFAULT" if wanted == "default" and wanted not in found else wanted  # as older releases of fyrd write it
    if wanted not in found:
        raise ProfileError(f"no profile is called {wanted!r}", remedy=_known(wanted, found))
    return Profile(wanted, {**found["DEFAULT"], **found[wanted]})


def get_profiles(path: Path | None = None) -> dict[str, Profile]:
    return {name: get_profile(name, path) for name in _read(path)}


def set_profile(name: str, args: Mapping[str, Any], update: bool = True, path: Path | None = None) -> None:
    """Write a profile; options that are given replace those it had, without `update` all of them. Raises OptionsError."""
    found = _read(path)
    name = "DEFAULT" if name == "default" and name not in found else name
    found[name] = {**(found.get(name, {}) if update else {}), **check_arguments(args)}
    _write(found, path)


def rename_profile(old: str, new: str) -> None:
    """Raises ProfileError."""
    found = _read()
    if old not in found or old == "DEFAULT":
        raise ProfileError(f"cannot rename the profile {old!r}", remedy=_known(old, found))
    if new in found or not new.strip():
        raise ProfileError(f"there is a profile {new!r} already", remedy="choose another name, or remove it first")
    _write({new if name == old else name: args for name, args in found.items()})


def unset_options(name: str, options: Sequence[str]) -> None:
    """Take options out of a profile. Raises ProfileError for one that it does not have itself."""
    found = _read()
    for option in options:
        if option not in found[name]:
            what = f"the profile has no {option!r} of its own"
            raise ProfileError(what, where=name, remedy="what DEFAULT says is changed there")
        del found[name][option]
    if options:
        _write(found)


def del_profile(name: str, path: Path | None = None) -> None:
    """Raises ProfileError."""
    found = _read(path)
    if name not in found or name == "DEFAULT":
        raise ProfileError(f"cannot remove the profile {name!r}", remedy=_known(name, found))
    del found[name]
    _write(found, path)


def _known(name: str, found: Mapping[str, Any]) -> str:
    return "DEFAULT always stays" if name == "DEFAULT" else nearest(name, found) or f"known are {', '.join(found)}"


def _read(named: Path | None = None) -> dict[str, dict[str, Any]]:
    """Profiles without what they inherit; DEFAULT first."""
    paths = [profiles_file(), Path.home() / ".fyrd" / "profiles.txt"] if named is None else [named]
    path = next((each for each in paths if each.exists()), None)
    if path is None:
        return {name: dict(args) for name, args in BUILT_IN.items()}
    parser = configparser.ConfigParser(default_section="DEFAULT", interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        remedy = "mend the file, or move it away; nothing in it was changed"
        raise ProfileError(f"cannot be read: {error}", where=str(path), remedy=remedy) from error
    default = _section(dict(parser.defaults()), f"{path} [DEFAULT]", path)
    found = {"DEFAULT": default}
    for name in parser.sections():
        own = _section(dict(parser[name]), f"{path} [{name}]", path)
        found[name] = {key: value for key, value in own.items() if default.get(key) != value}
    return found


def _section(texts: Mapping[str, str], where: str, path: Path) -> dict[str, Any]:
    """The options of one section, checked. What is none of ours is left out of a file of fyrd, which has more of them."""
    known, others = split_keywords({key: _value(text) for key, text in texts.items()})
    if others and path == profiles_file():
        known |= others  # the check says which, and what is near
    try:
        return check_arguments(known)
    except OptionsError as error:
        option = f"{error.where}: " if error.where else ""
        raise ProfileError(f"{option}{error.what}", where=where, remedy=error.remedy) from error


def _value(text: str) -> Any:
    """As fyrd writes it: a number, True, False, None, or a list."""
    text = text.strip()
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return found if isinstance(found, bool | int | list | tuple) or found is None else text


def _write(found: Mapping[str, Mapping[str, Any]], named: Path | None = None) -> None:
    path = profiles_file() if named is None else named
    path.parent.mkdir(parents=True, exist_ok=True)
    parser = configparser.ConfigParser(default_section="DEFAULT", interpolation=None)
    parser.read_dict({name: {key: _text(value) for key, value in args.items()} for name, args in found.items()})
    text = io.StringIO()
    parser.write(text)
    write_atomically(path, text.getvalue().encode(), mode=0o644)


def _text(value: Any) -> str:
    return ",".join(str(each) for each in value) if isinstance(value, list) else str(value)
