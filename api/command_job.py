"""The job of `pilotfish run -- COMMAND`: once, or once for each index, row, combination or line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..pilot.model.errors import UsageError
from . import parameters, templates

_TEMPLATE = re.compile(r"(?<!\{)\{([^{}\s]*)\}(?!\})")
_PART = re.compile(r"(\d*)(\.|//|/\.|/)?")
_LINE = "line"
_OURS = re.compile(r"(?<!\$)\$\{(?:arg\d+|part\d+|it)\}")
_OTHER_DOLLAR = re.compile(r"\$(?!\{(?:arg\d+|part\d+|it)\})")


class Parameters(NamedTuple):
    """What the command line says of parameters; see `pilotfish run --help`."""

    iterations: int | None = None
    params: str | None = None
    grid: tuple[str, ...] = ()
    zip: tuple[str, ...] = ()
    each_line: str | None = None

    @property
    def option(self) -> str | None:
        """The first option that is given; None for none."""
        return next((f"--{field.replace('_', '-')}" for field, value in self._asdict().items() if value), None)


class _Source(NamedTuple):
    """`iteration` of the job; `variables`: what may stand in braces -> the variable; `names`: those of them to propose."""

    iteration: dict[str, Any] | None
    variables: dict[str, str]
    names: list[str]
    append: Sequence[str] = ()
    """What is added to a command in which nothing stands for the arguments."""


def command_job(words: Sequence[str], name: str, given: Parameters) -> dict[str, Any]:
    """The description. Raises UsageError."""
    command, lists = parameters.split_lists(words)
    if not command:
        raise UsageError("there is no command", where="run", remedy="write it before :::")
    source = _of_lists(lists, command, given) if lists or given.each_line else _of_tables(given)
    if source.iteration is not None and source.variables:
        command = [
            templates.fill(word, source.variables, source.names, f"word {n}") for n, word in enumerate(command, 1)
        ]
    command = [*command, *source.append]
    if lists and len(command) == 1 + len(source.append) and re.search(r"\s", command[0]):
        command = _by_shell(command[0], source.append)
    job: dict[str, Any] = {"name": name, "execution": {"exec": command[0], "args": command[1:]}}
    if source.iteration is not None:
        job["iteration"] = source.iteration
    return job


def _of_tables(given: Parameters) -> _Source:
    if given.iterations is not None:
        if given.params or given.grid or given.zip:
            raise UsageError(f"makes no sense with {given._replace(iterations=None).option}", where="--iterations")
        return _Source({"stop": given.iterations}, {}, [])
    if given.params and given.zip:
        raise UsageError("makes no sense with --params", where="--zip", remedy="write the column into the file")
    iteration: dict[str, Any] = {}
    if given.params:
        iteration["params"] = parameters.read_table(given.params)
    if given.zip:
        iteration["params"] = parameters.axes(given.zip, "--zip")
    if given.grid:
        iteration["grid"] = parameters.axes(given.grid, "--grid")
    names = [name for columns in iteration.values() for name in columns]
    return _Source(iteration or None, {name: name for name in [*names, "it"]} if names else {}, names)


def _of_lists(lists: list[tuple[str, list[str]]], command: Sequence[str], given: Parameters) -> _Source:
    """A column for each list, and for each part of a path or sum of arguments that the command uses."""
    other = given._replace(each_line=None).option
    if other or (lists and given.each_line):
        raise UsageError(
            "makes no sense with lists of arguments", where=other or "--each-line", remedy="use one of them"
        )
    rows = parameters.of_lists(lists or [("::::", [given.each_line or "-"])])
    columns = {f"arg{number}": [row[number - 1] for row in rows] for number in range(1, len(rows[0]) + 1)}
    variables = {str(number): f"arg{number}" for number in range(1, len(rows[0]) + 1)} | {"#": "it"}
    used = {match[1] for word in command for match in _TEMPLATE.finditer(word)}
    for template in sorted(used - variables.keys()):
        part = _PART.fullmatch(template)
        if template == _LINE and given.each_line:
            variables[template] = "arg1"
        elif part is not None and (not part[1] or 1 <= int(part[1]) <= len(rows[0])):
            variables[template] = column = f"part{len(columns)}"
            columns[column] = [_part_of(row, part[1], part[2] or "") for row in rows]
    append = [] if used & variables.keys() else [f"${{arg{number}}}" for number in range(1, len(rows[0]) + 1)]
    return _Source({"params": columns, "start": 1}, variables, ["1", "#"], append)


def _part_of(row: tuple[str, ...], number: str, kind: str) -> str:
    arguments = [row[int(number) - 1]] if number else row
    return " ".join(dict(parameters.parts_of(argument))[kind] for argument in arguments)


def _by_shell(text: str, append: Sequence[str]) -> list[str]:
    """A command line in one word is for a shell, as GNU parallel has it; values reach it as arguments, never as its text."""
    arguments: list[str] = []

    def place(match: re.Match[str]) -> str:
        arguments.append(match[0])
        return f'"$$$${{{len(arguments)}}}"'

    # A shell's own `$` must survive both passes of variable substitution (each halves it).
    script = _OTHER_DOLLAR.sub("$$$$", text)
    script = _OURS.sub(place, script)
    rest = ['"$$$$@"'] if append else []
    return ["bash", "-c", " ".join([script, *rest]), "bash", *arguments, *append]
