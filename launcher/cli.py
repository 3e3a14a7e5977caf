"""Commands that place work on machines: `submit`, `script`, `submissions`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..pilot.model.errors import UsageError
from . import loading, record, results
from .contexts.base import ContextLostError
from .description import parse_submission
from .progress import Phase, Progress
from .record import Record
from .screen import Screen
from .submission import Submission

_KEYS = {"work_base", "machine", "task_list"}
LEFT = 75
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
        click.option("--retry-failed", is_flag=True, help="Place jobs again that have failed for good."),
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
@click.option("--connect", "-c", envvar="PILOTFISH_CONNECTION", help="Of a file of jobs: the running pilot.")
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
    description = loading.load_submission(file, allow_ref=options.pop("allow_ref"))
    _run(Submission, description, **options)


def _is_submission(file: str) -> bool:
    if Path(file).suffix not in loading.SUFFIXES or not Path(file).exists():
        return False
    try:
        found = loading.load(file, allow_ref=True)
    except UsageError:
        return False  # whoever reads it next says what is wrong
    return isinstance(found, dict) and len(_KEYS & found.keys()) > 1


def _send_jobs(ctx: click.Context, file: str, form: str | None, connect: str | None, options: dict[str, Any]) -> None:
    from ..api.cli import submit as send

    for name, value in options.items():
        if name != "as_json" and ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE and value:
            remedy = "this option is for submissions (files with machine and task_list)"
            raise UsageError("is a file of jobs for a running pilot", where=file, remedy=remedy)
    ctx.invoke(send, file=file, form=form, connect=connect, as_json=options["as_json"])


def _run(make: Callable[..., Submission], what: Any, **options: Any) -> None:
    """Run a submission and leave with the exit code it deserves."""
    dry, output = options.pop("dry_run", False), options.pop("output", None)
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    options.pop("allow_ref", None)
    with Screen(quiet=quiet) as screen:
        submission = make(what, tell=screen.tell, watch=screen.watch, count=screen.count)
        if dry:
            _show_scripts(submission, output, as_json)
            return
        options["check_interval_s"] = options.pop("check_interval", 30.0)
        with _ended_by_signals():
            try:
                outcome = submission.run(**options)
            except KeyboardInterrupt:
                screen.tell(
                    f"interrupted: jobs go on; `pilotfish submissions watch {submission.hash[:8]}` goes on from here"
                )
                raise
            except ContextLostError:
                screen.tell(f"jobs go on; `pilotfish submissions watch {submission.hash[:8]}` goes on from here")
                raise
            finally:
                if as_json:
                    click.echo(json.dumps(_home_results(submission), indent=1))
    if not outcome.over:
        click.echo(f"{submission.hash}: come back with `pilotfish submissions watch {submission.hash[:8]}`", err=True)
        sys.exit(LEFT)
    if not quiet:
        click.echo(f"all done: {submission.local_work / results.CSV_NAME}", err=True)


def _home_results(submission: Submission) -> Any:
    file = submission.local_work / results.JSON_NAME
    return json.loads(file.read_text()) if file.exists() else []


def _show_scripts(submission: Submission, output: Path | None, as_json: bool) -> None:
    texts = submission.scripts()
    if as_json:
        click.echo(json.dumps(texts, indent=1))
    elif output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (output / name).write_text(text)
        click.echo(f"{len(texts)} files in {output}", err=True)
    else:
        for name, text in texts.items():
            click.secho(f"==> {name} <==", bold=True)
            click.echo(text)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
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
    """
    from .pep723 import read_script

    _run(Submission, parse_submission(read_script(file, allow_ref=options.pop("allow_ref"))), **options)


# --- submissions ----------------------------------------------------------------------------------------------------------


