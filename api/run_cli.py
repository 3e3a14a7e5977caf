"""Commands about runs, live or over: `runs`, `show`, `cat`, `tail`, `wait`, `rm`. None of them needs the pilot to answer."""

from __future__ import annotations

import csv
import io
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..pilot.console import echo
from ..pilot.console import show as put
from ..pilot.exit_codes import ExitCode
from ..pilot.model.errors import RefusedError, UsageError
from ..pilot.model.states import State
from .run_folder import FOLDER, LAST, RunFolder, find_run, runs_in
from .run_options import VERSION, of_run, with_only
from .run_overview import Summary
from .run_tables import as_csv
from .runs import Run
from .selection import Selection
from .tables import print_json, print_table
from .task_output import last_lines
from .task_records import NOT_ENDED, TaskRow

_LOOK_S = 0.5
_SHOWN = 10
_LINES = 5
_STATES = [state.name for state in State if state.final] + [NOT_ENDED]


@click.command()
@of_run
def runs(wd: str, as_json: bool) -> None:
    """List the runs of a working folder, the latest last.

    \b
    pilotfish runs
    pilotfish runs --wd project --json
    """
    listed = [(folder, Run(folder.path)) for folder in runs_in(Path(wd))]
    entries = [_entry(folder, run) for folder, run in listed]
    if as_json:
        print_json({"version": VERSION, "runs": entries})
        return
    header = ("RUN", "STATE", "BEGAN", "TASKS", "SUCCEEDED", "FAILED", "LEFT", "SIZE")
    rows = [
        (
            entry["name"],
            entry["state"],
            (entry["began"] or "")[:16].replace("T", " "),
            *(str(entry[name]) for name in ("tasks", "succeeded", "failed", "left")),
            f"{entry['size_bytes'] / 1024:.0f} KiB",
        )
        for entry in entries
    ]
    print_table(header, rows)


def _entry(folder: RunFolder, run: Run) -> dict[str, Any]:
    summary, began = run.summary(), run.began
    return {
        "name": folder.name,
        "state": folder.state,
        "host": folder.host,
        "began": None if began is None else began.isoformat(),
        **_counts(summary),
        "size_bytes": folder.size_bytes,
        "path": str(folder.path),
    }


def _counts(summary: Summary) -> dict[str, int]:
    return {"tasks": summary.tasks, "succeeded": summary.succeeded, "failed": summary.failed, "left": summary.left}


# --- one run ------------------------------------------------------------------------------------------------------------


@click.command("show")
@click.argument("run", default=LAST)
@click.option(
    "--state", multiple=True, type=click.Choice(_STATES, case_sensitive=False), help="Only tasks in this state."
)
@click.option("--task", "pattern", help="Only tasks of this name; * and ? stand for others.")
@click.option("--param", multiple=True, metavar="NAME=VALUE", help="Only tasks with this parameter.")
@click.option("--code", type=int, help="Only tasks with this exit code.")
@click.option("--reason", metavar="TEXT", help="Only tasks with this in their reason.")
@with_only
@click.option("--csv", "as_csv_text", is_flag=True, help="All these tasks as CSV, with a column for each parameter.")
@click.option("--parquet", type=click.Path(dir_okay=False), help="Write them to this file (needs pyarrow).")
@of_run
def show_run(
    run: str,
    state: tuple[str, ...],
    pattern: str | None,
    param: tuple[str, ...],
    code: int | None,
    reason: str | None,
    only: str | None,
    as_csv_text: bool,
    parquet: str | None,
    wd: str,
    as_json: bool,
) -> None:
    """Show what became of RUN: a summary with the failures first, or the tasks that a filter names.

    RUN is a name, `last` (the default), or a folder.

    \b
    pilotfish show
    pilotfish show --state failed
    pilotfish show --only 'alpha > 0.3 and (code == 137 or "memory" in reason)'
    pilotfish show monday --param alpha=0.1 --csv >monday.csv
    """
    found = Run(run, wd)
    wanted = _filter(found, state, pattern, param, code, reason, only)
    if wanted is None and not (parquet or as_csv_text or as_json):
        _print_summary(found)
        return
    rows = [row for row in found.tasks() if wanted is None or wanted(row)]
    if parquet:
        _write_parquet(found, rows, parquet)
    elif as_csv_text:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(as_csv(rows))
        put(text.getvalue().rstrip("\n"))
    elif as_json:
        entry = _entry(found.folder, found)
        print_json({"version": VERSION, **entry, "selected": [row.as_json() for row in rows]})
    else:
        _print_tasks(rows)


def _filter(
    run: Run,
    states: Sequence[str],
    pattern: str | None,
    params: Sequence[str],
    code: int | None,
    reason: str | None,
    only: str | None,
) -> Callable[[TaskRow], bool] | None:
    """None when all are wanted."""
    tests: list[Callable[[TaskRow], bool]] = []
    wanted = {state.upper() for state in states}
    if wanted:
        tests.append(lambda row: row.state in wanted)
    if pattern is not None:
        tests.append(lambda row: fnmatchcase(row.task, pattern))
    for text in params:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not NAME=VALUE", where="--param", remedy="write --param alpha=0.1")
        tests.append(partial(_has_param, name, value))
    if code is not None:
        tests.append(lambda row: row.exit_code == code)
    if reason is not None:
        tests.append(lambda row: reason.lower() in row.reason.lower())
    if only is not None:
        tests.append(Selection(only, run.records.parameters).wants)
    return (lambda row: all(test(row) for test in tests)) if tests else None


