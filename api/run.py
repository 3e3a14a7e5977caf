"""`pilotfish run`: start a pilot here, run work, show how it goes, tell what failed, and end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ..pilot import early_warnings, notify
from ..pilot.console import echo, print_json
from ..pilot.exit_codes import ExitCode
from ..pilot.model.errors import EndingError, LostError, PilotfishError, UsageError
from ..pilot.options import RUN_OPTIONS, as_words, with_options
from ..pilot.wire import journal
from ..pilot.wire.connection import AUX_PREFIX, FILE_NAME
from ..pilot.wire.ownership import own_folders
from ..pilot.wire.replies import TaskCounts
from . import jobfile, runjobs, session
from .errors import RequestRefusedError
from .local import LocalManager
from .outcome import Outcome, read_outcome
from .progress import Progress
from .run_folder import checked_name, find_run, name_run
from .task_records import REPORT, format_of

_LOOK_S = 0.25
MOST_IN_JSON = 10_000
"""With more tasks their report is written in columns, unless asked otherwise."""

_ENDED_IN_ORDER = (ExitCode.WORK_LEFT, ExitCode.TOLD_TO_STOP, ExitCode.INTERRUPTED)
"""Exit codes of a manager that was stopped before its work was done, and kept what is left."""
_WARNINGS = (*early_warnings.NUMBERS, signal.SIGTERM, signal.SIGHUP)


class _Run(click.Command):
    """Remembers what stood behind `--`: click itself takes the separator away."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_BEHIND_DASHES] = tuple(args[args.index("--") + 1 :]) if "--" in args else None
        ctx.meta[_ALL_WORDS] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Those of the pilot, which few need, behind those of the run."""
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        of_pilot = {option.field for option in RUN_OPTIONS}
        for title, wanted in (("Options", False), ("Options of the pilot (see `pilotfish service`)", True)):
            records = [param.get_help_record(ctx) for param in params if (param.name in of_pilot) is wanted]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])


_BEHIND_DASHES = f"{__name__}.behind_dashes"
_ALL_WORDS = f"{__name__}.all_words"


@click.command(cls=_Run)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="FILE | -- COMMAND [ARGS]...")
@click.option("--format", "form", type=click.Choice(jobfile.FORMATS), help="Format of FILE; default: by its suffix.")
@click.option("--iterations", type=click.IntRange(1), help="Run COMMAND this often, with ${it} from 0.")
@click.option(
    "--params",
    type=click.Path(exists=True, dir_okay=False),
    help="Run COMMAND once for each row of a table (.csv, .tsv, .jsonl, .json, .yaml, .parquet), with {column} filled in.",
)
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=V1,V2,...",
    help="Run COMMAND for each value of NAME, with several --grid for each combination; also NAME=range(10).",
)
@click.option(
    "--zip", multiple=True, metavar="NAME=V1,V2,...", help="As --grid, but the lists go along with each other."
)
@click.option("--each-line", metavar="FILE", help="Run COMMAND once for each line of FILE, with {} filled in.")
@click.option("--name", default="task", show_default=True, help="Name of the job made of COMMAND.")
@click.option("--cores", type=click.IntRange(1), help="Cores for each task without a numCores of its own.")
@click.option("--gpus", help="GPUs for each task; 0.25 or 1/3: part of one, which other tasks may share.")
@click.option("--mem", help="Memory for each task, e.g. 2G.")
@click.option(
    "--need",
    multiple=True,
    metavar="NAME=AMOUNT",
    help="How much each task needs of a named resource (see --resource, --pool-resource), e.g. licence=1; may be repeated.",
)
@click.option("--wt", help="Wall time limit of each task, e.g. 10m.")
@click.option("--retries", type=click.IntRange(0), help="How often a failed task is started again.")
@click.option(
    "--retry",
    "retry_rule",
    multiple=True,
    metavar="RULE",
    help="What to do with failures, e.g. 'reason=\"memory limit\" times=2 mem=2', 'code=75,137 times=3 pause=1m'; see "
    "docs/jobs.md.",
)
@click.option(
    "--output",
    metavar="DIR",
    help="Folder for stdout and stderr of tasks that name no files of their own, as NAME.out and NAME.err; also a template, "
    f"'out/{{alpha}}'. Default for commands and lines: {runjobs.OUTPUT} in the working folder, up to "
    f"{runjobs.MOST_FILES} tasks.",
)
@click.option("--stdout", metavar="FILE", help="File for stdout, e.g. 'logs/{alpha}-{index}.txt'.")
@click.option("--stderr", metavar="FILE", help="File for stderr; the same as --stdout puts both into one.")
@click.option("--no-output", is_flag=True, help="Throw away what tasks print, unless they name files of their own.")
@click.option(
    "--stream",
    is_flag=True,
    help="Put what tasks print into a few files for all of them, with an index; see `pilotfish cat`.",
)
@click.option(
    "--run-name",
    callback=checked_name,
    help="Name of this run, for `pilotfish show` and its kin; default: date and time.",
)
@click.option("--walltime", help="How long this may take in all, e.g. 1h; default: until the allocation ends.")
@click.option("--nodes", help="Virtual nodes instead of this machine, e.g. 4,2 (see `pilotfish service`).")
@click.option("--wd", type=click.Path(), default=".", show_default=True, help="Working folder.")
@click.option(
    "--resume",
    type=click.Path(exists=True),
    help="Continue an earlier run (its folder). If FILE is given, those of its tasks are run that have not run yet: a task is "
    "what it does, not its line or name.",
)
@click.option(
    "--continue",
    "go_on",
    is_flag=True,
    help="Like --resume with the latest run of the working folder, if there is one.",
)
@click.option("--retry-failed", is_flag=True, help="With --continue and FILE or COMMAND: run again what has failed.")
@click.option("--retry-code", type=int, multiple=True, help="The same for tasks with this exit code only.")
@click.option(
    "--retry-reason", multiple=True, metavar="TEXT", help="The same for tasks with this in their reason only."
)
@click.option(
    "--only",
    metavar="EXPR",
    help="Of what is new, left, or to run again only those tasks of which this is true, e.g. 'alpha > 0.3 and code == 137'; "
    "the others wait for a later --continue.",
)
@click.option("--max-fails", type=click.IntRange(1), help="Stop when this many tasks have failed in this run.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option(
    "--report-format",
    type=click.Choice(("json", "columns")),
    help=f"Format of jobs.report; default: json, above {MOST_IN_JSON} tasks columns, which takes a fifth of the room.",
)
@with_options(RUN_OPTIONS)
def run(
    words: tuple[str, ...],
    form: str | None,
    resume: str | None,
    go_on: bool,
    as_json: bool,
    quiet: bool,
    run_name: str | None,
    report_format: str | None,
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
    pilotfish run --params table.csv -- ./simulate --alpha {alpha} --out {name}.dat
    pilotfish run --grid alpha=0.1,0.2 --grid 'seed=range(10)' -- ./simulate {alpha} {seed}
    pilotfish run -- gzip -9 {} ::: *.dat
    pilotfish run tasks.txt --continue           what is left, and what is new in tasks.txt
    pilotfish run tasks.txt --continue --retry-failed --only 'code == 137'

    Ctrl-C stops the tasks that run and keeps all that is left for --continue; a second one does not wait for them.

    Exit code: 0 all tasks succeeded, 1 some did not, 2 bad input, 75 the time is over and work is left (--continue goes on),
    130 interrupted, 143 told to stop. What ran, where and how is in WD/.qcgpjm-service-*/jobs.report.
    """
    started_s = time.monotonic()
    context = click.get_current_context()
    if go_on and resume is None and _has_run(Path(options["wd"])):
        resume = options["wd"]
    of_tasks = runjobs.TaskOptions.of(options)
    work = _work(words, resume, context.meta[_BEHIND_DASHES] == words, form, of_tasks)
    allocations = options["allocations"] or (work.allocations if work is not None else None)
    options["allocations"] = None if allocations is None else Path(allocations).absolute()
    pilot = _pilot(options, resume, _report_format(report_format, work, resume))

    def begin() -> session.Session:
        begun = session.begin(pilot, work, of_tasks, resumed=resume is not None)
        name_run(pilot.connection_file.parent, run_name)
        return begun

    course = _Course(options["max_fails"])
    course.run(pilot, begin, Progress(quiet=quiet))
    outcome = read_outcome(pilot.connection_file.parent, time.monotonic() - started_s, course.counts)
    if not course.begun and work is not None:
        outcome = outcome.with_not_run(max(0, session.task_count(work) - outcome.tasks))
    if as_json:
        print_json(outcome.as_json(), echo)
    else:
        outcome.show()
    if course.lost is not None:
        _notify_of_loss(options["notify"], outcome, course.lost)
        raise course.lost
    again = _go_on_with(context.meta[_ALL_WORDS])
    code = course.exit_code(pilot.exit_code, outcome)
    is_left = outcome.left > 0 or not course.begun
    reason = course.why_left(code, is_left, again, options["wd"])
    if reason:
        echo(reason, err=True)
    sys.exit(code)


