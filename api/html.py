"""What notebooks show of our objects: tables without colours of their own, so that they look right on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_MOST_SIGNS = 2000
_LEFT = "text-align: left; vertical-align: top"


def facts(title: str, members: Mapping[str, object]) -> str:
    """A table with a line for each member that says something."""
    known = {name: value for name, value in members.items() if value is not None and value not in ("", {}, [])}
    lines = "".join(f"<tr><th {_style()}>{escape(name)}</th>{_cell(value)}</tr>" for name, value in known.items())
    return f"<div><b>{escape(title)}</b><table>{lines}</table></div>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Empty without rows."""
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    names = "".join(f"<th {_style()}>{escape(name)}</th>" for name in head)
    return f"<table><tr>{names}</tr>{lines}</table>" if lines else ""


def _cell(value: object) -> str:
    text = str(value)
    if len(text) > _MOST_SIGNS:
        text = f"{text[:_MOST_SIGNS]} ..."
    return f"<td {_style('white-space: pre-wrap')}>{escape(text)}</td>"


def _style(more: str = "") -> str:
    return f'style="{_LEFT}{"; " if more else ""}{more}"'
