"""Where settings come from: options, PILOTFISH_* variables, a TOML file, defaults; the first that says something wins.

Every value keeps its origin, for `--show-settings` and so that an error can name the place that has to be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from .. import formats
from ..model.errors import SettingsError
from ..variable_names import OF_DROPIN, OURS, RESOURCE
from .config import OPTIONS, Option

CONFIG_VARIABLE = "PILOTFISH_CONFIG"
_PREFIX = "PILOTFISH_"
_OWN = frozenset(name.removeprefix(_PREFIX) for name in (CONFIG_VARIABLE, *OURS, *OF_DROPIN))
"""Variables with our prefix that are no settings of the service."""
_TABLE = "service"
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})
_SETTABLE = {name: option for option in OPTIONS if option.group in ("old", "ours") for name in option.names}


class Given(NamedTuple):
    """A value and where it was said: `--net-port`, `PILOTFISH_NET_PORT` or `config.toml: service.net-port`."""

    value: Any
    origin: str


def gather(options: Mapping[str, Any], environ: Mapping[str, str], home: Path) -> dict[str, Given]:
    """What was said, by option name; `options` as click gives them (by field name, None or False where not given).

    The file is `--config`, else $PILOTFISH_CONFIG (empty: none), else `config.toml` in `$XDG_CONFIG_HOME/pilotfish` or
    `~/.config/pilotfish` if it is there. Raises SettingsError naming place, value and remedy.
    """
    settings = _from_file(options.get("config"), environ, home)
    settings |= _from_environment(environ)
    for option in OPTIONS:
        value = options.get(option.field)
        if value is not None and value is not False and value != ():
            settings[option.name] = Given(value, f"--{option.name}")
    return settings


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    found = {}
    names = {name.upper().replace("-", "_"): option for name, option in _SETTABLE.items()}
    for variable, text in environ.items():
        word = variable.removeprefix(_PREFIX)
        if word == variable or word in _OWN or variable.startswith(RESOURCE):
            continue
        option = names.get(word)
        if option is not None:
            found[option.name] = Given(_parsed(option, text, variable), variable)
        elif near := get_close_matches(word, names, 1, 0.8):
            raise SettingsError("unknown setting", where=variable, remedy=f"write {_PREFIX}{near[0]}")
    return found


def _from_file(asked: Path | None, environ: Mapping[str, str], home: Path) -> dict[str, Given]:
    path = _file(asked, environ, home)
    if path is None:
        return {}
    found = {}
    for table, members in _read(path).items():
        if table != _TABLE or not isinstance(members, dict):
            raise SettingsError("unknown table", where=f"{path}: {table}", remedy=f"write [{_TABLE}]")
        for key, value in members.items():
            where = f"{path}: {_TABLE}.{key}"
            option = _SETTABLE.get(key.replace("_", "-"))
            if option is None:
                near = get_close_matches(key.replace("_", "-"), _SETTABLE, 1)
                remedy = f"write {near[0]}" if near else "pilotfish service --help lists them"
                raise SettingsError("unknown setting", where=where, remedy=remedy)
            found[option.name] = Given(_checked(option, value, where), where)
    return found


def _file(asked: Path | None, environ: Mapping[str, str], home: Path) -> Path | None:
    """The file that must be there because somebody named it, or the usual one if it is there."""
    if asked is not None:
        return asked
    if CONFIG_VARIABLE in environ:
        return Path(environ[CONFIG_VARIABLE]) if environ[CONFIG_VARIABLE] else None
    usual = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pilotfish" / "config.toml"
    return usual if usual.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        tables: dict[str, Any] = formats.parse(path.read_text(encoding="utf-8"), "toml")
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:  # FormatError, which names the line, and UnicodeDecodeError
        raise SettingsError(f"is not TOML: {error}", where=str(path)) from error
    return tables


def _parsed(option: Option, text: str, where: str) -> Any:
    """The value of an environment variable."""
    if option.kind == "flag":
        if text.lower() in _YES | _NO:
            return text.lower() in _YES
        raise SettingsError(f'"{text}" is neither yes nor no', where=where, remedy="write 1 or 0")
    if option.kind == "texts":
        return text.split()
    if option.kind in ("int", "float"):
        try:
            return int(text) if option.kind == "int" else float(text)
        except ValueError:
            raise SettingsError(f'"{text}" is not a number', where=where) from None
    return _checked(option, text, where)


def _checked(option: Option, value: Any, where: str) -> Any:
    """`value` if it is of the option's kind; a list of texts becomes the comma list it stands for."""
    if option.kind == "list" and isinstance(value, list) and all(isinstance(word, str) for word in value):
        return ",".join(value)
    if option.kind == "texts":
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return value
        raise SettingsError(f"{value!r} is not a list of texts", where=where)
    if isinstance(option.kind, tuple):
        if value not in option.kind:
            raise SettingsError(f"{value!r} is not known", where=where, remedy=f"use {', '.join(option.kind)}")
        return value
    kinds, name = _KINDS[option.kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and option.kind != "flag"):
        raise SettingsError(f"{value!r} is not {name}", where=where)
    return Path(str(value)) if option.kind == "path" else value


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "flag": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "text": (str, "text"),
    "time": (str, "a time like 1h30m"),
    "path": (str, "a path"),
    "list": (str, "a list of words"),
}
