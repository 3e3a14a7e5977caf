"""Parameters of tasks, from files and options of the command line, as the `iteration` of a job description.

Three sources can be told apart, and the second may stand beside the first or the third:

- a table, with a row for each task: `--params FILE`, `--zip NAME=...`;
- a grid, with a task for each combination: `--grid NAME=...`, the last one changing fastest;
- lists as GNU parallel has them: `::: A B ::: C D`, `:::: FILE`, `--each-line FILE`.

Values of files stay what is written there: `1e-3` is not made a number and back.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pilot import formats
from ..pilot.model.errors import UsageError
from ..pilot.wire.describe_iteration import MOST_ITERATIONS, RESERVED

Columns = dict[str, Any]
"""By name: an array of values, or `{"start", "stop", "step"}`."""

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
}
_RANGE = re.compile(r"range\(\s*(-?\d+)\s*(?:,\s*(-?\d+)\s*)?(?:,\s*(-?\d+)\s*)?\)")
_NOT_IN_NAMES = re.compile(r"\W+", re.ASCII)


# --- tables -----------------------------------------------------------------------------------------------------------


def read_table(path: str) -> Columns:
    """The columns of a file, by name. Raises UsageError naming file, line and remedy."""
    form = SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        raise UsageError("is no table known here", where=path, remedy=f"known are {', '.join(SUFFIXES)}")
    columns = _READERS[form](path)
    if not columns or not next(iter(columns.values())):
        raise UsageError("there are no rows in it", where=path, remedy="write names in the first line, values below")
    return {_named(name, path): values for name, values in columns.items()}


def _named(name: str, path: str) -> str:
    """The name of a column as that of a variable: `learning rate` is `learning_rate`."""
    variable = _NOT_IN_NAMES.sub("_", name.strip()).strip("_")
    if not variable or variable[0].isdigit():
        raise UsageError(
            f"{name!r} cannot be the name of a parameter", where=path, remedy="begin the name of a column with a letter"
        )
    if variable in RESERVED:
        raise UsageError(f"{{{variable}}} means something else already", where=path, remedy="rename that column")
    return variable


def _read_text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8 text", where=path, remedy="iconv -t UTF-8") from error


def _separated(delimiter: str) -> Callable[[str], Columns]:
    def read(path: str) -> Columns:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise UsageError(str(error), where=f"{path}: line {reader.line_num}") from error
        if not rows:
            return {}
        names = [name.strip() for name in rows[0][1]]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two columns are named {name!r}", where=path, remedy="rename one of them")
        for line, row in rows[1:]:
            if len(row) != len(names):
                raise UsageError(
                    f"{len(row)} values for {len(names)} columns",
                    where=f"{path}: line {line}",
                    remedy="put values with the separator in them between double quotes",
                )
        return {name: [row[place] for _, row in rows[1:]] for place, name in enumerate(names)}

    return read


def _read_json_lines(path: str) -> Columns:
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UsageError(f"is not JSON: {error}", where=f"{path}: line {number}") from error
    return _columns_of(rows, path)


def _structured(form: str) -> Callable[[str], Columns]:
    def read(path: str) -> Columns:
        try:
            return _columns_of(formats.parse(_read_text(path), form), path)
        except formats.FormatError as error:
            raise UsageError(f"is not {form.upper()}: {error}", where=path) from error

    return read


def _read_parquet(path: str) -> Columns:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("needs pyarrow, which is not installed", where=path, remedy="pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", where=path) from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


_READERS: Mapping[str, Callable[[str], Columns]] = {
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "jsonl": _read_json_lines,
    "json": _structured("json"),
    "yaml": _structured("yaml"),
    "parquet": _read_parquet,
}


def _columns_of(value: Any, path: str) -> Columns:
    """From an array of rows, or an object of columns."""
    if isinstance(value, dict):
        for name, column in value.items():
            if not isinstance(column, list):
                raise UsageError(
                    "is not an array", where=f"{path}: {name}", remedy="write an array of rows, or of columns"
                )
            if len(column) != len(next(iter(value.values()))):
                raise UsageError("columns have different lengths", where=f"{path}: {name}")
        return dict(value)
    if not isinstance(value, list):
        raise UsageError("is no table", where=path, remedy="write an array of objects, one for each task")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict) or row.keys() != value[0].keys():
            remedy = "write objects with the same names in all rows"
            raise UsageError("has other names than the first row", where=f"{path}: row {number}", remedy=remedy)
    return {name: [row[name] for row in value] for name in value[0]} if value else {}


# --- options ----------------------------------------------------------------------------------------------------------


def axis(text: str, option: str) -> tuple[str, Any]:
    """`alpha=0.1,0.2` or `seed=range(1,11)` -> (name, values). Raises UsageError."""
    name, equals, values = text.partition("=")
    if not equals or not values or _named(name, option) != name:
        raise UsageError(f"{text!r} is not NAME=VALUES", where=option, remedy=f"write {option} alpha=0.1,0.2")
    numbers = _RANGE.fullmatch(values)
    if numbers is None:
        return name, next(csv.reader([values]))
    first, second, step = numbers.groups()
    start, stop = (0, int(first)) if second is None else (int(first), int(second))
    return name, {"start": start, "stop": stop, "step": int(step or 1)}


def axes(texts: Iterable[str], option: str) -> Columns:
    columns: Columns = {}
    for text in texts:
        name, values = axis(text, option)
        if name in columns:
            raise UsageError(f"{name!r} is given twice", where=option)
        columns[name] = values
    return columns


# --- lists as GNU parallel has them -----------------------------------------------------------------------------------

LISTS = (":::", ":::+", "::::", "::::+")


def split_lists(words: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The command, and what stands behind each of LISTS."""
    places = [place for place, word in enumerate(words) if word in LISTS]
    if not places:
        return list(words), []
    lists = [(words[at], list(words[at + 1 : end])) for at, end in itertools.pairwise([*places, len(words)])]
    return list(words[: places[0]]), lists


def lines_of(path: str) -> list[str]:
    """Not empty lines of a file, or of standard input for `-`."""
    try:
        text = Path("/dev/stdin" if path == "-" else path).read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def of_lists(lists: Iterable[tuple[str, list[str]]]) -> list[tuple[str, ...]]:
    """A row of arguments for each task: every combination, but lists behind `:::+` go along with the one before.

    Raises UsageError for a list that is empty.
    """
    sources: list[list[tuple[str, ...]]] = []
    for mark, words in lists:
        values = words if mark.startswith(":::") and not mark.startswith("::::") else _of_files(words)
        if not values:
            raise UsageError(f"there is nothing behind {mark}", remedy=f"write {mark} VALUE ...")
        if mark.endswith("+") and sources:
            sources[-1] = [(*row, value) for row, value in zip(sources[-1], values, strict=False)]
        else:
            sources.append([(value,) for value in values])
    rows = itertools.product(*sources)
    return [tuple(itertools.chain(*row)) for row in itertools.islice(rows, MOST_ITERATIONS + 1)]


def _of_files(paths: Iterable[str]) -> list[str]:
    return [line for path in paths for line in lines_of(path)]


def parts_of(path: str) -> Iterator[tuple[str, str]]:
    """(what stands in the braces, the text): the parts of a path as GNU parallel's templates name them."""
    folder, slash, name = path.rpartition("/")
    stem = path[: -len(Path(name).suffix)] if Path(name).suffix else path
    yield "", path
    yield ".", stem
    yield "/", name
    yield "//", folder if slash else "."
    yield "/.", stem.rpartition("/")[2]