def _has_param(name: str, value: str, row: TaskRow) -> bool:
    return row.params.get(name) == value


def _print_tasks(rows: Sequence[TaskRow]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    header = ("TASK", "STATE", "CODE", "SECONDS", "NODE", *(name.upper() for name in names), "REASON")
    print_table(header, [_cells(row, names) for row in rows])


def _cells(row: TaskRow, names: Sequence[str]) -> tuple[str, ...]:
    code = "" if row.exit_code is None else str(row.exit_code)
    seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
    return row.task, row.state, code, seconds, row.node, *(row.params.get(name, "") for name in names), row.reason


def _print_summary(run: Run) -> None:
    overview, began = run.overview(), run.began
    summary = overview.summary
    when = "" if began is None else f", began {began:%Y-%m-%d %H:%M}"
    put(f"run {run.name}: {run.state}{when}", bold=True)
    put(f"  {run.path}")
    colour = "red" if summary.failed else "yellow" if summary.left else "green"
    left = f", {summary.left} left" if summary.left else ""
    put(f"  {summary.tasks} tasks: {summary.succeeded} succeeded, {summary.failed} failed{left}", fg=colour)
    for row in overview.failures:
        values = "".join(f" {name}={value}" for name, value in row.params.items())
        put(f"  {row.task}{values}: {row.state} {row.reason}".rstrip())
        for line in last_lines(run.path, row, _LINES).splitlines():
            put(f"    | {line}")
    if overview.more:
        put(f"  ... and {overview.more} more: pilotfish show {run.name} --state failed")
    for row in overview.slowest:
        put(f"  slowest: {row.task} {row.seconds:.2f} s on {row.node}")
    if len(overview.by_node) > 1:
        nodes = sorted(overview.by_node.items(), key=lambda item: -item[1])
        put("  by node: " + ", ".join(f"{node} {count}" for node, count in nodes[:_SHOWN]))


def _write_parquet(run: Run, rows: Sequence[TaskRow], path: str) -> None:
    try:
        from pyarrow import parquet

        parquet.write_table(run.arrow(rows), path)
    except ImportError as error:
        raise UsageError(str(error).splitlines()[0], where="--parquet", remedy="pip install pyarrow") from error
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", where=path) from error
    echo(f"{len(rows)} tasks written to {path}", err=True)


# --- waiting and removing -----------------------------------------------------------------------------------------------


@click.command("wait")
@click.argument("run", default=LAST)
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait at most; then exit code 75.")
@of_run
def wait_for(run: str, timeout: float | None, wd: str, as_json: bool) -> None:
    """Wait until RUN is over.

    Exit code: 0 all its tasks succeeded, 1 some did not, 75 work is left, or it is not over in time.

    \b
    pilotfish wait last && pilotfish show last --csv >results.csv
    """
    found = Run(run, wd)
    until = None if timeout is None else time.monotonic() + timeout
    while found.state == "running":
        if until is not None and time.monotonic() >= until:
            break
        time.sleep(_LOOK_S)
    found = Run(found.path)
    summary = found.summary()
    if as_json:
        print_json({"version": VERSION, "name": found.name, "state": found.state, **_counts(summary)})
    sys.exit(ExitCode.WORK_LEFT if summary.left else ExitCode.FAILED if summary.failed else ExitCode.DONE)


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@of_run
def rm(run: tuple[str, ...], yes: bool, wd: str, as_json: bool) -> None:
    """Remove RUNs that are over: what is known of them and their streams, not what tasks have written into files of their own.

    \b
    pilotfish rm monday
    """
    folders = [find_run(name, Path(wd)) for name in run]
    for folder in folders:
        if folder.state == "running":
            raise RefusedError("it is running", where=folder.name, remedy="pilotfish finish, then wait for its end")
    for folder in folders:
        if not yes and not click.confirm(f"Remove run {folder.name} ({folder.path})?", err=True):
            raise click.Abort
        _remove(folder)
    if as_json:
        print_json({"version": VERSION, "removed": [folder.name for folder in folders]})


def _remove(folder: RunFolder) -> None:
    link = folder.path.parent / FOLDER / folder.name
    try:
        shutil.rmtree(folder.path)
        link.unlink(missing_ok=True)
    except OSError as error:
        raise RefusedError(f"cannot be removed: {error.strerror}", where=str(error.filename or folder.path)) from error
    others = runs_in(folder.path.parent)
    last = folder.path.parent / FOLDER / LAST
    if not last.exists():
        last.unlink(missing_ok=True)
        linked = [each.name for each in others if (last.parent / each.name).is_symlink()]
        if linked:
            last.symlink_to(linked[-1])
