"""`pilotfish job`: single batch jobs, by whatever they were submitted (`JobScript`, `fyrd`)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ...pilot.console import echo, show
from ...pilot.exit_codes import ExitCode
from ...pilot.model.errors import PilotfishError, RefusedError
from ..contexts.paths import printable
from ..job import store
from ..job.single import JobRecord, Phase
from ..job.states import JobState, Reason
from ..submission.looking import by_machine, look_at
from ..submission.single import SingleJob
from .submit import ended_by_signals

VERSION = 1
"""Of what `--json` prints."""
_FIRST_PAUSE_S, _SLOWER = 0.5, 1.5
_Command = TypeVar("_Command", bound=Callable[..., None])


@click.group()
def job() -> None:
    """Work on single batch jobs: those of job scripts (`JobScript`) and of `fyrd`, on any machine.

    JOB is the batch system's id, the beginning of the hash that `list` shows, or `last`.

    \b
    pilotfish job list
    pilotfish job wait last
    pilotfish job logs 4711 -n 50
    pilotfish job rm --over

    Exit code: 0 all is well, 1 a job has failed, 2 bad input, 3 the machine cannot be reached, 75 time is over.
    """


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_offline = click.option("--offline", is_flag=True, help="Only what is known here; ask nobody.")
_several = click.argument("beginnings", metavar="JOB...", nargs=-1, required=True)


@job.command("list")
@_options(_offline, _as_json)
def list_jobs(offline: bool, as_json: bool) -> None:
    """List the batch jobs that have been submitted from here.

    \b
    pilotfish job list --json
    """
    jobs = [SingleJob(record) for record in store.all_records()]
    if not offline:
        look(jobs)
    _print([each.record for each in jobs], as_json)
    if not jobs:
        echo("no batch job is recorded here; `pilotfish submissions` lists submissions", err=True)


@job.command("show")
@_options(_several, _offline, _as_json)
def show_jobs(beginnings: Sequence[str], offline: bool, as_json: bool) -> None:
    """Show all that is known of some jobs.

    \b
    pilotfish job show last
    """
    jobs = _found(beginnings)
    if not offline:
        look(jobs)
    if as_json:
        _print([each.record for each in jobs], True)
        return
    for each in jobs:
        for key, value in row(each.record).items():
            if value not in (None, ""):
                show(f"{key:<12} {_time(value) if key.endswith('_s') else value}")


@job.command("wait")
@_options(_several, _as_json)
@click.option("--timeout", type=float, help="Give up after this many seconds, with exit code 75.")
@click.option(
    "--check-interval", type=float, default=30.0, show_default=True, help="Seconds between two looks, at most."
)
def wait_for(beginnings: Sequence[str], as_json: bool, timeout: float | None, check_interval: float) -> None:
    """Wait until jobs are over. Exit code 1 when one of them has not ended well.

    \b
    pilotfish job wait 4711 4712 --timeout 3600
    """
    jobs = _found(beginnings)
    with ended_by_signals():
        over = wait(jobs, timeout, check_interval)
    _print([each.record for each in jobs], as_json)
    sys.exit(ExitCode.WORK_LEFT if not over else max(map(exit_code, jobs)))


@job.command("cancel")
@_options(_several, _as_json)
def cancel_jobs(beginnings: Sequence[str], as_json: bool) -> None:
    """End jobs, with all that runs in them. Those that are over stay as they are.

    \b
    pilotfish job cancel last
    """
    jobs = _found(beginnings)
    cancel(jobs)
    _print([each.record for each in jobs], as_json)


@job.command("rm")
@click.argument("beginnings", metavar="JOB...", nargs=-1)
@click.option("--over", is_flag=True, help="All that are over.")
@click.option("--force", is_flag=True, help="Also jobs that are not over (they go on), or on a machine that is gone.")
@_as_json
def remove_jobs(beginnings: Sequence[str], over: bool, force: bool, as_json: bool) -> None:
    """Remove what is kept of jobs that are over, here and on their machines. What they have printed and made stays.

    \b
    pilotfish job rm --over
    """
    if bool(beginnings) == over:
        raise click.UsageError("Name jobs, or give --over.")
    jobs = _found(beginnings) if beginnings else [SingleJob(record) for record in store.all_records()]
    look([each for each in jobs if not (force and beginnings)])
    jobs = jobs if beginnings else [each for each in jobs if each.record.over]
    for each in jobs:
        remove(each, force=force)
    _print([each.record for each in jobs], as_json)


@job.command("logs")
@click.argument("beginning", metavar="JOB")
@click.option("--lines", "-n", default=20, show_default=True, help="How many of the last lines.")
@click.option("--stdout", "which", flag_value="out", help="What it printed; default: both.")
@click.option("--stderr", "which", flag_value="err", help="Its errors; default: both.")
@_as_json
def show_logs(beginning: str, lines: int, which: str | None, as_json: bool) -> None:
    """Show the last lines that a job has printed, from its machine.

    \b
    pilotfish job logs last --stderr
    """
    logs(SingleJob(store.find(beginning)), lines, which, as_json)


# --- for `submissions` too ------------------------------------------------------------------------------------------------


def look(jobs: Sequence[SingleJob]) -> None:
    """Where they are now. Of those on a machine that cannot be reached what was known before stays, and that is told."""
    for together in by_machine(jobs):
        try:
            look_at(together)
        except PilotfishError as error:
            echo(f"{len(together)} jobs as they were seen last: {error}", err=True)
        for each in together:
            each.close()


def wait(jobs: Sequence[SingleJob], timeout_s: float | None, check_interval_s: float) -> bool:
    """Whether they are over, after so many seconds at most."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = min(_FIRST_PAUSE_S, check_interval_s)
    try:
        while not all(status.state.ended for status in look_at(jobs)):
            left_s = pause_s if deadline_s is None else min(pause_s, deadline_s - time.monotonic())
            if left_s <= 0:
                return False
            time.sleep(left_s)
            pause_s = min(pause_s * _SLOWER, max(check_interval_s, _FIRST_PAUSE_S))
        return True
    finally:
        for each in jobs:
            each.close()