def _notify_of_loss(command: str | None, outcome: Outcome, lost: LostError) -> None:
    """A manager that was killed has told nobody that this is the end."""
    command = command or os.environ.get("PILOTFISH_NOTIFY")
    if command:
        aux = outcome.report.parent
        counts = {
            "TASKS": outcome.tasks,
            "SUCCEEDED": outcome.succeeded,
            "FAILED": outcome.failed,
            "LEFT": outcome.left,
        }
        variables = {name: str(count) for name, count in counts.items()}
        variables |= {"": "end", "STATE": "lost", "EXIT_CODE": str(int(ExitCode.UNREACHABLE)), "FOLDER": str(aux)}
        variables |= {"RUN": aux.name.removeprefix(AUX_PREFIX), "TEXT": f"pilotfish: {lost}"}
        notify.run(notify.command_of(command), variables, lambda text: echo(f"Warning: {text}", err=True))


def _work(
    words: tuple[str, ...], resume: str | None, behind_dashes: bool, form: str | None, of_tasks: runjobs.TaskOptions
) -> runjobs.Work | None:
    """None when all that is left of an earlier run is to go on. Raises UsageError."""
    if words or not resume:
        work = runjobs.read(words, behind_dashes or of_tasks.parameters.iterations is not None, form, of_tasks)
        if not resume:  # an earlier session has jobs of its own
            jobfile.check_dependencies(work.jobs, work.source)
        return work
    for option, value in (("--retry-failed", of_tasks.retry), ("--only", of_tasks.only)):
        if value is not None:
            raise UsageError("needs the tasks", where=option, remedy="give the FILE or -- COMMAND again")
    return None


