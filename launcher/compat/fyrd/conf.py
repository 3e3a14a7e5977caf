"""fyrd's `conf`: settings and profiles. Where they are kept: `submission/job_settings.py`, `submission/profiles.py`."""

from __future__ import annotations

import configparser
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

from ...submission import job_settings, profiles
from ...submission.job_options import OptionsError, sanitized
from ...submission.job_settings import SETTINGS, SettingsError
from ...submission.profiles import ProfileError

__all__ = [
    "Profile",
    "create_config",
    "create_config_interactive",
    "create_profiles",
    "del_profile",
    "delete",
    "get_config",
    "get_executable",
    "get_job_paths",
    "get_option",
    "get_profile",
    "get_profiles",
    "load_config",
    "load_profiles",
    "set_option",
    "set_profile",
    "write_config",
    "write_profiles",
]

CONFIG_FILE: str = ""
"""Another file of settings than the usual one, for this program."""
DEFAULTS = {section: {key: each.default for key, each in keys.items()} for section, keys in SETTINGS.items()}
CONF_HELP = {
    section: "\n".join([f"[{section}]", *(f"{key}: {each.meaning}" for key, each in keys.items())])
    for section, keys in SETTINGS.items()
}
DEFAULT_PROFILES = profiles.BUILT_IN


def _path() -> Path | None:
    return Path(CONFIG_FILE).expanduser() if CONFIG_FILE else None


def get_option(section: str | None = None, key: str | None = None, default: Any = None) -> Any:
    """One value, a section, or everything. `default` is for a key that neither is written nor has a default.

    Raises SettingsError (a ValueError) for an unknown section or key.
    """
    found = job_settings.all_settings(_path())
    if section is None:
        return found
    if section not in found:
        raise SettingsError(f"there is no section {section!r}", remedy=f"known are {', '.join(found)}")
    if key is None:
        return found[section]
    if key in found[section]:
        value = found[section][key]
        return default if value is None else value
    if default is None:
        raise SettingsError(f"there is no option {key!r} in {section}", remedy=f"known are {', '.join(found[section])}")
    return default


def set_option(section: str, key: str, value: Any) -> configparser.ConfigParser:
    """Write one value. Raises SettingsError for an unknown section; of a key that has no effect here there is a warning."""
    if section not in SETTINGS:
        raise SettingsError(f"there is no section {section!r}", remedy=f"known are {', '.join(SETTINGS)}")
    known = SETTINGS[section].get(key)
    if known is not None and not known.used:
        warnings.warn(f"{section}.{key} is kept and has no effect here", stacklevel=2)
    parser = job_settings.read(_path())
    if not parser.has_section(section):
        parser.add_section(section)
    parser.set(section, str(key), str(value))
    job_settings.write(parser, _path())
    return parser


def delete(section: str, key: str | None = None) -> configparser.ConfigParser:
    """Forget what is written of a key, or of a whole section: its default counts again."""
    parser = job_settings.read(_path())
    if key is None:
        parser.remove_section(section)
    elif parser.has_section(section):
        parser.remove_option(section, key)
    job_settings.write(parser, _path())
    return parser


def get_config() -> dict[str, dict[str, Any]]:
    """Everything, with defaults."""
    return job_settings.all_settings(_path())


def load_config() -> configparser.ConfigParser:
    """What is written."""
    return job_settings.read(_path())


def write_config() -> None:
    """Write the file as it stands, so there is one that can be edited, with all defaults."""
    create_config(get_config())


def create_config(cnf: Mapping[str, Mapping[str, Any]] | None = None, def_queue: str | None = None) -> None:
    """Write a file with all defaults, and these values; `def_queue` is the kind of queue."""
    parser = configparser.ConfigParser(default_section="", interpolation=None, allow_no_value=True)
    found = {section: dict(keys) for section, keys in DEFAULTS.items()}
    for section, keys in (cnf or {}).items():
        found.setdefault(section, {}).update(keys)
    if def_queue is not None:
        found["queue"]["queue_type"] = def_queue
    parser.read_dict({name: {key: str(value) for key, value in keys.items()} for name, keys in found.items()})
    job_settings.write(parser, _path())


