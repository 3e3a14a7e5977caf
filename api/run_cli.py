"""Commands about runs, live or over: `runs`, `show`, `cat`, `tail`, `wait`, `rm`. None of them needs the pilot to answer."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from ..pilot.console import echo
from ..pilot.console import show as put
from ..pilot.exit_codes import ExitCode
from ..pilot.model.errors import RefusedError, UsageError
from ..pilot.model.states import State
from ..pilot.wire.streams import Part
from .run_folder import FOLDER, LAST, RunFolder, find_run, runs_in
from .run_overview import Summary
from .runs import Run, as_csv
from .tables import print_json, print_table
from .task_output import last_lines, output_of, tail_of
from .task_records import NOT_ENDED, TaskRow

_VERSION = 1
_LOOK_S = 0.5
_SHOWN = 10
_LINES = 5
_STATES = [state.name for state in State if state.final] + [NOT_ENDED]


def _of_run(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all of these commands have."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--wd", type=click.Path(), default=".", show_default=True, help="Working folder in which runs are looked up."
    )(command)


@click.command()
@_of_run
def runs(wd: str, as_json: bool) -> None:
    """List the runs of a working folder, the latest last.

    \b
    pilotfish runs
    pilotfish runs --wd project --json
    """
    listed = [(folder, Run(folder.path)) for folder in runs_in(Path(wd))]
    entries = [_entry(folder, run) for folder, run in listed]
    if as_json:
        print_json({"version": _VERSION, "runs": entries})
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
@click.option("--csv", "as_csv_text", is_flag=True, help="All these tasks as CSV, with a column for each parameter.")
@click.option("--parquet", type=click.Path(dir_okay=False), help="Write them to this file (needs pandas and pyarrow).")
@_of_run
def show_run(
    run: str,
    state: tuple[str, ...],
    pattern: str | None,
    param: tuple[str, ...],
    code: int | None,
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
    pilotfish show monday --param alpha=0.1 --csv >monday.csv
    """
    found = Run(run, wd)
    wanted = _filter(state, pattern, param, code)
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
        print_json({"version": _VERSION, **entry, "selected": [row.as_json() for row in rows]})
    else:
        _print_tasks(rows)


def _filter(
    states: Sequence[str], pattern: str | None, params: Sequence[str], code: int | None
) -> Callable[[TaskRow], bool] | None:
    """None when all are wanted."""
    if not (states or pattern or params) and code is None:
        return None
    pairs = []
    for text in params:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not NAME=VALUE", where="--param", remedy="write --param alpha=0.1")
        pairs.append((name, value))
    wanted = {state.upper() for state in states}

    def fits(row: TaskRow) -> bool:
        return (
            (not wanted or row.state in wanted)
            and (pattern is None or fnmatchcase(row.task, pattern))
            and all(row.params.get(name) == value for name, value in pairs)
            and (code is None or row.exit_code == code)
        )

    return fits


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
        frame = run.frame(rows)
        for name in ("stdout", "stderr"):
            frame[name] = frame[name].map(lambda file: None if file is None else str(file))
        frame.to_parquet(path)
    except ImportError as error:
        raise UsageError(str(error).splitlines()[0], where="--parquet", remedy="pip install pandas pyarrow") from error
    echo(f"{len(rows)} tasks written to {path}", err=True)


# --- what tasks have printed --------------------------------------------------------------------------------------------


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--stderr", "of_stderr", is_flag=True, help="What it wrote to stderr.")
@_of_run
def cat(run: str, task: str, of_stderr: bool, wd: str, as_json: bool) -> None:
    """Print what TASK of RUN has written.

    \b
    pilotfish cat last task:3
    """
    part = _output_of(Run(run, wd), task, of_stderr)
    if as_json:
        text = part.read().decode(errors="replace")
        print_json({"version": _VERSION, "task": task, "file": str(part.path), "text": text})
        return
    sys.stdout.flush()
    with open(part.path, "rb") as file:
        file.seek(part.start)
        left = sys.maxsize if part.size is None else part.size
        while left and (piece := file.read(min(left, 1 << 20))):
            sys.stdout.buffer.write(piece)
            left -= len(piece)


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--stderr", "of_stderr", is_flag=True, help="What it wrote to stderr.")
@click.option("--lines", "-n", type=click.IntRange(0), default=10, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Go on as it grows, until Ctrl-C.")
@_of_run
def tail(run: str, task: str, of_stderr: bool, lines: int, follow: bool, wd: str, as_json: bool) -> None:
    """Print the last lines that TASK of RUN has written.

    \b
    pilotfish tail -f last task:3
    """
    found = Run(run, wd)
    part = _output_of(found, task, of_stderr)
    if as_json:
        text = tail_of(part, lines)
        print_json({"version": _VERSION, "task": task, "file": str(part.path), "lines": text.splitlines()})
        return
    if follow and not part.is_of_stream:
        sys.exit(subprocess.run(["tail", f"-n{lines}", "-F", "--", str(part.path)], check=False).returncode)
    put(tail_of(part, lines))
    if follow:
        _follow_stream(found, task, of_stderr, part)


def _follow_stream(run: Run, task: str, of_stderr: bool, part: Part) -> None:
    """What is still to come of a task that writes into a stream, up to its end."""
    shown = len(part.read())
    while True:
        end = part.size is not None or run.state != "running"
        text = part.read(skip=shown)
        shown += len(text)
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        if end:
            return
        time.sleep(_LOOK_S)
        part = _output_of(run, task, of_stderr)


def _output_of(run: Run, task: str, of_stderr: bool) -> Part:
    try:
        row = run.task(task)
    except KeyError:
        raise UsageError(
            f"run {run.name} has no task {task!r}", where="TASK", remedy=f"`pilotfish show {run.name}` names some"
        ) from None
    part = output_of(run.path, row, of_stderr)
    which = "stderr" if of_stderr else "stdout"
    if part is None:
        remedy = "run with --output DIR or --stream"
        raise UsageError(f"the {which} of {task} was not kept", where="TASK", remedy=remedy)
    if not part.path.exists():
        raise RefusedError(f"the {which} of {task} is not there (yet)", where=str(part.path))
    return part


# --- waiting and removing -----------------------------------------------------------------------------------------------


@click.command("wait")
@click.argument("run", default=LAST)
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait at most; then exit code 75.")
@_of_run
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
        print_json({"version": _VERSION, "name": found.name, "state": found.state, **_counts(summary)})
    sys.exit(ExitCode.WORK_LEFT if summary.left else ExitCode.FAILED if summary.failed else ExitCode.DONE)


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@_of_run
def rm(run: tuple[str, ...], yes: bool, wd: str, as_json: bool) -> None:
    """Remove RUNs that are over: what is known of them, not what their tasks have written.

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
        print_json({"version": _VERSION, "removed": [folder.name for folder in folders]})


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


__all__ = ["cat", "rm", "runs", "show_run", "tail", "wait_for"]