class _TooManyFailed(Exception):
    """As many tasks as `--max-fails` says have failed. Leaving the pilot's block by an exception stops the others."""


class _Course:
    """How a run goes, from its beginning to whatever ends it."""

    def __init__(self, max_fails: int | None) -> None:
        self._max_fails = max_fails
        self.session = session.Session()
        self.begun = False
        """The pilot has accepted the work."""
        self.counts: TaskCounts | None = None
        """The last that the pilot told; of tasks of this run only."""
        self.lost: LostError | None = None
        """The pilot is gone, and has not ended in order."""
        self._interrupted = False
        self._stopped_for = ""
        """Why it was stopped here although nobody has interrupted it."""

    def run(self, pilot: LocalManager, begin: Callable[[], session.Session], progress: Progress) -> None:
        """Do the work with `pilot`, and return when that has ended: with the work, before it, or unexpectedly."""
        try:
            with pilot, _passing_signals_on(pilot):
                self.session = begin()
                self.begun = True
                for warning in pilot.client.status().system.warnings or ():
                    echo(f"Warning: {warning}", err=True)
                with progress:
                    self._follow(pilot, progress)
        except _TooManyFailed as error:
            self._stopped_for = f"{error} tasks have failed: stopped"
        except KeyboardInterrupt:
            self._interrupted = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is stopped, and what is left to do is to say so
        except LostError as error:
            if isinstance(error, RequestRefusedError) and error.code != EndingError.code:
                raise
            self.lost = None if pilot.exit_code in (0, *_ENDED_IN_ORDER) else error

    def _follow(self, pilot: LocalManager, progress: Progress) -> None:
        """Show how it goes until nothing is left that can be done here. Raises _TooManyFailed."""
        while True:
            status = pilot.client.status()
            counts = self._note(status.tasks, progress)
            if status.system.stalled:  # to wait for the end would only waste the allocation
                return
            failed = counts.failed - self.session.failed_before
            if self._max_fails is not None and failed >= self._max_fails:
                raise _TooManyFailed(failed)
            try:
                pilot.wait4all(_LOOK_S)
            except TimeoutError:
                continue
            self._note(pilot.client.task_counts(), progress)
            return

    def _note(self, of_pilot: TaskCounts, progress: Progress) -> TaskCounts:
        self.counts = self.session.counted(of_pilot)
        progress.update(self.counts)
        return self.counts

    def exit_code(self, of_pilot: int | None, outcome: Outcome) -> int:
        """`of_pilot`: how the manager has ended."""
        if self._interrupted:
            return ExitCode.INTERRUPTED
        if not self._stopped_for and of_pilot in _ENDED_IN_ORDER:
            return of_pilot
        return int(outcome.failed > 0) if self.begun else ExitCode.WORK_LEFT

    def why_left(self, code: int, is_left: bool, again: str, wd: str) -> str:
        """Why it has ended before its work was done, and how to continue it where work `is_left`; else empty.

        `again`: the command line that continues it. A file that was not accepted is not known to the pilot in `wd`.
        """
        if self._stopped_for or code == ExitCode.INTERRUPTED:
            return (self._stopped_for or "interrupted") + (f"; continue with: {again}" if is_left else "")
        if code not in _ENDED_IN_ORDER:
            return ""
        reason = "told to stop" if code == ExitCode.TOLD_TO_STOP else "the time is over"
        remedy = f" --resume {wd}" if self.begun else f": {again}"
        return f"{reason} and work is left; continue with{remedy}" if is_left else reason


