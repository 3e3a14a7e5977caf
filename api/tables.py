"""What commands print: JSON for programs, tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
import msgspec

from ..pilot import console
from ..pilot.console import show

_STATE_COLOURS = {"SUCCEED": "green", "FAILED": "red", "CANCELED": "yellow", "OMITTED": "yellow", "EXECUTING": "cyan"}


def print_json(value: object, write: Callable[[str], None] = show) -> None:
    """A record, or a mapping whose keys are words of ours: what has other keys goes below one of these."""
    console.print_json(msgspec.to_builtins(value), write, indent=2)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], write: Callable[..., None] = show) -> None:
    """Columns as wide as their content; the state in its colour on a terminal. `write`: `show`, or `echo` where a table only
    tells about work that was done.
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    write("  ".join(text.ljust(width) for text, width in zip(header, widths, strict=True)).rstrip(), bold=True)
    for row in rows:
        write("  ".join(_coloured(text, width) for text, width in zip(row, widths, strict=True)).rstrip())


def _coloured(text: str, width: int) -> str:
    """In the colour of its state, if it is one; otherwise without the reset that would keep blanks at the end of a line."""
    colour = _STATE_COLOURS.get(text)
    return text.ljust(width) if colour is None else click.style(text.ljust(width), fg=colour)
