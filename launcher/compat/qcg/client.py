"""`qcg-pm status`: what a pilot is doing, in the sections and words that scripts read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from ....api.manager import Manager
from ....pilot.model.errors import LostError, PilotfishError
from ....pilot.wire.connection import EndedError, discover
from .auxdir import find_final_status_files

__all__ = ["main", "qcgpjm"]

_PORT = 21000
_ANSWER_S = 5.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-p", "--path", envvar="QCG_PJM_DIR", help="The pilot's working directory; default: this one.")
@click.option("-a", "--address", envvar="QCG_PJM_ADDRESS", help="The pilot's address: [tcp://]HOST[:PORT].")
@click.option("-d", "--debug", envvar="QCG_CLIENT_DEBUG", is_flag=True, help="Write all messages to qcgpjmclient.log.")
@click.pass_context
def qcgpjm(context: click.Context, path: str | None, address: str | None, debug: bool) -> None:
    """Ask a pilot, as QCG-PilotJob's client does."""
    log = {"log_file": "qcgpjmclient.log" if debug else os.devnull, "log_level": "debug"}
    context.obj = {"path": path or ".", "address": address and _completed(address), "cfg": log}


@qcgpjm.command()
@click.pass_obj
def status(pilot: dict[str, Any]) -> None:
    """Show what a pilot is doing; of one that has ended, what it did."""
    for section, members in _status(pilot).items():
        click.echo(f"[{section}]")
        for name, value in members.items():
            click.echo(f"{name}={value}")


def _status(pilot: dict[str, Any]) -> dict[str, Any]:
    try:
        address = pilot["address"]
        if not address:
            discover(str(Path(pilot["path"]).absolute()), {}, Path.cwd())  # says where it has looked
        manager = Manager(address or pilot["path"], {"connect_timeout": _ANSWER_S, **pilot["cfg"]})
    except LostError as error:
        last = None if pilot["address"] else _last_status(error, pilot["path"])
        if last is None:
            raise
        click.echo("the pilot has ended; this is what it said last", err=True)
        return last
    try:
        return manager.system_status()
    finally:
        manager.close()


def _last_status(error: LostError, path: str) -> dict[str, Any] | None:
    """What a pilot that has ended wrote last, one of ours or an original; None where nothing can be read."""
    if isinstance(error, EndedError):
        files = [str(error.folder / "final_status.json")]
    else:
        files = find_final_status_files(path) if os.path.isdir(path) else []
    try:
        last: dict[str, Any] = json.loads(Path(max(files, key=os.path.getmtime)).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # ValueError: no file at all, or no JSON
        return None
    return last


def _completed(address: str) -> str:
    scheme, mark, rest = address.rpartition("://")
    return f"{scheme or 'tcp'}{mark or '://'}{rest if ':' in rest else f'{rest}:{_PORT}'}"


def main() -> NoReturn:
    """Exit code: 0 all is well, 1 there is no such pilot or it does not answer, 2 bad input."""
    try:
        sys.exit(qcgpjm(prog_name="qcg-pm", standalone_mode=True))
    except PilotfishError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