def _has_run(wd: Path) -> bool:
    """Whether there is a run to continue; a pilot that was killed before it had a journal has done nothing."""
    return any(
        (folder / name).exists() for folder in own_folders(wd, AUX_PREFIX) for name in (journal.FILE_NAME, FILE_NAME)
    )


def _go_on_with(words: list[str]) -> str:
    """The command line that continues what this one began."""
    again = [word for word in words if word != "-"]  # what came by a pipe is known to the pilot
    before = again[: again.index("--")] if "--" in again else again
    if not any(word == "--continue" or word.startswith("--resume") for word in before):
        again = [*again, "--continue"] if "--" not in again else ["--continue", *again]
    return shlex.join(["pilotfish", "run", *again])


@contextmanager
def _passing_signals_on(pilot: LocalManager) -> Iterator[None]:
    """The batch system tells us, not the manager, that the end is near; the manager knows what to do then."""
    before = {}
    for number in _WARNINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            before[number] = signal.signal(number, lambda number, _: pilot.send_signal(number))
    for early in early_warnings.take():
        pilot.send_signal(early)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report_format(asked: str | None, work: runjobs.Work | None, resume: str | None) -> str:
    """As asked for; else what an earlier run has, and what has room for this many tasks: programs that know `jobs.report`
    from QCG-PilotJob read `json`.
    """
    if asked is not None:
        return asked
    if resume is not None:
        with suppress(PilotfishError):  # the pilot says what is wrong with the folder
            earlier = format_of(find_run(resume, Path(resume)).path)
            if earlier is not None:
                return earlier
    return "columns" if work is not None and runjobs.task_count(work.jobs) > MOST_IN_JSON else "json"


def _pilot(options: dict[str, Any], resume: str | None, report_format: str) -> LocalManager:
    """A pilot for this run: as a context manager it ends when it is idle, or at once on an exception."""
    args = ["--resume", resume] if resume else ["--wd", options["wd"]]
    # The report is read here, whatever is configured.
    args += ["--report-format", report_format, "--report-file", REPORT]
    if options["nodes"]:
        args += ["--nodes", options["nodes"]]
    if options["walltime"]:
        args += ["--walltime", options["walltime"]]
    args += as_words(options)
    return LocalManager(args, {"wdir": options["wd"], "log_file": "/dev/null"}, hold=resume is not None)
