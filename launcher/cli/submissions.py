"""`pilotfish submissions`: what has been submitted from here, to any machine."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ...pilot.console import echo, print_json, show
from ...pilot.model.errors import UsageError
from ..contexts.shell import relative, sh
from ..description.task import Task
from ..job import store as job_store
from ..job.states import JobState
from ..submission import store as record
from ..submission import table as results
from ..submission.placement import Placement, raise_missing
from ..submission.single import SingleJob
from ..submission.state import Progress
from . import single_jobs as single
from .display import Screen
from .report import report
from .submission_rows import job_row, job_summary, show_status, summary_of
from .submit import ended_by_signals, run
from .top import top
from .tunnel import tunnel


class _Listing(click.Group):
    """Without a command it lists."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            from ..description.schema import nearest

            ctx.fail(f"There is no command {args[0]!r}. {nearest(args[0], self.commands) or 'See --help.'}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Listing, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def submissions(ctx: click.Context, as_json: bool) -> None:
    """List what you have submitted from here, to any machine, and work on it: submissions and single batch jobs.

    ID is the beginning of an id, or `last`. `pilotfish job` has more for single batch jobs.

    \b
    pilotfish submissions
    pilotfish submissions status last
    pilotfish submissions watch 3f2a
    pilotfish submissions logs 3f2a case7
    """
    if ctx.invoked_subcommand is not None:
        return
    rows = [summary_of(each) for each in record.all_records()] + [job_summary(each) for each in job_store.all_records()]
    rows.sort(key=lambda row: float(row["created_s"]), reverse=True)
    if as_json:
        print_json({"submissions": rows})
        return
    if not rows:
        echo("nothing submitted yet; see `pilotfish submit --help`", err=True)
    for row in rows:
        tasks = row["tasks"]
        line = f"{row['id'][:10]}  {row['machine']:<22}  {row['state']:<9}  {tasks['done']}/{tasks['tasks']} tasks"
        show(f"{line}{', ' + str(tasks['failed']) + ' failed' if tasks['failed'] else ''}  {row['folder']}")


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    return click.argument("beginning", metavar="ID")(command)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _single(beginning: str) -> SingleJob | None:
    """The single batch job of this id, when it is none of a submission; `last` is the newest of both kinds."""
    names = record.names()
    if beginning == "last":
        newest = next(job_store.all_records(), None)
        if newest is None or (names and record.load(names[0]).created_s > newest.created_s):
            return None
        return SingleJob(newest)
    if any(name.startswith(beginning) for name in names):
        return None
    try:
        return SingleJob(job_store.find(beginning))
    except job_store.UnknownBatchJobError:
        return None  # whoever looks among the submissions says so


def _refuse_single(beginning: str) -> None:
    found = _single(beginning)
    if found is not None:
        what, remedy = "is a single batch job", f"its files are in {found.folder}; see `pilotfish job --help`"
        raise UsageError(what, where=found.hash[:10], remedy=remedy)


def _say(as_json: bool, found: dict[str, Any], text: str) -> None:
    """What a command has done: for programs on stdout, for people on stderr."""
    if as_json:
        print_json(found, echo, None)
    else:
        echo(text, err=True)


@submissions.command()
@_chosen
@click.option("--offline", is_flag=True, help="Only what is known here; ask nobody.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(beginning: str, offline: bool, as_json: bool) -> None:
    """Show the jobs of a submission and what became of its tasks.

    \b
    pilotfish submissions status last --offline
    """
    alone = _single(beginning)
    if alone is not None:
        if not offline:
            single.look([alone])
        if as_json:
            print_json(single.row(alone.record))
        else:
            single.print_jobs([alone.record], False)
        return
    submission = Placement.of(record.find(beginning))
    states: dict[str, str] = {}
    if offline:
        progress, work = submission.peek(), submission.work(submission.context())
    else:
        with submission.opened() as opened:
            opened.runner.look()
            opened.runner.take_in()
            progress, work = opened.progress, opened.work
            if any(job.state is JobState.running for job in progress.placed()):
                states = work.states(opened.context)
    rows = [asdict(row) for row in results.rows(work, progress, states)]
    missing = [work.explained(each) for each in progress.missing()]
    if as_json:
        jobs = [job_row(job) for job in progress.jobs.values()]
        found = {"id": submission.hash, "jobs": jobs, "tasks": rows, "missing": missing}
        print_json(found)
    else:
        show_status(progress, rows)
    raise_missing(submission.hash, work, progress.missing())


@submissions.command()
@_chosen
@click.option("--clean", type=click.Choice(["always", "on_success", "never"]), default="always", show_default=True)
@click.option(
    "--check-interval", type=float, default=30.0, show_default=True, help="Seconds between two looks, at most."
)
@click.option("--json", "as_json", is_flag=True, help="A row for each task as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def watch(beginning: str, **options: Any) -> None:
    """Go on with a submission until all is done and home.

    \b
    pilotfish submissions watch last
    """
    alone = _single(beginning)
    if alone is not None:
        with ended_by_signals():
            single.wait([alone], None, options["check_interval"])
        single.print_jobs([alone.record], options["as_json"])
        sys.exit(single.exit_code(alone))
    run(Placement.of, record.find(beginning), only_watch=True, **options)


@submissions.command()
@_chosen
@click.argument("task", required=False)
@click.option(
    "--lines", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many of the last lines."
)
@click.option("--stdout", "which", flag_value="out", help="What it printed; default: both.")
@click.option("--stderr", "which", flag_value="err", help="Its errors; default: both.")
@_as_json
def logs(beginning: str, task: str | None, lines: int, which: str | None, as_json: bool) -> None:
    """Show the last lines that a task has printed, from the machine.

    TASK is its name, its folder, or the beginning of its hash. Without it: those of all tasks that have failed, or of a single
    batch job.

    \b
    pilotfish submissions logs last
    pilotfish submissions logs 3f2a case7 -n 50
    """
    alone = _single(beginning)
    if alone is not None:
        single.logs(alone, lines, which, as_json)
        return
    submission = Placement.of(record.find(beginning))
    with submission.context() as context:
        work = submission.work(context)
        chosen = _failed(submission.peek(), work.tasks) if task is None else [_task_named(task, work.tasks)]
        names = [(each, name) for each in chosen for name in _logs_of(each, which) if name is not None]
        paths = {each.path(name): None for each, name in names}
        last = {path: sh("tail -n {lines} -- {file}", lines=lines, file=relative(path)) for path in paths}
        found = {path: context.run(command, cwd=work.root).out for path, command in last.items()}
    if as_json:
        print_json({"logs": found})
        return
    if not found:
        echo("no task has failed; name one to see what it has printed", err=True)
    for path, text in found.items():
        echo(f"==> {path} <==", bold=True, err=True)
        show(text, nl=False)


def _logs_of(task: Task, which: str | None) -> list[str | None]:
    return {"out": [task.outlog], "err": [task.errlog]}.get(which or "", [task.outlog, task.errlog])


def _failed(progress: Progress, tasks: Mapping[str, Task]) -> list[Task]:
    """In the order of the submission."""
    ended = {name: result for job in progress.jobs.values() for name, result in job.results.items()}
    return [task for name, task in tasks.items() if name in ended and ended[name].exit_code]


def _task_named(text: str, tasks: Mapping[str, Task]) -> Task:
    folder = posixpath.normpath(text)
    found = [
        task for name, task in tasks.items() if text == task.task_name or folder == task.folder or name.startswith(text)
    ]
    if len(found) != 1:
        raise UsageError(f"{len(found) or 'no'} tasks are named {text!r}", remedy="`submissions status` names them")
    return found[0]


@submissions.command()
@_chosen
@click.option("--task", multiple=True, help="Only this task of a pilot, by its name; may be repeated.")
@_as_json
def cancel(beginning: str, task: tuple[str, ...], as_json: bool) -> None:
    """End all jobs of a submission, with everything that runs in them. What is done stays, and can be downloaded.

    \b
    pilotfish submissions cancel last
    pilotfish submissions cancel 3f2a --task case7
    """
    alone = _single(beginning)
    if alone is not None:
        over = alone.record.over
        single.cancel([alone])
        count = int(not over and single.state(alone.record) == "cancelled")
        _say(as_json, {"id": alone.hash, "cancelled": count}, f"{count} jobs cancelled")
        return
    submission = Placement.of(record.find(beginning))
    if task:
        with submission.opened() as opened:
            told = opened.work.ask_pilot(opened.context, ["cancel", *task, *_json_flag(as_json)])
        echo(told, nl=False)
        return
    count = submission.cancel()
    _say(as_json, {"id": submission.hash, "cancelled": count}, f"{count} jobs cancelled")


def _json_flag(as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


@submissions.command()
@_chosen
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_as_json
def add(beginning: str, file: Path, as_json: bool) -> None:
    """Send more jobs (a file of job descriptions) to the running pilot of a submission.

    \b
    pilotfish submissions add last more.yaml
    """
    _refuse_single(beginning)
    submission = Placement.of(record.find(beginning))
    with submission.opened() as opened:
        target = f"{opened.work.root}/.added-{file.name}"
        opened.context.write({target: file.read_bytes()})
        echo(opened.work.ask_pilot(opened.context, ["submit", target, *_json_flag(as_json)]), nl=False)


@submissions.command()
@_chosen
@_as_json
def download(beginning: str, as_json: bool) -> None:
    """Bring home what is there now, of tasks that run or have failed too (their logs).

    \b
    pilotfish submissions download last
    """
    _refuse_single(beginning)
    with Screen() as screen:
        submission = Placement.of(record.find(beginning), tell=screen.tell, watch=screen.watch)
        with submission.opened() as opened:
            opened.runner.look()
            opened.runner.step_without_submitting()
            moved, _ = opened.runner.fetching.now({job.hash: job.tasks for job in opened.progress.jobs.values()})
            opened.runner.fetching.common()
            results.write(submission.local_work, opened.work, opened.progress)
    table = submission.local_work / results.CSV_NAME
    found = {"id": submission.hash, "files": moved.moved, "bytes": moved.sent_bytes, "results": str(table)}
    _say(as_json, found, f"{len(moved.moved)} files, {moved.sent_bytes} bytes; {table}")
    opened.raise_missing()


@submissions.command()
@_chosen
@click.option("--force", is_flag=True, help="Also when jobs are not over (they are cancelled) or results are not home.")
@_as_json
def clean(beginning: str, force: bool, as_json: bool) -> None:
    """Remove the submission's folder on the machine and its record here; of a single batch job only what is kept of it.

    \b
    pilotfish submissions clean 3f2a --force
    """
    alone = _single(beginning)
    if alone is not None:
        single.look([] if force else [alone])
        single.remove(alone, force=force)
        _say(as_json, {"id": alone.hash, "removed": ""}, f"nothing is kept of {alone.hash[:10]} any more")
        return
    submission = Placement.of(record.find(beginning))
    with submission.opened() as opened:
        jobs = opened.progress.jobs.values()
        if not force and not all(job.phase.final and job.fetched for job in jobs):
            what = "jobs are not over, or their results are not home"
            raise UsageError(what, where=submission.hash, remedy="watch or download it first, or give --force")
        if not force:
            opened.raise_missing()
        opened.runner.cancel([job for job in jobs if not job.phase.final], "cleaned")
        opened.runner.clean()
        opened.forget()
    _say(as_json, {"id": submission.hash, "removed": opened.work.root}, f"removed {opened.work.root}")


submissions.add_command(report)
submissions.add_command(tunnel)
submissions.add_command(top)