def create_config_interactive(prompt: bool = True) -> None:
    """As `create_config`; with `prompt` every value is asked for on the terminal, and an empty answer is the default."""
    found = get_config()
    if prompt:
        for section, keys in SETTINGS.items():
            for key, each in keys.items():
                if each.used:
                    answer = input(f"{section}.{key}: {each.meaning} [{found[section][key]}] ").strip()
                    found[section][key] = answer or found[section][key]
    create_config(found)


def get_executable(section: str, key: str, default: str) -> str:
    """The path of a command that is written there, else the default."""
    return str(get_option(section, key, default))


def get_job_paths(kwds: Mapping[str, Any]) -> tuple[dict[str, Any], str, str, str]:
    """(options without folders, where a job with these runs, where its output and its scripts go)."""
    left = sanitized(kwds)
    runpath = os.path.abspath(left.pop("runpath", "."))
    outpath = os.path.abspath(left.pop("outpath", None) or get_option("jobs", "outpath") or runpath)
    scriptpath = os.path.abspath(left.pop("scriptpath", None) or get_option("jobs", "scriptpath") or outpath)
    return {**left, "runpath": runpath}, runpath, outpath, scriptpath


# --- profiles -----------------------------------------------------------------------------------------------------------------


def _profiles() -> Path | None:
    """Another file of profiles, where the settings name one."""
    named = get_option("jobs", "profile_file")
    return Path(str(named)).expanduser() if named else None


class Profile(profiles.Profile):
    """Options with a name, in the file of profiles that this program uses."""

    def write(self) -> None:
        set_profile(self.name, self.args)


@overload
def get_profile(profile: str | None = ..., allow_none: Literal[False] = ...) -> Profile: ...
@overload
def get_profile(profile: str | None = ..., allow_none: bool = ...) -> Profile | None: ...
def get_profile(profile: str | None = None, allow_none: bool = False) -> Profile | None:
    """A profile with what DEFAULT says of the rest; without a name DEFAULT.

    One that is not there is None with `allow_none`, else a ProfileError.
    """
    try:
        found = profiles.get_profile(profile, _profiles())
    except ProfileError:
        if allow_none and profile not in profiles.get_profiles(_profiles()):
            return None
        raise
    return Profile(found.name, found.args)


def get_profiles(profs: str | Iterable[str] | None = None) -> dict[str, Profile]:
    """These profiles, or all, by name. Raises ProfileError."""
    names = profiles.get_profiles(_profiles()) if profs is None else [profs] if isinstance(profs, str) else profs
    return {name: get_profile(name) for name in names}


def set_profile(name: str, kwds: Mapping[str, Any], update: bool = True) -> Profile:
    """Write a profile; gives it. Without `update` it forgets what it had. Raises OptionsError."""
    if not isinstance(kwds, Mapping):
        raise OptionsError(f"{kwds!r} is not a mapping of options", where=f"profile {name}")
    profiles.set_profile(name, kwds, update, _profiles())
    written = profiles.get_profile(name, _profiles())
    return Profile(written.name, written.args)


def del_profile(name: str) -> None:
    """Raises ProfileError."""
    profiles.del_profile(name, _profiles())


def create_profiles(profs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write a file of profiles: those that are built in, or these."""
    for name, args in (DEFAULT_PROFILES if profs is None else profs).items():
        profiles.set_profile(name, args, update=False, path=_profiles())


def load_profiles() -> dict[str, profiles.Profile]:
    """All, as they are written."""
    return profiles.get_profiles(_profiles())


def write_profiles() -> None:
    """Write the file as it stands, so there is one that can be edited."""
    create_profiles({name: profile.args for name, profile in load_profiles().items()})


def __getattr__(name: str) -> Any:
    """`config`: what is written, as a ConfigParser; `CONFIG_PATH`: the folder of our files."""
    if name == "CONFIG_PATH":
        return str(job_settings.settings_file().parent)
    if name == "config":
        return load_config()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
