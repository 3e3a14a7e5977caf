"""`pilotfish run`: start a pilot here, run work, show how it goes, tell what failed, and end."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..pilot.model.errors import EndingError, LostError, UsageError
from ..pilot.wire.connection import AUX_PREFIX
from ..pilot.wire.ownership import own_folders
from . import jobfile
from .errors import RequestRefusedError
from .local import LocalManager
from .outcome import read_outcome
from .progress import Progress

_LOOK_S = 0.25


_WORK_LEFT = 75
_ENDED_IN_ORDER = (_WORK_LEFT, 128 + signal.SIGTERM)
"""Exit codes of a manager that was stopped before its work was done, and kept what is left."""
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGTERM)
_OUTPUT = "pilotfish-output"
_MOST_FILES = 10_000


class _Run(click.Command):
    """Remembers what stood behind `--`: click itself takes the separator away."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_BEHIND_DASHES] = tuple(args[args.index("--") + 1 :]) if "--" in args else None
        return super().parse_args(ctx, args)


_BEHIND_DASHES = f"{__name__}.behind_dashes"


@click.command(cls=_Run)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="FILE | -- COMMAND [ARGS]...")
@click.option("--format", "form", type=click.Choice(jobfile.FORMATS), help="Format of FILE; default: by its suffix.")
@click.option("--iterations", type=click.IntRange(1), help="Run COMMAND this often, with ${it} from 0.")
@click.option("--name", default="task", show_default=True, help="Name of the job made of COMMAND.")
@click.option("--cores", type=click.IntRange(1), help="Cores for each task without a numCores of its own.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs for each task.")
@click.option("--mem", help="Memory for each task, e.g. 2G.")
@click.option("--wt", help="Wall time limit of each task, e.g. 10m.")
@click.option("--retries", type=click.IntRange(0), help="How often a failed task is started again.")
@click.option(
    "--output",
    type=click.Path(),
    help="Folder for stdout and stderr of tasks that name no files of their own; default for commands and lines: "
    f"{_OUTPUT} in the working folder, one file each, up to {_MOST_FILES} tasks.",
)
@click.option("--no-output", is_flag=True, help="Throw away what tasks print, unless they name files of their own.")
@click.option("--walltime", help="How long this may take in all, e.g. 1h; default: until the allocation ends.")
@click.option("--nodes", help="Virtual nodes instead of this machine, e.g. 4,2 (see `pilotfish service`).")
@click.option("--wd", type=click.Path(), default=".", show_default=True, help="Working folder.")
@click.option(
    "--resume",
    type=click.Path(exists=True),
    help="Go on with an earlier run (its folder). Of FILE, if given, the jobs are added that it does not have by name.",
)
@click.option(
    "--continue", "go_on", is_flag=True, help="As --resume with the latest run of the working folder, if there is one."
)
@click.option("--max-fails", type=click.IntRange(1), help="Stop everything after this many failed tasks.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def run(
    words: tuple[str, ...],
    form: str | None,
    resume: str | None,
    go_on: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run tasks on this machine (or in this allocation) and wait for them.

    FILE is JSON, YAML or TOML with job descriptions, or text with one shell command per line (.txt, .lst, .list, or any with
    --format lines); - is standard input.

    \b
    pilotfish run tasks.txt
    pilotfish run jobs.yaml --output logs
    seq 100 | sed 's/^/echo /' | pilotfish run -
    pilotfish run --iterations 1000 --wt 5m -- ./simulate --seed '${it}'

    Exit code: 0 all tasks succeeded, 1 some did not, 2 bad input, 75 the time is over and work is left (--resume goes on),
    130 interrupted, 143 told to stop. What ran, where and how is in WD/.qcgpjm-service-*/jobs.report.
    """
    started_s = time.monotonic()
    if go_on and resume is None and own_folders(Path(options["wd"]), AUX_PREFIX):
        resume = options["wd"]
    is_command = click.get_current_context().meta[_BEHIND_DASHES] == words or options["iterations"] is not None
    jobs = [] if resume and not words else _jobs(words, is_command, form, options)
    interrupted = False
    pilot = _pilot(options, resume)
    try:
        with pilot, _passing_signals_on(pilot):
            if resume:
                jobs = _missing(jobs, pilot)
            if jobs:
                pilot.send_request({"request": "submit", "jobs": jobs})
            _follow(pilot, Progress(quiet=quiet), options["max_fails"])
    except _TooManyFailed as error:
        click.echo(f"{error} tasks have failed: stopped", err=True)
    except KeyboardInterrupt:
        interrupted = True
        click.echo("interrupted: tasks stopped", err=True)
    except LostError as error:
        refused = isinstance(error, RequestRefusedError) and error.code != EndingError.code
        if refused or pilot.exit_code not in (0, *_ENDED_IN_ORDER):
            raise
    outcome = read_outcome(pilot.connection_file.parent, time.monotonic() - started_s)
    if as_json:
        click.echo(json.dumps(outcome.as_json(), indent=2))
    else:
        outcome.show(sys.stderr)
    if pilot.exit_code in _ENDED_IN_ORDER:
        click.echo(f"the time is over and work is left; go on with --resume {options['wd']}", err=True)
        sys.exit(pilot.exit_code)
    sys.exit(130 if interrupted else int(outcome.failed > 0))


@contextmanager
def _passing_signals_on(pilot: LocalManager) -> Iterator[None]:
    """The batch system tells us, not the manager, that the end is near; the manager knows what to do then."""
    before = {number: signal.signal(number, lambda number, _: pilot.send_signal(number)) for number in _WARNINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _TooManyFailed(Exception):
    """As many tasks as `--max-fails` says have failed. Leaving the pilot's block by an exception stops the others."""


def _pilot(options: dict[str, Any], resume: str | None) -> LocalManager:
    """A pilot for this run: as a context manager it ends when it is idle, or at once on an exception."""
    args = ["--resume", resume] if resume else ["--wd", options["wd"]]
    if options["nodes"]:
        args += ["--nodes", options["nodes"]]
    if options["walltime"]:
        args += ["--walltime", options["walltime"]]
    return LocalManager(args, {"wdir": options["wd"], "log_file": "/dev/null"})


def _follow(pilot: LocalManager, progress: Progress, max_fails: int | None) -> None:
    """Show how it goes until nothing is left that can be done here. Raises _TooManyFailed."""
    with progress:
        while True:
            status = pilot.system_status()
            counts = status["IterationStats"]
            progress.update(counts)
            if status["System"].get("Stalled"):  # to wait for the end would only waste the allocation
                return
            if max_fails is not None and counts["FailedIterations"] >= max_fails:
                raise _TooManyFailed(counts["FailedIterations"])
            try:
                pilot.wait4all(_LOOK_S)
            except TimeoutError:
                continue
            progress.update(pilot.system_status()["IterationStats"])
            return


def _missing(jobs: list[dict[str, Any]], pilot: LocalManager) -> list[dict[str, Any]]:
    """Those of `jobs` that a resumed pilot does not have: the same command line with --resume runs nothing twice."""
    known = pilot.list()
    for number, job in enumerate(jobs):
        if not isinstance(job.get("name"), str) or "$" in job["name"]:
            remedy = "give it a name, or resume without FILE"
            raise UsageError(
                "without a fixed name nobody can tell whether it ran", where=f"jobs[{number}]", remedy=remedy
            )
    return [job for job in jobs if job["name"] not in known]


def _jobs(words: tuple[str, ...], is_command: bool, form: str | None, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs of this run, with the defaults of the options filled in. Raises UsageError."""
    if not words:
        raise UsageError("nothing to run", remedy="give a FILE, - or -- COMMAND; see pilotfish run --help")
    if is_command:
        form, jobs = "command", [_command_job(words, options)]
    elif len(words) > 1:
        raise UsageError(f"one FILE is expected, not {len(words)}", remedy="write -- before a command")
    else:
        form, jobs = jobfile.load(words[0], form)
    for job in jobs:
        _fill_in(job, options)
    if not options["no_output"]:
        _keep_output(jobs, options, unasked=form in ("command", "lines"))
    return jobs


def _command_job(words: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    job: dict[str, Any] = {"name": options["name"], "execution": {"exec": words[0], "args": list(words[1:])}}
    if options["iterations"] is not None:
        job["iteration"] = {"stop": options["iterations"]}
    return job


def _fill_in(job: dict[str, Any], options: dict[str, Any]) -> None:
    """What the options say for tasks that do not say it themselves. Odd descriptions are left for the pilot to refuse."""
    resources, execution = job.setdefault("resources", {}), job.get("execution")
    if not isinstance(resources, dict) or not isinstance(execution, dict):
        return
    if options["cores"] and not {"numCores", "numNodes"} & resources.keys():
        resources["numCores"] = options["cores"]
    if options["gpus"]:
        resources.setdefault("nodeCrs", {"gpu": options["gpus"]})
    for member in ("mem", "wt"):
        if options[member]:
            resources.setdefault(member, options[member])
    if not resources:
        del job["resources"]
    if options["retries"] is not None:
        job.setdefault("retries", options["retries"])


def _keep_output(jobs: list[dict[str, Any]], options: dict[str, Any], unasked: bool) -> None:
    """Files for what tasks print: in the folder asked for, or unasked for tasks whose author had no way to name files."""
    asked = options["output"]
    tasks = options["iterations"] or len(jobs)
    if not asked and (not unasked or tasks > _MOST_FILES):
        if unasked:
            click.echo(f"what {tasks} tasks print is not kept; give --output DIR to keep it", err=True)
        return
    folder = Path(asked).absolute() if asked else Path(options["wd"]).absolute() / _OUTPUT
    for job in jobs:
        execution = job.get("execution")
        if isinstance(execution, dict):
            stem = str(folder / "${jname}") + ("-${it}" if "iteration" in job else "")
            execution.setdefault("stdout", f"{stem}.out" if asked else f"{stem}.log")
            execution.setdefault("stderr", f"{stem}.err" if asked else f"{stem}.log")
