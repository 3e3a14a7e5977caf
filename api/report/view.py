"""What a view says, before it is text, CSV or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .tasks import Place

Cell = str | int | float | None | Place
"""Of a table or a value. A `Moment` is seconds since the epoch that are shown as a time."""


class Moment(float):
    """Seconds since the epoch: text and JSON have it as local time."""


class Value(NamedTuple):
    """`label`: for people, in the words of the original; `key`: for programs; `text`: `value` as people see it."""

    label: str
    key: str
    value: Cell
    text: str


class Table(NamedTuple):
    """`rows` of any kind: `cells` makes of each what programs see, `line` what people see, perhaps several lines.

    `heading` stands above the lines.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Any]
    cells: Callable[[Any], Sequence[Cell]]
    line: Callable[[Any], str]
    heading: str = ""


@dataclass
class View:
    """`width`: of the labels; `warnings`: printed first; `heading`: above everything, for people only."""

    name: str
    width: int = 20
    heading: str = ""
    warnings: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def add(self, label: str, value: Cell, text: str | None = None, key: str = "") -> None:
        shown = text if text is not None else str(value)
        self.values.append(Value(label, key or label.replace(" ", "_").replace("-", "_"), value, shown))
