"""`$name` and `${name}` in descriptions. Substituted in values, never in serialised text: a quote stays a quote.

As in the old system each pass turns `$$` into `$` and leaves unknown names alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from .job_spec import Execution
from .steps import SLICE, Pause, Steps

_TEXTS = 10 * SLICE
"""In one slice."""

_PATTERN = re.compile(r"\$(?:(\$)|([_a-zA-Z][_a-zA-Z0-9]*)|\{((?:itval\.)?[_a-zA-Z][_a-zA-Z0-9]*)\})", re.ASCII)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with the variables in `values` filled in; the same object when it has no `$`."""
    if "$" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        escaped, bare, braced = match.groups()
        return "$" if escaped else values.get(bare or braced, match.group())

    return _PATTERN.sub(value, text)


def of_iteration(index: int, value: str, has_params: bool) -> dict[str, str]:
    """What the tasks of an iteration job have beyond others: `it`, `itval`, and each parameter by both of its names."""
    values = {"it": str(index), "itval": value}
    if has_params:
        for name, text in json.loads(value).items():
            values[name] = values[f"itval.{name}"] = text
    return values


def names_in(text: str) -> set[str]:
    """The variables that a text uses, known or not."""
    return {bare or braced for escaped, bare, braced in _PATTERN.findall(text) if not escaped}


def substitute_all(value: Any, values: Mapping[str, str]) -> Any:
    """A JSON value with the variables filled in, in every text of it but the names of members."""
    if isinstance(value, str):
        return substitute(value, values)
    if isinstance(value, list):
        return [substitute_all(element, values) for element in value]
    if isinstance(value, dict):
        return {name: substitute_all(element, values) for name, element in value.items()}
    return value


def substitute_in_steps(value: Any, values: Mapping[str, str]) -> Steps[Any]:
    """The same in slices, for a large value; a generator for each part costs a small one half as much again."""
    return (yield from _in_steps(value, values, count(1)))


def _in_steps(value: Any, values: Mapping[str, str], seen: count[int]) -> Steps[Any]:
    if isinstance(value, str):
        return substitute(value, values)
    if not isinstance(value, (list, dict)):
        return value
    filled: list[Any] = []
    for element in value.values() if isinstance(value, dict) else value:
        # A text, as most elements are, needs no generator of its own.
        is_text = isinstance(element, str)
        filled.append(substitute(element, values) if is_text else (yield from _in_steps(element, values, seen)))
        if not next(seen) % _TEXTS:
            yield Pause.MORE
    return dict(zip(value, filled, strict=True)) if isinstance(value, dict) else filled


def has_variables(execution: Execution) -> bool:
    """Whether any text of the execution holds a `$`, so that its tasks may differ."""
    e = execution
    texts = [e.exec, e.script, e.wd, e.stdin, e.stdout, e.stderr, e.venv, e.model, *e.args, *e.modules, *e.env.values()]
    return any(text is not None and "$" in text for text in texts) or "$" in repr(e.model_opts)


def substitute_execution(execution: Execution, values: Mapping[str, str]) -> Execution:
    """The execution with the variables filled in everywhere; an optional text that turns out empty is as absent."""

    def filled(text: str | None) -> str | None:
        return None if text is None else substitute(text, values)

    def optional(text: str | None) -> str | None:
        return filled(text) or None

    return replace(
        execution,
        exec=filled(execution.exec),
        args=tuple([substitute(arg, values) for arg in execution.args]),
        script=filled(execution.script),
        env={name: substitute(value, values) for name, value in execution.env.items()},
        wd=optional(execution.wd),
        stdin=optional(execution.stdin),
        stdout=optional(execution.stdout),
        stderr=optional(execution.stderr),
        modules=tuple([name for module in execution.modules if (name := substitute(module, values))]),
        venv=optional(execution.venv),
        model=optional(execution.model),
        model_opts=substitute_all(execution.model_opts, values),
    )
