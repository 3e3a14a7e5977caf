"""The `iteration` member of a job description -> Iteration, and back.

Tasks are told apart by an index (`start`, `stop`), by a value each (`values`), or by named parameters. `params` is a table:
a column for each name, or an array of rows. `grid` gives each name a few values and makes a task of every combination, the
last name changing fastest; together with `params` each row is combined with each point of the grid. A column may be
`{"start", "stop", "step"}` instead of an array. None of it is multiplied out: a grid of a million points stays a few values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from ..model.errors import InvalidJobError
from ..model.job_spec import Iteration, Parameter
from ..model.steps import SLICE, Pause, Steps, finish
from . import legacy
from .check import check_members, is_count, need_object, shown

MOST_ITERATIONS = 10_000_000
LARGEST = 1 << 62
"""Whole numbers are kept in 64 bits."""
_WORDS = 10 * SLICE
"""Values in one slice."""
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
RESERVED = frozenset(
    {
        "it",
        "itval",
        "jname",
        "root_wd",
        "ncores",
        "nnodes",
        "nlist",
        "rcnt",
        "uniq",
        "sname",
        "date",
        "time",
        "dateTime",
    }
)
"""Variables that mean something else already."""


def describe_iteration(raw: Any, where: str) -> Iteration:
    return finish(iteration_in_steps(raw, where))


def iteration_in_steps(raw: Any, where: str) -> Steps[Iteration]:
    """The same in slices: a table may have millions of values."""
    check_members(raw, frozenset({"start", "stop", "values", "params", "grid"}), where)
    ways = [member for member in ("stop", "values", "params", "grid") if raw.get(member) is not None]
    if ways == ["stop", "values"]:
        raise InvalidJobError(legacy.STOP_AND_VALUES, where=where, remedy="leave one of them out")
    if len(ways) > 1 and ways != ["params", "grid"]:
        remedy = f"leave out all but {ways[0]!r}"
        raise InvalidJobError(f"{' and '.join(ways)} are excluding", where=where, remedy=remedy)
    if ways == ["values"]:
        return (yield from _of_values(raw, where))
    if "params" in ways or "grid" in ways:
        return (yield from _of_parameters(raw, where))
    return _numbered(raw, where)


def _numbered(raw: Mapping[str, Any], where: str) -> Iteration:
    start = whole(raw.get("start", 0), f"{where}.start", lowest=None)
    stop = whole(raw.get("stop"), f"{where}.stop", lowest=None)
    if start >= stop:
        raise InvalidJobError(
            f"{legacy.NO_ITERATIONS}: {start}..{stop} has no iteration",
            where=where,
            remedy="stop is the index after the last",
        )
    _check_count(stop - start, where)
    return Iteration(start, stop)


def _of_values(raw: Mapping[str, Any], where: str) -> Steps[Iteration]:
    values = raw["values"]
    if not isinstance(values, (list, str)):
        raise InvalidJobError(f"{shown(values)} is not an array", where=f"{where}.values", remedy="write [value, ...]")
    if not values:
        raise InvalidJobError("there are no values", where=f"{where}.values", remedy="give at least one")
    texts = yield from _texts(values, str, f"{where}.values")
    first = _first(raw, where)
    return Iteration(first, first + len(texts), texts)


def _of_parameters(raw: Mapping[str, Any], where: str) -> Steps[Iteration]:
    table = [] if raw.get("params") is None else (yield from _table(raw["params"], f"{where}.params"))
    axes = [] if raw.get("grid") is None else (yield from _columns(raw["grid"], f"{where}.grid"))
    both = {param.name for param in table} & {param.name for param in axes}
    if both:
        raise InvalidJobError(
            f"{shown(min(both))} is in params and in grid", where=where, remedy="leave one of them out"
        )
    rows = len(table[0].values) if table else 1
    points = prod(len(axis.values) for axis in axes)
    _check_count(rows * points, where)
    every, axes_every = points, []
    for axis in axes:
        every //= len(axis.values)
        axes_every.append(replace(axis, every=every))
    first = _first(raw, where)
    params = [replace(column, every=points) for column in table] + axes_every
    return Iteration(first, first + rows * points, params=tuple(params))


def _table(raw: Any, where: str) -> Steps[list[Parameter]]:
    """Columns of equal length."""
    named = (yield from _columns_of_rows(raw, where)) if isinstance(raw, list) else raw
    columns = yield from _columns(named, where)
    shortest, longest = min(columns, key=_length), max(columns, key=_length)
    if len(shortest.values) != len(longest.values):
        raise InvalidJobError(
            f"{shown(shortest.name)} has {len(shortest.values)} values and {shown(longest.name)} {len(longest.values)}",
            where=where,
            remedy="columns are as long as there are tasks; combinations of all values are a `grid`",
        )
    return columns


def _length(param: Parameter) -> int:
    return len(param.values)


def _columns_of_rows(rows: Sequence[Any], where: str) -> Steps[dict[str, list[Any]]]:
    if not rows:
        raise InvalidJobError("there are no rows", where=where, remedy="give at least one")
    columns: dict[str, list[Any]] = {name: [] for name in rows[0]} if isinstance(rows[0], dict) else {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidJobError(f"{shown(row)} is not an object", where=f"{where}[{number}]")
        if row.keys() != columns.keys():
            odd = min(row.keys() ^ columns.keys())
            what = f"{shown(odd)} is {'not in the first row' if odd in row else 'missing'}"
            raise InvalidJobError(what, where=f"{where}[{number}]", remedy="give all rows the same names")
        for name, value in row.items():
            columns[name].append(value)
        if not (number + 1) % SLICE:
            yield Pause.MORE
    return columns


def _columns(raw: Any, where: str) -> Steps[list[Parameter]]:
    need_object(raw, where, f"{shown(raw)} is neither an object of columns nor an array of rows")
    if not raw:
        raise InvalidJobError("there are no parameters", where=where, remedy='give at least one, as {"alpha": [1, 2]}')
    columns = []
    for name, values in raw.items():
        columns.append((yield from _column(_name(name, where), values, f"{where}.{name}")))
    return columns


def _name(name: str, where: str) -> str:
    if _NAME.fullmatch(name) is None:
        remedy = "write letters, digits and _, not beginning with a digit"
        raise InvalidJobError(f"{shown(name)} cannot be the name of a variable", where=where, remedy=remedy)
    if name in RESERVED:
        raise InvalidJobError(f"${{{name}}} means something else already", where=f"{where}.{name}", remedy="rename it")
    return name


def _column(name: str, raw: Any, where: str) -> Steps[Parameter]:
    if isinstance(raw, dict):
        check_members(raw, frozenset({"start", "stop", "step"}), where)
        start, stop = whole(raw.get("start", 0), f"{where}.start", None), whole(raw.get("stop"), f"{where}.stop", None)
        step = whole(raw.get("step", 1), f"{where}.step", None)
        numbers = range(start, stop, step) if step else range(0)
        if not numbers:
            what = f"{start}, {stop} in steps of {step} has no value"
            raise InvalidJobError(what, where=where, remedy="stop is the number after the last")
        _check_count(len(numbers), where)
        return Parameter(name, numbers=(start, stop, step))
    if not isinstance(raw, list):
        raise InvalidJobError(f"{shown(raw)} is not an array", where=where, remedy="write [value, ...]")
    if not raw:
        raise InvalidJobError("there are no values", where=where, remedy="give at least one")
    return Parameter(name, (yield from _texts(raw, _text, where)))


def _texts(values: Sequence[Any], as_text: Callable[[Any], str], where: str) -> Steps[tuple[str, ...]]:
    texts: list[str] = []
    for start in range(0, len(values), _WORDS):
        some = [value if isinstance(value, str) else as_text(value) for value in values[start : start + _WORDS]]
        if any("\0" in text for text in some):
            raise InvalidJobError(
                "there is a NUL character in it", where=where, remedy="no program can be given one: pass it in a file"
            )
        texts += some
        if len(some) == _WORDS:
            yield Pause.MORE
    return tuple(texts)


def _text(value: Any) -> str:
    """As JSON writes it; nothing is the empty text."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _first(raw: Mapping[str, Any], where: str) -> int:
    return whole(raw.get("start") or 0, f"{where}.start", lowest=None)


