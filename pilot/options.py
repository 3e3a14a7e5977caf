"""The options of a manager on the command line: those of `pilotfish service`, and of `run`, which passes them on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from .manager.config import OPTIONS, default_of
from .manager.config import Option as Option

_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "text": str,
    "time": str,
    "list": str,
    "path": click.Path(path_type=Path),
}

Command = Callable[..., None]


def with_options(options: Iterable[Option]) -> Callable[[Command], Command]:
    """A decorator that gives a command these options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(list(options)):
            command = _click_option(option)(command)
        return command

    return decorate


def _click_option(option: Option) -> Callable[[Command], Command]:
    hidden = option.group in ("hidden", "accepted")
    if option.kind == "flag":
        return click.option(f"--{option.name}", is_flag=True, help=option.help, hidden=hidden)
    if option.kind == "texts":
        return click.option(f"--{option.name}", multiple=True, metavar="NAME=VALUE", help=option.help, hidden=hidden)
    kind = click.Choice(option.kind) if isinstance(option.kind, tuple) else _TYPES[option.kind]
    default = default_of(option)
    text = option.help if default in (None, ()) else f"{option.help}  [default: {_as_text(default)}]"
    return click.option(f"--{option.name}", type=kind, default=None, help=text, hidden=hidden)


def _as_text(default: object) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


# What `run` decides itself, or what would take its pilot from it.
_OF_RUN = {"wd", "nodes", "walltime", "resume"}
_OF_SERVICE = {
    "file",
    "file-path",
    "report-format",
    "report-file",
    "show-progress",
    "disable-pub",
    "governor",
    "parent",
    "idle-timeout",
}

RUN_OPTIONS = [
    option for option in OPTIONS if option.group in ("old", "ours") and option.name not in _OF_RUN | _OF_SERVICE
]

# `parent` starts no manager, and so nothing that a program could talk to.
PYTHON_OPTIONS = [
    option
    for option in OPTIONS
    if (option.group in ("old", "ours") or option.name == "config") and option.name != "parent"
]


def as_words(values: Mapping[str, Any]) -> Iterator[str]:
    """The words of a command line of `service` that say what was said for RUN_OPTIONS; `values` by field."""
    for option in RUN_OPTIONS:
        value = values[option.field]
        if value is True:
            yield f"--{option.name}"
        elif isinstance(value, tuple):
            yield from (f"--{option.name}={word}" for word in value)
        elif value is not None and value is not False:
            yield f"--{option.name}={value}"
