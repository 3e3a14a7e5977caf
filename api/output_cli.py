"""`cat` and `tail`: what tasks of a run have written, wherever that is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from ..pilot.console import show as put
from ..pilot.model.errors import RefusedError, UsageError
from ..pilot.wire.streams import Part
from .run_options import VERSION, of_run, with_only
from .runs import Run
from .selection import Selection
from .tables import print_json
from .task_output import output_of, tail_of

_LOOK_S = 0.5


@click.command()
@click.argument("run")
@click.argument("task", nargs=-1)
@click.option("--stderr", "of_stderr", is_flag=True, help="What they wrote to stderr.")
@with_only
@of_run
def cat(run: str, task: tuple[str, ...], of_stderr: bool, only: str | None, wd: str, as_json: bool) -> None:
    """Print what TASK of RUN has written, or all tasks of which EXPR is true.

    \b
    pilotfish cat last task:3
    pilotfish cat last --stderr --only 'state == "FAILED" and alpha > 0.3'
    """
    parts = _outputs_of(Run(run, wd), task, only, of_stderr)
    if as_json:
        texts = [{**_as_json(name, part), "text": part.read().decode(errors="replace")} for name, part in parts]
        print_json({"version": VERSION, **texts[0]} if _is_one(task, only) else {"version": VERSION, "tasks": texts})
        return
    for name, part in parts:
        if not _is_one(task, only):
            put(f"==> {name} <==", bold=True)
        sys.stdout.flush()
        part.copy(sys.stdout.buffer)
        sys.stdout.buffer.flush()


@click.command()
@click.argument("run")
@click.argument("task", nargs=-1)
@click.option("--stderr", "of_stderr", is_flag=True, help="What they wrote to stderr.")
@click.option("--lines", "-n", type=click.IntRange(0), default=10, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Go on as it grows, until Ctrl-C.")
@with_only
@of_run
def tail(
    run: str,
    task: tuple[str, ...],
    of_stderr: bool,
    lines: int,
    follow: bool,
    only: str | None,
    wd: str,
    as_json: bool,
) -> None:
    """Print the last lines that TASK of RUN has written, or all tasks of which EXPR is true.

    \b
    pilotfish tail -f last task:3
    pilotfish tail last --stderr --only 'code == 137'
    """
    found = Run(run, wd)
    parts = _outputs_of(found, task, only, of_stderr)
    if as_json:
        texts = [{**_as_json(name, part), "lines": tail_of(part, lines).splitlines()} for name, part in parts]
        print_json({"version": VERSION, **texts[0]} if _is_one(task, only) else {"version": VERSION, "tasks": texts})
        return
    if follow and not _is_one(task, only):
        raise UsageError("follows one task", where="--follow", remedy="name it")
    for name, part in parts:
        if follow and not part.is_of_stream:
            sys.exit(subprocess.run(["tail", f"-n{lines}", "-F", "--", str(part.path)], check=False).returncode)
        if not _is_one(task, only):
            put(f"==> {name} <==", bold=True)
        put(tail_of(part, lines))
        if follow:
            _follow_stream(found, name, of_stderr, part)


def _is_one(tasks: Sequence[str], only: str | None) -> bool:
    """Whether one task is named."""
    return only is None and len(tasks) == 1


def _as_json(task: str, part: Part) -> dict[str, Any]:
    return {"task": task, "file": str(part.path)}


def _outputs_of(run: Run, tasks: Sequence[str], only: str | None, of_stderr: bool) -> list[tuple[str, Part]]:
    """Of those that are named, or of those of which `only` is true and which have one."""
    if not tasks and only is None:
        raise UsageError("is missing", where="TASK", remedy=f"`pilotfish show {run.name}` names some; or give --only")
    if only is None:
        return [(task, _output_of(run, task, of_stderr)) for task in tasks]
    selection = Selection(only, run.records.parameters)
    rows = [row for row in run.tasks() if (not tasks or row.task in tasks) and selection.wants(row)]
    parts = [(row.task, output_of(run.path, row, of_stderr)) for row in rows]
    return [(task, part) for task, part in parts if part is not None and part.path.exists()]


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
