"""Commands that look at a pilot that runs: `top`, `watch`, `info`, `explain`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
from click.core import ParameterSource

from ..pilot.console import echo, show
from ..pilot.model.errors import LostError, UsageError
from ..pilot.wire.overview import MOST, Overview
from . import follow
from .amounts import counted
from .cli import client_command, connect_option, connected
from .info_table import print_info
from .manager import Manager
from .run_folder import find_run
from .tables import print_json, print_table

_PLAIN_WIDTH = 120


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--childs", is_flag=True, help="With all iterations.")
@click.option("--explain", "why", is_flag=True, help="Say why it is not running.")
@client_command
def info(names: tuple[str, ...], childs: bool, why: bool, connect: str | None, as_json: bool) -> None:
    """Show everything that is known about the named jobs (JOB or JOB:ITERATION).

    \b
    pilotfish info tiles --childs
    pilotfish info tiles:17 --explain
    """
    params = {name: True for name, wanted in (("withChilds", childs), ("explain", why)) if wanted}
    with connected(connect) as pilot:
        entries = pilot.client.job_entries(names, params)
    if as_json:
        print_json({"jobs": entries})
        return
    for name, entry in entries.items():
        print_info(name, entry)


@click.command()
@click.argument("names", nargs=-1)
@client_command
def explain(names: tuple[str, ...], connect: str | None, as_json: bool) -> None:
    """Say why the named jobs (JOB or JOB:ITERATION) do not run; without names, why all that waits does.

    What is not free is told with the most of it that is free and the most there is, on one node and in all.

    \b
    pilotfish explain
    pilotfish explain tiles:17
    """
    with connected(connect) as pilot:
        if not names:
            _explain_queue(pilot.client.overview(MOST), as_json)
            return
        entries = pilot.client.job_entries(names, {"explain": True})
    reasons = {
        name: [entry.message or ""] if entry.data is None else entry.data.explain or []
        for name, entry in entries.items()
    }
    if as_json:
        print_json({"jobs": reasons})
        return
    for name, lines in reasons.items():
        show(name, bold=True)
        for line in lines:
            show(f"  {line}")


def _explain_queue(seen: Overview, as_json: bool) -> None:
    """What waits, by equal needs."""
    if as_json:
        print_json({"queue": seen.queue, "sent": seen.tasks.sent, "depending": seen.depending})
        return
    if not (seen.queue or seen.tasks.sent or seen.depending):
        show("nothing waits")
    for waiting in seen.queue:
        tasks = f"more than {waiting.tasks} tasks" if waiting.more else counted(waiting.tasks, "task")
        others = f" and what needs the same ({tasks})" if waiting.tasks > 1 else ""
        show(f"{waiting.first}{others}: {waiting.needs}", bold=True)
        for reason in waiting.reasons:
            show(f"  {reason}")
    if seen.tasks.sent:
        show(f"{counted(seen.tasks.sent, 'task')} sent ahead to nodes, for cores that get free", bold=True)
    if seen.depending:
        show(f"{counted(seen.depending, 'task')} wait{'s' * (seen.depending == 1)} for other jobs", bold=True)


@click.command()
@client_command
def watch(connect: str | None, as_json: bool) -> None:
    """Follow a running pilot until nothing is queued or running: on a terminal with tables of its jobs and running tasks.

    With --json one event per line: version, seq, time, manager, job, it, state, exit_code, message (docs/looking.md).

    Exit code as that of `run`: 0 all tasks succeeded, 1 some did not, 75 the pilot has ended and work is left.

    \b
    pilotfish watch && pilotfish show
    pilotfish watch --json | jq 'select(.state == "FAILED")'
    """
    with connected(connect) as pilot:
        if as_json:
            counts = follow.stream_events(pilot, echo)
        else:
            counts = follow.until_idle(pilot)
            _print_jobs(pilot)
            echo(f"{counted(counts.total, 'task')}, {counts.failed} failed")
            for line in follow.failures(pilot):
                echo(line)
        sys.exit(follow.exit_code(pilot, counts))


def _print_jobs(pilot: Manager) -> None:
    """A table of the jobs, those that ended badly first; nothing of a pilot that is gone."""
    with suppress(LostError):
        rows = follow.rows(pilot, good=True)
        if rows:
            cells = [(row.name, row.state, str(row.done), str(row.failed), str(row.total)) for row in rows]
            print_table(("JOB", "STATE", "DONE", "FAILED", "TASKS"), cells, echo)


def top_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `top`, for a pilot of this network or of another one."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what is known once, as JSON."),
        click.option(
            "--interval",
            type=click.FloatRange(0.1, 3600),
            default=1.0,
            show_default=True,
            help="Seconds between two looks.",
        ),
        click.option("--filter", "match", default="", help="Only running tasks and nodes with this in their names."),
        click.option("--once", is_flag=True, help="Print the picture once, as plain text, and end."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("run", required=False)
@click.option(
    "--wd", type=click.Path(), default=".", show_default=True, help="Working folder in which RUN is looked up."
)
@connect_option
@top_options
def top(run: str | None, wd: str, once: bool, match: str, interval: float, connect: str | None, as_json: bool) -> None:
    """Look at a pilot while it runs: nodes, running tasks, what waits and why, failures, the log.

    RUN is the name of a run, `last` or a folder; without it the pilot is that of --connect, or the newest of this folder. Of a
    submission: `pilotfish submissions top ID`.

    Keys: Tab goes to the next part, / filters, c cancels, t shows the output of a task, h tells the others, q leaves. Where
    there is no terminal, the picture is printed once. NO_COLOR turns colours off.

    Exit code: 0, also when the pilot ends meanwhile; 3 there is no such pilot.

    \b
    pilotfish top
    pilotfish top last --filter node17
    pilotfish top --json | jq .tasks.rate
    """
    if run is not None:
        if click.get_current_context().get_parameter_source("connect") is ParameterSource.COMMANDLINE:
            raise UsageError("names a pilot, and --connect another", where="RUN", remedy="give one of them")
        connect = str(find_run(run, Path(wd)).path)
    with connected(connect) as pilot:
        show_top(
            pilot, once=once or as_json or not sys.stdout.isatty(), match=match, interval_s=interval, as_json=as_json
        )


def show_top(pilot: Manager, once: bool, match: str, interval_s: float, as_json: bool) -> None:
    """`top` for a pilot, wherever it is."""
    if as_json:
        print_json(pilot.client.overview(MOST, match))
        return
    from .top import Files, Top, picture  # with rich, which takes a moment to load

    if once:
        seen = pilot.client.overview(match=match)
        width = shutil.get_terminal_size((_PLAIN_WIDTH, 0)).columns
        for line in picture(seen, Files(seen), width):
            show(line.plain.rstrip())
        return
    on_terminal = Top(pilot, interval_s, match)
    on_terminal.run()
    if on_terminal.ended:
        echo(on_terminal.ended, err=True)