class _Listing(click.Group):
    """Without a command it lists."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            from .schema import nearest

            ctx.fail(f"There is no command {args[0]!r}. {nearest(args[0], self.commands) or 'See --help.'}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Listing, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def submissions(ctx: click.Context, as_json: bool) -> None:
    """List what you have submitted from here, to any machine, and work on it.

    ID is the beginning of an id, or `last`.

    \b
    pilotfish submissions
    pilotfish submissions status last
    pilotfish submissions watch 3f2a
    pilotfish submissions logs 3f2a case7
    """
    if ctx.invoked_subcommand is not None:
        return
    rows = [_summary(each) for each in record.all_records()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo("nothing submitted yet; see `pilotfish submit --help`", err=True)
    for row in rows:
        tasks = row["tasks"]
        line = f"{row['id'][:10]}  {row['machine']:<22}  {row['state']:<9}  {tasks['done']}/{tasks['tasks']} tasks"
        click.echo(f"{line}{', ' + str(tasks['failed']) + ' failed' if tasks['failed'] else ''}  {row['folder']}")


def _summary(found: Record) -> dict[str, Any]:
    progress = Submission.of(found).peek()
    machine = found.description.machine
    host = machine.profile.get("hostname", "here")
    return {
        "id": found.hash,
        "machine": f"{machine.batch_type}@{host}",
        "state": _state(progress),
        "tasks": progress.counts(),
        "created_s": found.created_s,
        "folder": str(found.local_work),
        "root": found.root,
    }


def _state(progress: Progress) -> str:
    phases = {job.phase for job in progress.jobs.values()}
    if Phase.FAILED in phases:
        return "failed"
    if phases == {Phase.DONE}:
        return "finished"
    if Phase.CANCELLED in phases:
        return "cancelled"
    return "placed" if Phase.PLACED in phases else "new"


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    return click.argument("beginning", metavar="ID")(command)


@submissions.command()
@_chosen
@click.option("--offline", is_flag=True, help="Only what is known here; ask nobody.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(beginning: str, offline: bool, as_json: bool) -> None:
    """Show the jobs of a submission and what became of its tasks."""
    submission = Submission.of(record.find(beginning))
    if offline:
        progress, work = submission.peek(), submission.work(submission.context())
    else:
        with submission.opened() as opened:
            opened.runner.look()
            progress, work = opened.progress, opened.work
    rows = [asdict(row) for row in results.rows(work, progress)]
    if as_json:
        jobs = [
            {"job": job.hash, "id": job.id, "phase": job.phase.value, "state": job.state.name, "reason": job.reason}
            for job in progress.jobs.values()
        ]
        click.echo(json.dumps({"id": submission.hash, "jobs": jobs, "tasks": rows}, indent=1))
        return
    for job in progress.jobs.values():
        word = job.status.native if job.status is not None and job.phase is Phase.PLACED else ""
        reason = f"  {job.reason}" if job.reason else ""
        click.echo(f"job {job.hash[:8]}  {job.id or '-':<14} {job.phase.value:<9} {word}{reason}")
    for row in rows:
        code = "" if row["exit_code"] is None else f"exit code {row['exit_code']}"
        click.echo(f"  {row['name'] or row['folder']:<30} {row['state']:<12} {code}")


@submissions.command()
@_chosen
@click.option("--clean", type=click.Choice(["always", "on_success", "never"]), default="always", show_default=True)
@click.option(
    "--check-interval", type=float, default=30.0, show_default=True, help="Seconds between two looks, at most."
)
@click.option("--json", "as_json", is_flag=True, help="A row for each task as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def watch(beginning: str, **options: Any) -> None:
    """Go on with a submission until all is done and home."""
    _run(Submission.of, record.find(beginning), only_watch=True, **options)


@submissions.command()
@_chosen
@click.argument("task")
@click.option("--lines", "-n", default=20, show_default=True, help="So many of the last lines.")
@click.option("--stdout", "which", flag_value="out", help="What it printed; default: both.")
@click.option("--stderr", "which", flag_value="err", help="Its errors; default: both.")
def logs(beginning: str, task: str, lines: int, which: str | None) -> None:
    """Show the last lines that a task (by name, folder, or the beginning of its hash) has printed, from the machine."""
    submission = Submission.of(record.find(beginning))
    with submission.context() as context:
        work = submission.work(context)
        found = [
            each
            for name, each in work.tasks.items()
            if task in (each.task_name, each.task_work_path) or name.startswith(task)
        ]
        if len(found) != 1:
            raise UsageError(f"{len(found) or 'no'} tasks are named {task!r}", remedy="`submissions status` names them")
        names = (
            [found[0].outlog]
            if which == "out"
            else [found[0].errlog]
            if which == "err"
            else [found[0].outlog, found[0].errlog]
        )
        for name in names:
            if name is not None:
                from shlex import quote

                path = f"{found[0].task_work_path}/{name}"
                click.secho(f"==> {path} <==", bold=True, err=True)
                click.echo(context.run(f"tail -n {lines} -- {quote(path)}", cwd=work.root).out, nl=False)


@submissions.command()
@_chosen
@click.option("--task", multiple=True, help="Only this task of a pilot, by its name; may be repeated.")
def cancel(beginning: str, task: tuple[str, ...]) -> None:
    """End all jobs of a submission, with everything that runs in them. What is done stays, and can be downloaded."""
    submission = Submission.of(record.find(beginning))
    if task:
        with submission.opened() as opened:
            click.echo(opened.work.ask_pilot(opened.context, ["cancel", *task]), nl=False)
        return
    click.echo(f"{submission.cancel()} jobs cancelled", err=True)


@submissions.command()
@_chosen
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add(beginning: str, file: Path) -> None:
    """Send more jobs (a file of job descriptions) to the running pilot of a submission."""
    submission = Submission.of(record.find(beginning))
    with submission.opened() as opened:
        target = f"{opened.work.root}/.added-{file.name}"
        opened.context.write({target: file.read_bytes()})
        click.echo(opened.work.ask_pilot(opened.context, ["submit", target]), nl=False)


@submissions.command()
@_chosen
def download(beginning: str) -> None:
    """Bring home what is there now, of tasks that run or have failed too (their logs)."""
    with Screen() as screen:
        submission = Submission.of(record.find(beginning), tell=screen.tell, watch=screen.watch)
        with submission.opened() as opened:
            opened.runner.look()
            opened.runner.step_without_submitting()
            moved = opened.runner.fetching.now({job.hash: job.tasks for job in opened.progress.jobs.values()})
            results.write(submission.local_work, opened.work, opened.progress)
    click.echo(f"{len(moved.moved)} files, {moved.sent_bytes} bytes; {submission.local_work / results.CSV_NAME}", err=True)


@submissions.command()
@_chosen
@click.option("--force", is_flag=True, help="Also when jobs are not over (they are cancelled) or results are not home.")
def clean(beginning: str, force: bool) -> None:
    """Remove the submission's folder on the machine and its record here."""
    submission = Submission.of(record.find(beginning))
    with submission.opened() as opened:
        jobs = opened.progress.jobs.values()
        if not force and not all(job.phase.final and job.fetched for job in jobs):
            what = "jobs are not over, or their results are not home"
            raise UsageError(what, where=submission.hash, remedy="watch or download it first, or give --force")
        opened.runner.cancel([job for job in jobs if not job.phase.final], "cleaned")
        opened.runner.clean()
    record.forget(opened.record)
