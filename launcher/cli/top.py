"""`pilotfish submissions top`: `pilotfish top` for a pilot on another machine."""

from __future__ import annotations

import sys

import click

from ...api.look_cli import show_top, top_options
from ..submission import store as record
from ..submission.placement import Placement
from .submit import ended_by_signals


@click.command()
@click.argument("beginning", metavar="ID")
@top_options
def top(beginning: str, once: bool, match: str, interval: float, as_json: bool) -> None:
    """Look at the running pilot of a submission, over a tunnel of its own; see `pilotfish top`.

    What tasks have written is on the machine, and is seen only where that is this one: `pilotfish submissions logs` fetches it.

    \b
    pilotfish submissions top last
    """
    from ..submission.tunnel import remote_manager

    submission = Placement.of(record.find(beginning))
    with ended_by_signals(), remote_manager(submission) as pilot:
        show_top(pilot, once or as_json or not sys.stdout.isatty(), match, interval, as_json)