def cancel(jobs: Sequence[SingleJob]) -> None:
    look_at(jobs)
    for each in jobs:
        each.cancel()
        each.close()


def remove(each: SingleJob, *, force: bool) -> None:
    """Raises RefusedError for a job that is not over, unless `force`."""
    try:
        each.forget(force=force)
    except RefusedError as error:
        raise RefusedError(error.what, where=error.where, remedy=f"{error.remedy}, or give --force") from None
    finally:
        each.close()


def logs(each: SingleJob, lines: int, which: str | None, as_json: bool) -> None:
    record = each.record
    names = {"out": [record.out], "err": [record.err]}.get(which or "", [record.out, record.err])
    with each.context:
        read = {name: each.last_lines(name, lines) for name in names if name}
        read |= {} if any(names) else {"output": each.last_words(lines) or None}
    found = {name: text for name, text in read.items() if text is not None}
    if as_json:
        show(json.dumps({"version": VERSION, "job": record.hash, "logs": found}))
        return
    if not found:
        echo(f"no output of it was found in {record.folder}", err=True)
    for name, text in found.items():
        echo(f"==> {name} <==", bold=True, err=True)
        show(text, nl=False)


def row(record: JobRecord) -> dict[str, Any]:
    """What is known of a job, as `--json` prints it."""
    machine, end = record.machine, record.end
    return {
        "job": record.hash,
        "id": record.id,
        "name": record.name,
        "maker": record.maker,
        "machine": f"{machine.batch_type}@{machine.profile.get('hostname', 'here')}",
        "folder": record.folder,
        "state": state(record),
        "reason": reason(record),
        "why": printable(record.status.why),
        "exit_code": None if end is None else end.exit_code,
        "attempt": record.attempt,
        "previous": record.previous,
        "after": " ".join(each.id for each in record.after),
        "out": record.out,
        "err": record.err,
        "epilogue": "" if not record.epilogue else "done" if record.epilogue_ran else "due",
        "fetched": record.fetched,
        "created_s": record.created_s,
        "submitted_s": record.submitted_s,
        "start_s": None if end is None else end.start_s,
        "end_s": None if end is None else end.end_s,
        "nodes": "" if end is None else end.nodes,
    }


def state(record: JobRecord) -> str:
    """In a word: `submitted` until somebody has looked; then as `submissions` says of its jobs."""
    if record.phase is Phase.REFUSED:
        return "refused"
    end = record.end
    if end is not None:
        return "finished" if end.state is JobState.finished else "cancelled" if _is_canceled(record) else "failed"
    return "submitted" if record.state is JobState.unsubmitted else record.state.name


def reason(record: JobRecord) -> str:
    end = record.end
    return "" if end is None else printable(end.native if record.phase is Phase.REFUSED else end.reason)


def _is_canceled(record: JobRecord) -> bool:
    return record.end is not None and record.end.reason == Reason.CANCELED


def exit_code(each: SingleJob) -> ExitCode:
    return ExitCode.DONE if each.status.state is JobState.finished else ExitCode.FAILED


def line(record: JobRecord) -> str:
    found = row(record)
    code = "" if found["exit_code"] is None else f"exit code {found['exit_code']}"
    reason = "" if found["reason"] in ("", Reason.PROGRAM) else found["reason"]
    words = ", ".join(filter(None, [code if found["state"] != "finished" else "", reason, found["why"]]))
    shown = f"{record.hash[:10]}  {found['machine']:<22}  {found['state']:<9}  {record.id or '-':<14} {printable(record.name)}"
    return f"{shown}{'  ' + words if words else ''}  {printable(record.folder)}"


def _print(records: Sequence[JobRecord], as_json: bool) -> None:
    if as_json:
        show(json.dumps({"version": VERSION, "jobs": [row(each) for each in records]}, indent=1))
        return
    for each in records:
        show(line(each))


def _found(beginnings: Sequence[str]) -> list[SingleJob]:
    records = {record.hash: record for record in map(store.find, beginnings)}
    return [SingleJob(record) for record in records.values()]


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
