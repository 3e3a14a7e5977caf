"""Tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Column(NamedTuple):
    """`kind`: its class in the style sheet; `n` for numbers."""

    label: str
    kind: str = ""


def rows_of(lines: Iterable[Sequence[str]]) -> list[list[str]]:
    """Texts as HTML."""
    return [[escape(cell) for cell in line] for line in lines]


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """`rows` are HTML. A table that is too wide for the page is scrolled, also with the keyboard."""
    head = "".join(f"<th scope=col{_kind(column)}>{escape(column.label)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(column)}>{cell}</td>" for column, cell in zip(columns, row, strict=True)) + "</tr>"
        for row in rows
    )
    label = escape(caption, quote=True)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _kind(column: Column) -> str:
    return f' class="{column.kind}"' if column.kind else ""
