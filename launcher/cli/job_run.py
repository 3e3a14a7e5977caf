"""`pilotfish job run` and `job submit`: shell commands and scripts as single batch jobs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...pilot.console import echo, print_json, show
from ...pilot.exit_codes import ExitCode
from ...pilot.model.errors import UsageError
from ..job import store
from ..submission.command_jobs import CommandJob, fitting, kind_of, machine_of, prepared, script_text, short_name
from ..submission.file_patterns import fill
from ..submission.job_options import check_arguments
from ..submission.looking import living_beside
from ..submission.profiles import get_profile
from ..submission.single import SingleJob
from .single_jobs import exit_code, is_known, print_jobs, wait
from .submit import ended_by_signals

_COUNT_EVERY_S = 1.0
_Command = Callable[..., None]


def _options(command: _Command) -> _Command:
    """What both commands have."""
    options = (
        click.option(
            "--machine", "-M", help="Name or file of a machine; default: the batch system here, or this host."
        ),
        click.option("--profile", "-p", help="Options with a name: see `pilotfish job profile`. Default: DEFAULT."),
        click.option("--cores", "-c", help="Cores on each node."),
        click.option("--nodes", "-N", help="Nodes."),
        click.option("--mem", "-m", help="Memory on each node: MB, or as 20G."),
        click.option("--time", "-t", help="Time limit: HH:MM:SS, or D-HH:MM:SS."),
        click.option("--queue", "-q", help="Queue or partition."),
        click.option(
            "--args", "-a", multiple=True, help="More options, as qos=high,account=x: `pilotfish job keywords`."
        ),
        click.option("--name", help="What the batch system shows; default: of the command or file."),
        click.option("--after", multiple=True, metavar="JOB", help="A job that must have ended well before."),
        click.option("--max-jobs", type=click.IntRange(1), help="Wait while that many of my jobs are in the queue."),
        click.option("--wait", "-w", "waits", is_flag=True, help="Wait until all are over; exit code 1 if one failed."),
        click.option(
            "--clean", "cleans", is_flag=True, help="With --wait: remove what jobs that ended well have printed."
        ),
        click.option("--dry-run", "-d", is_flag=True, help="Show what would be handed over."),
        click.option("--ids", "-l", "only_ids", is_flag=True, help="Print nothing but the ids of the jobs."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("run")
@click.argument("command")
@click.argument("files", nargs=-1)
@_options
@click.option("--extra-vars", "-x", help="More for the braces: NEW:OLD:REGEX:TEXT or NEW:TEXT, with commas between.")
@click.option("--simple", "-s", is_flag=True, help="All words are one command; braces belong to it.")
def run_command(command: str, files: Sequence[str], extra_vars: str | None, simple: bool, **options: Any) -> None:
    """Run a shell command as a batch job; with FILES once for each of them.

    In COMMAND `{}` is the file ({.} without its suffix, {/} without its folder, {//} the folder, {#} a number). With `{0}`,
    `{1}` ... the FILES are patterns that go together, and `{name}` in a pattern is a part of the path that COMMAND can have.
    COMMAND may also be the name of a file with shell text. Options are those of --args, then those of the profile.

    \b
    pilotfish job run 'gzip -9 {}' data/*.txt
    pilotfish job run -c 8 -t 2:00:00 --wait 'samtools sort big.bam'
    pilotfish job run 'join {0} {1} >{sample}.out' 'a/{sample}.txt' 'b/{sample}.csv'

    Exit code: 0 all is well, 1 a job has failed (--wait), 2 bad input, 3 the machine cannot be reached, 130 interrupted.
    """
    if simple:
        command, files = " ".join([command, *files]), ()
    text = _of_file(command)
    filled = [] if simple else fill(text, files, extra_vars.split(",") if extra_vars else ())
    name = options["name"] or short_name(command)
    many = len(filled) > 1
    wanted = [
        _Wanted(f"{name}.{Path(each.files[0]).name}" if many else name, each.command, files=each.files)
        for each in filled
    ]
    _hand_over(wanted or [_Wanted(name, text)], "job run", options)


@click.command("submit")
@click.argument("scripts", metavar="SCRIPT...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@_options
def submit_scripts(scripts: Sequence[str], **options: Any) -> None:
    """Hand over scripts that are written already, one job each.

    Directives in a script (#SBATCH and the like) count as they do for the batch system; options that are given here win. A
    script without any gets those of the profile.

    \b
    pilotfish job submit step1.sh
    pilotfish job submit --wait -M cluster jobs/*.sh

    Exit code: as `pilotfish job run`.
    """
    wanted = [_Wanted(options["name"] or Path(script).name, "", Path(script)) for script in scripts]
    _hand_over(wanted, "job submit", options)


@dataclass(frozen=True)
class _Wanted:
    name: str
    command: str
    script: Path | None = None
    files: tuple[str, ...] = ()


def _of_file(command: str) -> str:
    """The text of a file, when the command is the name of one that no shell would run as it is."""
    path = Path(command)
    try:
        is_text = path.is_file() and not os.access(path, os.X_OK)
    except (OSError, ValueError):
        return command
    return path.read_text(encoding="utf-8", errors="surrogateescape") if is_text else command


def _hand_over(wanted: Sequence[_Wanted], maker: str, options: Mapping[str, Any]) -> None:
    if options["cleans"] and not options["waits"]:
        raise UsageError("is for --wait", where="--clean", remedy="`pilotfish job clean --outputs` removes them later")
    machine = machine_of(options["machine"])
    given = check_arguments(_given(options))
    of_profile, useless = fitting(get_profile(options["profile"]).args, machine)
    if useless and options["profile"]:
        text = f"profile {options['profile']}: {machine.batch_type} has nothing for {', '.join(useless)}"
        echo(f"{text}; left out", err=True)
    after = [store.find(each).id if is_known(each) else each for each in options["after"]]
    all_options = {**of_profile, **given}
    jobs: list[SingleJob] = []
    at_once = options["max_jobs"] or _own_limit(len(wanted), all_options, kind_of(machine))
    with ended_by_signals(), _counted(jobs, len(wanted)):
        for each in wanted:
            whole = CommandJob(each.name, each.command, all_options, given, after, each.script)
            job, script = prepared(machine, whole, maker, jobs[0] if jobs else None)
            if options["dry_run"]:
                _show_text(each, script_text(job, script), options["as_json"])
                job.tidy()
                continue
            while at_once is not None and living_beside(job) >= at_once:
                time.sleep(_COUNT_EVERY_S)
            job.submit(script)
            jobs.append(job)
            if not options["as_json"] and not options["waits"]:
                _tell(job, options["only_ids"])
        if not options["dry_run"]:
            _finish(jobs, options)


@contextmanager
def _counted(jobs: Sequence[SingleJob], wanted: int) -> Iterator[None]:
    """Say how far it came when not all have been handed over."""
    try:
        yield
    except BaseException:
        if len(jobs) < wanted and wanted > 1:
            echo(f"{len(jobs)} of {wanted} jobs have been submitted", err=True)
        raise


def _finish(jobs: Sequence[SingleJob], options: Mapping[str, Any]) -> None:
    if options["waits"]:
        wait(jobs, None, 30.0)
        if options["cleans"]:
            _remove_outputs(jobs)
        if not options["as_json"]:
            for job in jobs:
                _tell(job, options["only_ids"])
    if options["as_json"]:
        print_jobs([job.record for job in jobs], True)
    for job in jobs:
        job.close()
    if options["waits"]:
        sys.exit(max(map(exit_code, jobs), default=ExitCode.DONE))


def _tell(job: SingleJob, only_id: bool) -> None:
    if only_id:
        show(job.id)
    else:
        print_jobs([job.record], False)


def _show_text(wanted: _Wanted, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": wanted.name, "command": wanted.command, "script": text}, indent=None)
        return
    show(f"==> {wanted.name}{': ' if wanted.command else ''}{wanted.command} <==", bold=True)
    show(text)


def _remove_outputs(jobs: Sequence[SingleJob]) -> None:
    for job in jobs:
        if exit_code(job) is ExitCode.DONE:
            names = [name for name in (job.record.out, job.record.err) if name]
            job.context.delete(job.folder, [os.path.relpath(name, job.folder) for name in names])


def _own_limit(count: int, options: Mapping[str, Any], kind: str) -> int | None:
    """Where no batch system does it, we see to it that no more jobs run than there are cores."""
    if kind != "local" or count < 2:
        return None
    return max(1, (os.cpu_count() or 1) // int(options.get("cores", 1)))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    named = {"cores": "cores", "nodes": "nodes", "mem": "mem", "time": "time", "queue": "partition"}
    found = dict(_pairs(options["args"]))
    return found | {option: options[name] for name, option in named.items() if options[name] is not None}


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Of `time=1:00:00,modules=a,b`: a comma belongs to a value unless a name and `=` follow."""
    for text in texts:
        for pair in re.split(r",(?=\w+=)", text):
            name, mark, value = pair.partition("=")
            if not mark or not name:
                raise UsageError(
                    "must be NAME=VALUE", where=f"--args {pair}", remedy="`pilotfish job keywords` lists them"
                )
            yield name.strip(), value
