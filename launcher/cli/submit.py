"""Commands that place work on machines: `submit`, `script`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ...pilot import variable_names
from ...pilot.console import echo, print_json, show
from ...pilot.exit_codes import ExitCode
from ...pilot.model.errors import UsageError
from ..contexts.base import ContextLostError
from ..description import files as loading
from ..description.submission import load_submission, parse_submission
from ..submission import store
from ..submission import table as results
from ..submission.batch_job import ASKED_FOR, Phase
from ..submission.placement import Placement
from .display import Screen

_KEYS = {"work_base", "machine", "task_list"}
"""Exit code: all jobs are handed over, or the machine cannot be reached now; the same command goes on."""


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option("--dry-run", is_flag=True, help="Show the scripts that would be submitted; connect to nothing."),
        click.option(
            "--output", type=click.Path(path_type=Path), help="With --dry-run: write the scripts into this folder."
        ),
        click.option("--detach", is_flag=True, help="Return when all jobs are handed over."),
        click.option(
            "--clean",
            type=click.Choice(["always", "on_success", "never"]),
            default="always",
            show_default=True,
            help="Remove the folder on the machine when all is home. What failed is always kept.",
        ),
        click.option(
            "--check-interval", type=float, default=30.0, show_default=True, help="Seconds between two looks, at most."
        ),
        click.option(
            "--retry-failed",
            is_flag=True,
            help="Place jobs again that have failed for good, and tasks whose results are missing.",
        ),
        click.option("--allow-ref", is_flag=True, help='Take in other files named by {"$ref": FILE}.'),
        click.option("--json", "as_json", is_flag=True, help="A row for each task as JSON on stdout."),
        click.option("--quiet", "-q", is_flag=True, help="No progress."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("file")
@click.option("--format", "form", help="Of a file of jobs: json, yaml, toml or lines; default: by its suffix.")
@click.option("--connect", "-c", envvar=variable_names.CONNECTION, help="Of a file of jobs: the running pilot.")
@_run_options
@click.pass_context
def submit(ctx: click.Context, /, file: str, form: str | None, connect: str | None, **options: Any) -> None:
    """Place a submission on a machine, or send a file of jobs to a running pilot.

    FILE with `machine`, `resources` and `task_list` is a submission: what it needs is brought to the machine, its jobs are
    submitted and watched, results come home. Whatever stops this command, the same command goes on.

    \b
    pilotfish submit run.json
    pilotfish submit run.json --dry-run          show the scripts
    pilotfish submit run.json --detach           come back with `pilotfish submissions watch last`

    Any other FILE (job descriptions as JSON, YAML or TOML, or one command per line; - for standard input) goes to the pilot of
    this folder, or of --connect. All its jobs are accepted, or none.

    Exit code: 0 all is well, 1 a task failed, 2 bad input, 3 the machine cannot be reached, 75 work is left (--detach),
    130 interrupted.
    """
    if not _is_submission(file):
        _send_jobs(ctx, file, form, connect, options)
        return
    description = load_submission(file, allow_ref=options.pop("allow_ref"))
    run(Placement, description, **options)


def _is_submission(file: str) -> bool:
    if Path(file).suffix not in loading.SUFFIXES or not Path(file).exists():
        return False
    try:
        found = loading.load(file, allow_ref=True)
    except UsageError:
        return False  # whoever reads it next says what is wrong
    return isinstance(found, dict) and len(_KEYS & found.keys()) > 1


def _send_jobs(ctx: click.Context, file: str, form: str | None, connect: str | None, options: dict[str, Any]) -> None:
    from ...api.cli import submit as send

    for name, value in options.items():
        if name != "as_json" and ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE and value:
            raise _no_submission(file)
    ctx.invoke(send, file=file, form=form, connect=connect, as_json=options["as_json"])


def _no_submission(file: str) -> UsageError:
    """Why a file that somebody takes for a submission is none; what is wrong with its text comes first."""
    contents = loading.load(file, allow_ref=True) if Path(file).suffix in loading.SUFFIXES else None
    machines = contents.values() if isinstance(contents, dict) else ()
    stages = [stage for each in machines for stage in (each if isinstance(each, list) else [each])]
    if any(isinstance(stage, dict) and "machine" in stage for stage in stages):
        remedy = "a submission has `machine` and `resources` of one of its stages, `work_base` and `task_list`"
        return UsageError("is a machine file of dpgen", where=file, remedy=remedy)
    remedy = "this option is for submissions (files with machine and task_list)"
    return UsageError("is a file of jobs for a running pilot", where=file, remedy=remedy)


def _what_goes_on(submission: Placement) -> str:
    """What happens on the machine without us, and how to come back."""
    if not any(job.attempt or job.phase is not Phase.NEW for job in submission.peek().jobs.values()):
        return "no job has been submitted; the same command begins where it stopped"
    return f"jobs go on; `pilotfish submissions watch {submission.hash[:8]}` goes on from here"


def run(make: Callable[..., Placement], what: Any, **options: Any) -> None:
    """Run a submission and leave with the exit code it deserves."""
    dry, output = options.pop("dry_run", False), options.pop("output", None)
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    options.pop("allow_ref", None)
    with Screen(quiet=quiet) as screen:
        submission = make(what, tell=screen.tell, watch=screen.watch, count=screen.count)
        if dry:
            _show_scripts(submission, output, as_json)
            _warn_of_inputs(submission)
            return
        options["check_interval_s"] = options.pop("check_interval", 30.0)
        with ended_by_signals():
            try:
                outcome = submission.run(**options)
            except KeyboardInterrupt:
                screen.tell(f"interrupted: {_what_goes_on(submission)}")
                raise
            except ContextLostError:
                screen.tell(_what_goes_on(submission))
                raise
            finally:
                if as_json:
                    print_json({"tasks": _home_results(submission)}, echo)
    if not outcome.over:
        echo(f"{submission.hash}: come back with `pilotfish submissions watch {submission.hash[:8]}`", err=True)
        sys.exit(ExitCode.WORK_LEFT)
    jobs = submission.last.jobs.values() if submission.last is not None else ()
    cancelled = sum(job.phase is Phase.CANCELED and job.detail == ASKED_FOR for job in jobs)
    if not quiet or cancelled:
        what = f"{cancelled} of {len(jobs)} jobs were cancelled" if cancelled else "all done"
        echo(f"{what}: {submission.local_work / results.CSV_NAME}", err=True)
    if cancelled:
        sys.exit(1)


def _home_results(submission: Placement) -> Any:
    file = submission.local_work / results.JSON_NAME
    return json.loads(file.read_text()) if file.exists() else []


def _warn_of_inputs(submission: Placement) -> None:
    """What would keep this submission from being sent is no error of a dry run: it may not be there yet."""
    try:
        submission.gather()
    except UsageError as error:
        echo(f"would be refused now: {error}", err=True)


def _show_scripts(submission: Placement, output: Path | None, as_json: bool) -> None:
    texts = submission.scripts()
    if as_json:
        print_json({"scripts": texts})
    elif output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (output / name).write_text(text)
        echo(f"{len(texts)} files in {output}", err=True)
    else:
        for name, text in texts.items():
            show(f"==> {name} <==", bold=True)
            show(text)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end as Ctrl-C does: with everything written down."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_run_options
def script(file: Path, **options: Any) -> None:
    """Run a Python script whose first comment says where.

    The comment block is that of PEP 723; its table `[tool.pilotfish]` (or `[tool.dpdispatcher]`) has `machine`, `resources` and
    `task_list` like a submission file. Each task's command (default: python) gets the script as its last argument;
    `task_work_path` may be a pattern for several folders.

    \b
    pilotfish script analysis.py
    pilotfish script analysis.py --dry-run
    """
    from ..description.pep723 import read_script

    described = read_script(file, allow_ref=options.pop("allow_ref"))
    try:
        run(Placement, parse_submission(described.submission), **options)
    finally:
        store.remove_unneeded([described.copy])
