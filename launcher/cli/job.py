"""`pilotfish job`: single batch jobs, by whatever they were submitted (these commands, `JobScript`, `fyrd`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from ...pilot.console import echo, show
from ...pilot.exit_codes import ExitCode
from ..job import store
from ..machines import registry
from ..submission.command_jobs import machine_of
from ..submission.single import SingleJob
from .job_clean import clean
from .job_options import keywords, profile
from .job_queue import show_queue, wait_in_queue
from .job_run import run_command, submit_scripts
from .single_jobs import (
    cancel,
    exit_code,
    found,
    is_known,
    logs,
    look,
    may_be_id,
    print_jobs,
    remove,
    row,
    time_of,
    wait,
)
from .submit import ended_by_signals

_Command = TypeVar("_Command", bound=Callable[..., None])


@click.group()
def job() -> None:
    """Run commands and scripts as single batch jobs on any machine, and work on them; also those of `JobScript` and `fyrd`.

    JOB is the batch system's id, the beginning of the hash that `list` shows, or `last`.

    \b
    pilotfish job run -c 4 -t 1:00:00 'gzip -9 {}' data/*.txt
    pilotfish job submit step1.sh -M cluster
    pilotfish job queue
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
    print_jobs([each.record for each in jobs], as_json)
    if not jobs:
        echo("no batch job is recorded here; `pilotfish submissions` lists submissions", err=True)


@job.command("show")
@_options(_several, _offline, _as_json)
def show_jobs(beginnings: Sequence[str], offline: bool, as_json: bool) -> None:
    """Show all that is known of some jobs.

    \b
    pilotfish job show last
    """
    jobs = found(beginnings)
    if not offline:
        look(jobs)
    if as_json:
        print_jobs([each.record for each in jobs], True)
        return
    for each in jobs:
        for key, value in row(each.record).items():
            if value not in (None, ""):
                show(f"{key:<12} {time_of(value) if key.endswith('_s') else value}")


@job.command("wait")
@click.argument("beginnings", metavar="JOB...", nargs=-1)
@_as_json
@click.option("--all", "everything", is_flag=True, help="All that have been submitted from here.")
@click.option("--user", "-u", "users", multiple=True, help="All jobs of this user that are in the queue now.")
@click.option(
    "--machine", "-M", help="Where jobs are that were not submitted from here; default: the batch system here."
)
@click.option("--timeout", type=float, help="Give up after this many seconds, with exit code 75.")
@click.option(
    "--check-interval", type=float, default=30.0, show_default=True, help="Seconds between two looks, at most."
)
def wait_for(
    beginnings: Sequence[str],
    as_json: bool,
    everything: bool,
    users: Sequence[str],
    machine: str | None,
    timeout: float | None,
    check_interval: float,
) -> None:
    """Wait until jobs are over. Exit code 1 when one of them has not ended well.

    Jobs that were not submitted from here are looked for in the queue of the machine.

    \b
    pilotfish job wait 4711 4712 --timeout 3600
    pilotfish job wait --user bob -M cluster
    """
    if not (beginnings or everything or users):
        raise click.UsageError("Name jobs, or give --all or --user.")
    others = [each for each in beginnings if not is_known(each)]
    jobs = found([each for each in beginnings if each not in others])
    if everything:
        jobs = [SingleJob(record) for record in store.all_records() if not record.over]
    elsewhere = machine_of(machine) if others or users else None
    if elsewhere is not None:
        lists = registry.system(elsewhere.batch_type).views
        for each in others:
            if not (lists and may_be_id(each)):
                store.find(each)  # says that there is none
    deadline_s = None if timeout is None else time.monotonic() + timeout
    well = True
    with ended_by_signals():
        over = wait(jobs, timeout, check_interval)
        if over and elsewhere is not None:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            over, well = wait_in_queue(elsewhere, others, users, left_s)
    print_jobs([each.record for each in jobs], as_json)
    worst = max([*map(exit_code, jobs), ExitCode.DONE if well else ExitCode.FAILED])
    sys.exit(ExitCode.WORK_LEFT if not over else worst)


@job.command("cancel")
@_options(_several, _as_json)
def cancel_jobs(beginnings: Sequence[str], as_json: bool) -> None:
    """End jobs, with all that runs in them. Those that are over stay as they are.

    \b
    pilotfish job cancel last
    """
    jobs = found(beginnings)
    cancel(jobs)
    print_jobs([each.record for each in jobs], as_json)


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
    jobs = found(beginnings) if beginnings else [SingleJob(record) for record in store.all_records()]
    look([each for each in jobs if not (force and beginnings)])
    jobs = jobs if beginnings else [each for each in jobs if each.record.over]
    for each in jobs:
        remove(each, force=force)
    print_jobs([each.record for each in jobs], as_json)


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


for _command in (run_command, submit_scripts, show_queue, profile, keywords, clean):
    job.add_command(_command)
