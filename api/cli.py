"""Client commands for a pilot that runs already. Each prints for people, or with --json for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from ..pilot import variable_names
from ..pilot.console import echo, show
from ..pilot.model.errors import UsageError
from ..pilot.wire.connection import EndedError, discover
from ..pilot.wire.replies import Canceled, Removed
from . import jobfile
from .manager import Manager, default_is_served
from .outcome import final_status
from .tables import print_json, print_table

_CONNECT_S = 5.0


connect_option = click.option(
    "--connect",
    "-c",
    envvar=variable_names.CONNECTION,
    help="The pilot: its connection file, its auxiliary folder, a folder with some, or a ZeroMQ address.",
)


def client_command(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all client commands have."""
    return connect_option(click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command))


@contextmanager
def connected(connect: str | None) -> Iterator[Manager]:
    if connect is None and not default_is_served():
        discover(None, os.environ, Path.cwd())  # says where it has looked
    pilot = Manager(connect, {"connect_timeout": _CONNECT_S, "log_file": "/dev/null"})
    try:
        yield pilot
    finally:
        pilot.close()


@click.command()
@click.argument("file")
@click.option("--format", "form", type=click.Choice(jobfile.FORMATS), help="Format of FILE; default: by its suffix.")
@client_command
def submit(file: str, form: str | None, connect: str | None, as_json: bool) -> None:
    """Send the jobs of FILE (JSON, YAML, TOML or one command per line; - for standard input) to a running pilot.

    All of them are accepted, or none.
    """
    _, jobs, asks = jobfile.load(file, form)
    if asks:
        remedy = "leave them out here, and let the pilot ask for them with `pilotfish alloc add`"
        raise UsageError("are for the pilot that `pilotfish run` starts", where=f"{file}: allocations", remedy=remedy)
    with connected(connect) as pilot:
        names = pilot.client.submit(jobs)
    if as_json:
        print_json({"submitted": len(names), "jobs": names}, echo)
    else:
        echo(f"{len(names)} jobs submitted")


@click.command()
@client_command
def jobs(connect: str | None, as_json: bool) -> None:
    """List all jobs of a running pilot.

    \b
    pilotfish jobs
    pilotfish jobs -c run1 --json
    """
    with connected(connect) as pilot:
        listed = pilot.client.jobs()
    if as_json:
        print_json({"jobs": listed})
    else:
        print_table(
            ("JOB", "STATE", "MESSAGE"), [(name, job.state, job.messages or "") for name, job in listed.items()]
        )


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--all-finished", is_flag=True, help="Print nothing; exit code 0 when nothing is queued or running, else 1."
)
@client_command
def status(names: tuple[str, ...], all_finished: bool, connect: str | None, as_json: bool) -> None:
    """Show what a running pilot is doing, or the states of the named jobs (JOB or JOB:ITERATION).

    Of a pilot that has ended: what it did.

    \b
    pilotfish status
    pilotfish status sweep sweep:17
    pilotfish status --all-finished && echo idle
    """
    try:
        answer = _status(names, all_finished, connect, as_json)
    except EndedError as error:
        last = None if names else final_status(error.folder)
        if last is None:
            raise
        if all_finished:
            sys.exit(int(last.tasks.in_schedule + last.tasks.executing > 0))
        echo(f"the pilot has ended; this is what {error.folder} says", err=True)
        answer = msgspec.to_builtins(last)
    if answer is None:
        return
    if as_json:
        print_json(answer)
        return
    for section, members in answer.items():
        show(section, bold=True)
        for name, value in members.items():
            show(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")


def _status(names: tuple[str, ...], all_finished: bool, connect: str | None, as_json: bool) -> dict[str, Any] | None:
    """The status of a running pilot; None when what was asked for has been printed."""
    with connected(connect) as pilot:
        if all_finished:
            counts = pilot.client.status().jobs
            sys.exit(int(counts.in_schedule + counts.executing > 0))
        if names:
            entries = pilot.client.job_states(names)
            if as_json:
                print_json({"jobs": entries})
            else:
                rows = [
                    (name, entry.data.status if entry.data else entry.message or "") for name, entry in entries.items()
                ]
                print_table(("JOB", "STATE"), rows)
            return None
        return pilot.system_status()


def _show_count(done: Canceled | Removed, word: str, as_json: bool) -> None:
    """Problems with single jobs go to stderr and make the exit code 1."""
    if as_json:
        print_json(done, echo)
    else:
        echo(f"{done.count} {word}")
        for name, text in (done.errors or {}).items():
            echo(f"Error: {name}: {text}", err=True)
    sys.exit(int(done.errors is not None))


@click.command()
@click.argument("names", nargs=-1, required=True)
@client_command
def cancel(names: tuple[str, ...], connect: str | None, as_json: bool) -> None:
    """Cancel jobs or single iterations (JOB:ITERATION), running ones too.

    \b
    pilotfish cancel sweep first:3
    """
    with connected(connect) as pilot:
        done = pilot.client.cancel(names)
    _show_count(done, "canceled", as_json)


@click.command()
@click.argument("names", nargs=-1, required=True)
@client_command
def remove(names: tuple[str, ...], connect: str | None, as_json: bool) -> None:
    """Forget ended jobs, so that their names can be used again.

    \b
    pilotfish remove sweep
    """
    with connected(connect) as pilot:
        done = pilot.client.remove(names)
    _show_count(done, "removed", as_json)


@click.command()
@client_command
def resources(connect: str | None, as_json: bool) -> None:
    """Show nodes and cores of a running pilot.

    With --here: what a pilot would find if it were started here (`pilotfish resources --here --help`).

    \b
    pilotfish resources
    pilotfish resources --here
    """
    with connected(connect) as pilot:
        members = pilot.resources()
    if as_json:
        print_json(members)
    else:
        for name, counts in members.pop("named", {}).items():
            members[name] = f"{counts['free']} of {counts['total']} free"
        for name, value in members.items():
            show(f"{name.replace('_', ' ')}: {value}")


@click.command()
@click.option("--kill", is_flag=True, help="Stop running tasks and cancel queued ones instead of waiting for them.")
@client_command
def finish(kill: bool, connect: str | None, as_json: bool) -> None:
    """End a running pilot: when all its work is done, or now with --kill.

    \b
    pilotfish finish
    pilotfish finish --kill -c run1
    """
    with connected(connect) as pilot:
        time = pilot.client.finish(kill=kill)
    if as_json:
        print_json(time, echo)
    else:
        echo("the pilot ends" + ("" if kill else " when its work is done"))
