"""Tasks of a run as tables of other programs: CSV, Arrow (and so Parquet and polars), pandas.

The parameters are columns in front of the members of TaskRow; one with the name of a member is `param.NAME`. Each column has
one type: a parameter is whole numbers, numbers or text, whichever all its values are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .task_records import TaskRow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MEMBERS = [name for name in TaskRow._fields if name != "params"]
_TYPES = {
    "task": "string",
    "state": "string",
    "exit_code": "int64",
    "reason": "string",
    "started": "timestamp[us]",
    "ended": "timestamp[us]",
    "seconds": "float64",
    "node": "string",
    "cpu_s": "float64",
    "max_rss_mib": "float64",
    "attempts": "int64",
    "stdout": "string",
    "stderr": "string",
}
"""By member, as Arrow calls them. All may be null but for the first two and `attempts`."""


def as_arrow(rows: Iterable[TaskRow]) -> pa.Table:
    """Needs pyarrow."""
    import pyarrow as pa

    listed = list(rows)
    columns: dict[str, Any] = {name: pa.array(values) for name, values in _parameters(listed).items()}
    for name, kind in _TYPES.items():
        values = [getattr(row, name) for row in listed]
        if name in ("stdout", "stderr"):
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, pa.type_for_alias(kind))
    return pa.table(columns)


def as_pandas(rows: Iterable[TaskRow]) -> pd.DataFrame:
    """Needs pandas."""
    import pandas as pd

    listed = list(rows)
    columns = _parameters(listed) | {name: [getattr(row, name) for row in listed] for name in _MEMBERS}
    frame = pd.DataFrame(columns)
    for name, kind in (
        ("exit_code", "Int64"),
        ("seconds", "float64"),
        ("cpu_s", "float64"),
        ("max_rss_mib", "float64"),
    ):
        frame[name] = frame[name].astype(kind)
    for name in ("started", "ended"):
        frame[name] = pd.to_datetime(frame[name])
    return frame


def as_csv(rows: Iterable[TaskRow]) -> Iterator[list[str]]:
    """Header and rows. Parameters are what the user wrote."""
    listed = list(rows)
    names = _names(listed)
    yield [*(_column(name) for name in names), *_MEMBERS]
    for row in listed:
        values = row.as_json()
        yield [
            *(row.params.get(name, "") for name in names),
            *("" if values[name] is None else str(values[name]) for name in _MEMBERS),
        ]


def _names(rows: Iterable[TaskRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.params))


def _column(parameter: str) -> str:
    return f"param.{parameter}" if parameter in _MEMBERS else parameter


def _parameters(rows: Sequence[TaskRow]) -> dict[str, list[Any]]:
    return {_column(name): _typed([row.params.get(name) for row in rows]) for name in _names(rows)}


def _typed(texts: list[str | None]) -> list[Any]:
    """All as numbers, or all as text."""
    for kind in (int, float):
        try:
            return [None if text is None else kind(text) for text in texts]
        except ValueError:
            pass
    return texts
