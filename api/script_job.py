"""A script given as a file of work is one task, which its first comment may say more of.

`#PILOTFISH --cores 4 --wt 10m` in the head of a script means what these options mean on the command line, which win over it.
The head ends with the first line that is neither empty nor a comment, as with `#SBATCH`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..pilot.model.errors import UsageError
from ..pilot.systems import registry
from .resource_words import amount_of, needs_of
from .retry_rules import parse_rules

_SHELLS = frozenset((".sh", ".bash", ".zsh", ".ksh", ".csh", ".fish", ".job"))
_INTERPRETERS = {
    ".zsh": "zsh",
    ".ksh": "ksh",
    ".csh": "csh",
    ".fish": "fish",
    ".py": "python3",
    ".r": "Rscript",
    ".jl": "julia",
    ".pl": "perl",
    ".rb": "ruby",
}
_MARK = "#PILOTFISH"
_DIRECTIVES = click.Command(
    _MARK,
    params=[
        click.Option(["--name"]),
        click.Option(["--cores"], type=click.IntRange(1)),
        click.Option(["--nodes"], type=click.IntRange(1)),
        click.Option(["--gpus"]),
        click.Option(["--need"], multiple=True),
        click.Option(["--mem"]),
        click.Option(["--wt"]),
        click.Option(["--retries"], type=click.IntRange(0)),
        click.Option(["--retry"], multiple=True),
        click.Option(["--stdout"]),
        click.Option(["--stderr"]),
    ],
    add_help_option=False,
)


def is_script(source: str) -> bool:
    """Whether a file is one by its name, or by its first line and being a program."""
    suffix = os.path.splitext(source)[1].lower()
    if not os.path.isfile(source):
        return False
    return (
        suffix in _SHELLS
        or suffix in _INTERPRETERS
        or suffix in registry.script_suffixes()
        or (not suffix and os.access(source, os.X_OK) and _has_mark(source))
    )


def _has_mark(source: str) -> bool:
    try:
        with open(source, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def command_of(source: str) -> list[str]:
    """The command that runs a script: itself where its first line and mode say so, else an interpreter by its suffix."""
    path = source if "/" in source else f"./{source}"
    if os.access(source, os.X_OK) and (_has_mark(source) or not is_script(source)):
        return [path]
    return [_INTERPRETERS.get(os.path.splitext(source)[1].lower(), "bash"), path]


def as_a_task(source: str) -> str:
    """What to type to run a file as the one thing it is."""
    if source == "-":
        return "save it as job.sh, then pilotfish run -- ./job.sh"
    return f"pilotfish run -- {shlex.join(command_of(source))}"


def job_of(source: str) -> dict[str, Any]:
    """The description. Raises UsageError for a directive that cannot be understood, with its line."""
    said = _said_in_head(source)
    program, *args = command_of(str(Path(source).absolute()))
    # A `$` in the name of the file must survive both passes of variable substitution (each halves it).
    execution: dict[str, Any] = {
        "exec": program.replace("$", "$$$$"),
        "args": [arg.replace("$", "$$$$") for arg in args],
    }
    execution |= {stream: said.pop(stream) for stream in ("stdout", "stderr") if stream in said}
    job: dict[str, Any] = {"name": said.pop("name", _name_of(source)), "execution": execution}
    if "retries" in said:
        job["retries"] = said.pop("retries")
    if said.get("retry"):
        job["retry"] = parse_rules(said.pop("retry"))
    members = {"cores": "numCores", "nodes": "numNodes", "mem": "mem", "wt": "wt"}
    resources: dict[str, Any] = {member: said[option] for option, member in members.items() if option in said}
    if "gpus" in said:
        resources["nodeCrs"] = {"gpu": amount_of(said["gpus"])}
    resources |= needs_of(said.get("need", ()))
    if resources:
        job["resources"] = resources
    return job


def _name_of(source: str) -> str:
    stem = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in Path(source).stem)
    return stem or "script"


def _said_in_head(source: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for number, words in _directives(source):
        where = f"{source}: line {number}"
        try:
            context = _DIRECTIVES.make_context(_MARK, shlex.split(words))
        except click.UsageError as error:
            known = ", ".join(option.opts[0] for option in _DIRECTIVES.params)
            raise UsageError(error.format_message(), where=where, remedy=f"known are {known}") from error
        except ValueError as error:
            raise UsageError(f"{error} in {words!r}", where=where) from error
        repeated = {name: (*said.get(name, ()), *context.params.pop(name)) for name in ("retry", "need")}
        said |= {name: value for name, value in context.params.items() if value is not None}
        said |= repeated
    return said


def _directives(source: str) -> Iterator[tuple[int, str]]:
    try:
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and not line.startswith("#"):
                    return
                if line.startswith(_MARK) and line[len(_MARK) :][:1].isspace():
                    yield number, line[len(_MARK) :].strip()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=source) from error