def _check_count(count: int, where: str) -> None:
    if count > MOST_ITERATIONS:
        raise InvalidJobError(
            f"{count} iterations are more than {MOST_ITERATIONS}", where=where, remedy="split it into several jobs"
        )


def whole(raw: Any, where: str, lowest: int | None) -> int:
    if not is_count(raw):
        raise InvalidJobError(f"{shown(raw)} is not a whole number", where=where, remedy="write a number such as 4")
    if lowest is not None and raw < lowest:
        raise InvalidJobError(f"{raw} is less than {lowest}", where=where, remedy=f"give at least {lowest}")
    if abs(raw) >= LARGEST:
        raise InvalidJobError(f"{raw} is too large", where=where, remedy=f"give less than {LARGEST}")
    return int(raw)


def undescribe_iteration(iteration: Iteration) -> dict[str, Any]:
    """The member in normal form, in which the first parameter of a grid stands as a table."""
    if iteration.is_numbered:
        return {"start": iteration.start, "stop": iteration.stop}
    described: dict[str, Any] = {}
    if iteration.values is not None:
        described["values"] = list(iteration.values)
    for param in iteration.params:
        first = iteration.params[0]
        member = "params" if (param.every, len(param.values)) == (first.every, len(first.values)) else "grid"
        described.setdefault(member, {})[param.name] = _undescribed(param)
    if iteration.start:
        described["start"] = iteration.start
    return described


def _undescribed(param: Parameter) -> Any:
    if param.numbers is None:
        return list(param.texts)
    return dict(zip(("start", "stop", "step"), param.numbers, strict=True))
