"""Options that the commands about runs have in common."""

from __future__ import annotations

from collections.abc import Callable

import click

VERSION = 1
"""Of what they print as JSON."""

Command = Callable[..., None]


def of_run(command: Command) -> Command:
    """The options that all of these commands have."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--wd", type=click.Path(), default=".", show_default=True, help="Working folder in which runs are looked up."
    )(command)


with_only = click.option(
    "--only", metavar="EXPR", help="Only tasks of which this is true, e.g. 'alpha > 0.3 and code == 137'."
)
