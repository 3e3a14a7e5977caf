"""`pilotfish submissions tunnel`: all client commands for a pilot on another machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from ...pilot import variable_names
from ...pilot.console import echo, print_json
from ...pilot.model.errors import UsageError
from ..contexts.shell import word
from ..submission import store as record
from ..submission.placement import Placement
from .submit import ended_by_signals


@click.command()
@click.argument("beginning", metavar="ID")
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Without COMMAND: print JSON.")
def tunnel(beginning: str, words: tuple[str, ...], as_json: bool) -> None:
    """Reach the running pilot of a submission from here.

    With COMMAND it is run with the pilot as its own (PILOTFISH_CONNECTION), and its exit code is that of this command:

    \b
    pilotfish submissions tunnel last -- pilotfish watch
    pilotfish submissions tunnel last -- python steer.py

    Without, the tunnel is there until Ctrl-C, for commands with `-c FILE` in other terminals. It goes the way of the machine's
    profile; the pilot's keys lie in FILE (mode 0600) until the end.
    """
    from ..submission.tunnel import remote_pilot

    submission = Placement.of(record.find(beginning))
    with ended_by_signals(), remote_pilot(submission) as path:
        if words:
            sys.exit(_run(words, path))
        if as_json:
            print_json({"id": submission.hash, "connection": str(path)}, echo, None)
        else:
            echo(f"the tunnel is there until Ctrl-C; in another terminal:\npilotfish status -c {word(str(path))}")
        sys.stdout.flush()
        threading.Event().wait()


def _run(words: Sequence[str], connection: Path) -> int:
    try:
        code = subprocess.run(
            words, env={**os.environ, variable_names.CONNECTION: str(connection)}, check=False
        ).returncode
    except OSError as error:
        raise UsageError(f"cannot be started: {error.strerror}", where=words[0]) from error
    return 128 - code if code < 0 else code
