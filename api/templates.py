"""`{alpha}` in words of a command line -> `${alpha}`, which the pilot fills in; and what is no parameter is refused.

`{` and `}` mean something only around the name of a parameter, or around what GNU parallel has there, and only when there are
parameters. Doubled ones, `{{alpha}}`, stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from ..pilot.model.errors import UsageError
from ..pilot.model.variables import names_in
from ..pilot.wire.describe_iteration import RESERVED

_BRACES = re.compile(r"\{\{([^{}]*)\}\}|\$\{[^{}]*\}|\{([^{}\s]*)\}")
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_SHELLS = re.compile(r"(?:.*/)?(?:ba|z|k|da|fi|c|tc)?sh|(?:.*/)?(?:[gmn]?awk|perl|env|xargs|find|ssh|parallel|srun)")
"""Programs among whose arguments are texts with `$` of their own."""
_TEMPLATES = ("wd", "stdin", "stdout", "stderr")


def fill(word: str, variables: Mapping[str, str], names: Collection[str], where: str) -> str:
    """A word with each template as a variable.

    Args:
        variables: what stands in the braces -> the variable that it means.
        names: those of them that a person would write, for the remedy.

    Raises UsageError for a name in braces that is none of `variables`.
    """

    def replaced(match: re.Match[str]) -> str:
        doubled, inside = match[1], match[2]
        if doubled is not None:
            return f"{{{doubled}}}"
        if inside is None:
            return match[0]
        if inside in variables:
            return f"${{{variables[inside]}}}"
        if _NAME.fullmatch(inside):
            remedy = f"{_nearest(inside, names)}; {{{{{inside}}}}} stands for the text itself"
            raise UsageError(f"{{{inside}}} is no parameter", where=where, remedy=remedy)
        return match[0]

    return _BRACES.sub(replaced, word)


def check_variables(job: Mapping[str, Any], where: str) -> None:
    """Refuse `${name}` where nothing will fill it in: in names of files, and in arguments of what is no shell.

    Raises UsageError with the name that may have been meant. What is malformed otherwise is the pilot's to refuse.
    """
    execution, iteration = job.get("execution"), job.get("iteration")
    if not isinstance(execution, dict):
        return
    known = _known(iteration if isinstance(iteration, dict) else {})
    texts = [(member, execution.get(member)) for member in _TEMPLATES]
    program, args = execution.get("exec"), execution.get("args")
    if isinstance(program, str) and isinstance(args, list) and not _SHELLS.fullmatch(program):
        texts += [(f"args[{place}]", arg) for place, arg in enumerate(args)]
    for member, text in texts:
        if not isinstance(text, str) or "${" not in text:
            continue
        for name in sorted(names_in(text) - known):
            if f"${{{name}}}" in text:
                remedy = f"{_nearest(name, known)}; $${{{name}}} stands for the text itself"
                raise UsageError(f"${{{name}}} is no variable", where=f"{where}.execution.{member}", remedy=remedy)


def _known(iteration: Mapping[str, Any]) -> set[str]:
    names = parameters_in(iteration)
    return {*RESERVED, *names, *(f"itval.{name}" for name in names)}


def parameters_in(iteration: object) -> list[str]:
    """The names of the parameters that the `iteration` of a description has."""
    names: list[str] = []
    if not isinstance(iteration, dict):
        return names
    for member in ("params", "grid"):
        table = iteration.get(member)
        row = table[0] if isinstance(table, list) and table else table
        if isinstance(row, dict):
            names += row
    return names


def _nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
