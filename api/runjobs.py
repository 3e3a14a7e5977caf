"""The jobs of one `pilotfish run`: of a file or a command line, with what its options say filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..pilot.console import echo
from ..pilot.model.errors import PilotfishError, UsageError
from ..pilot.wire.describe_iteration import describe_iteration
from . import jobfile
from .command_job import Parameters, command_job
from .outcome import Retry
from .output_names import OutputNames
from .resource_words import amount_of, needs_of
from .retry_rules import parse_rules
from .templates import check_variables

OUTPUT = "pilotfish-output"
MOST_FILES = 10_000
COMMAND = "--"
"""The source of a command given on the command line."""


class Work(NamedTuple):
    """`source`: the file as the user named it, - or COMMAND. `without_files`: their author could name no files for output."""

    source: str
    jobs: list[dict[str, Any]]
    without_files: bool
    allocations: str | None = None
    """The file that says which allocations the queue may ask for."""


class TaskOptions(NamedTuple):
    """What the command line says for tasks; see `pilotfish run --help`."""

    parameters: Parameters = Parameters()
    name: str = "task"
    cores: int | None = None
    gpus: str | None = None
    need: tuple[str, ...] = ()
    """As `--need` has them."""
    mem: str | None = None
    wt: str | None = None
    retries: int | None = None
    retry_rule: tuple[str, ...] = ()
    """As `--retry` has them; see retry_rules.py."""
    names: OutputNames = OutputNames()
    no_output: bool = False
    stream: bool = False
    only: str | None = None
    """An expression that tasks must meet to run now (selection.py)."""
    retry: Retry | None = None
    """Which tasks that have failed in an earlier session run again."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TaskOptions:
        """From all options of the command."""
        parameters = Parameters(*(options[field] for field in Parameters._fields))
        retry = Retry(options["retry_failed"], options["retry_code"], options["retry_reason"])
        names = OutputNames(options["output"], options["stdout"], options["stderr"])
        said = {field: options[field] for field in cls._fields if field not in ("parameters", "retry", "names")}
        return cls(parameters=parameters, retry=retry if any(retry) else None, names=names, **said)


def read(words: Sequence[str], is_command: bool, form: str | None, options: TaskOptions) -> Work:
    """The jobs of this run, with the defaults of the options filled in. Raises UsageError."""
    _check_output(options)
    if not words:
        raise UsageError("nothing to run", remedy="give a FILE, - or -- COMMAND; see pilotfish run --help")
    if is_command:
        jobs = [command_job(words, options.name, options.parameters)]
        source, form, asks = COMMAND, "command", False
    elif len(words) > 1:
        raise UsageError(f"one FILE is expected, not {len(words)}", remedy="write -- before a command")
    elif (option := options.parameters.option) is not None:
        raise UsageError("needs a command", where=option, remedy="write it behind --, as in -- ./simulate {alpha}")
    else:
        source, (form, jobs, asks) = words[0], jobfile.load(words[0], form)
    for number, job in enumerate(jobs):
        _fill_in(job, options, wins=form == "script")
        if form != "lines":
            check_variables(job, "COMMAND" if is_command else f"{source}: jobs[{number}]")
        options.names.of(job, "")  # whether it can be filled in
    if asks and source == "-":
        raise UsageError(
            "cannot come by a pipe", where="allocations", remedy="name the file, or give --allocations FILE"
        )
    return Work(source, jobs, form in ("command", "lines", "script"), source if asks else None)


def _check_output(options: TaskOptions) -> None:
    """Raises UsageError for places that cannot be meant together."""
    places = {
        "--stream": options.stream,
        "--no-output": options.no_output,
        "--output": options.names.folder,
        "--stdout": options.names.stdout,
        "--stderr": options.names.stderr,
    }
    said = [option for option, value in places.items() if value]
    if said and said[0] in ("--stream", "--no-output") and len(said) > 1:
        raise UsageError(f"makes no sense with {said[1]}", where=said[0], remedy="use one of them")


def _fill_in(job: dict[str, Any], options: TaskOptions, *, wins: bool) -> None:
    """What the options say for tasks that do not say it themselves; `wins`: also for those that do, as with `#SBATCH`.

    Malformed descriptions are rejected by the pilot.
    """
    resources, execution = job.setdefault("resources", {}), job.get("execution")
    if not isinstance(resources, dict) or not isinstance(execution, dict):
        return
    if options.cores and (wins or not {"numCores", "numNodes"} & resources.keys()):
        resources["numCores"] = options.cores
    said = {"nodeCrs": {"gpu": amount_of(options.gpus)} if options.gpus else None, "mem": options.mem, "wt": options.wt}
    for member, value in said.items():
        if value and (wins or member not in resources):
            resources[member] = value
    for name, amount in needs_of(options.need).items():
        if wins or name not in resources:
            resources[name] = amount
    if not resources:
        del job["resources"]
    if options.retries is not None and (wins or "retries" not in job):
        job["retries"] = options.retries
    if options.retry_rule and (wins or "retry" not in job):
        job["retry"] = parse_rules(options.retry_rule)


class Output:
    """Files for what tasks print: those asked for, or unasked for tasks whose author had no way to name files.

    `text` tells where that is, for comparing; the same when the working folder has been moved.
    """

    def __init__(self, work: Work, options: TaskOptions, wd: Path) -> None:
        self._stream = options.stream
        self._names = options.names
        tasks = task_count(work.jobs)
        if not any(self._names) and work.without_files and not (options.no_output or options.stream):
            if tasks <= MOST_FILES:
                self._names = OutputNames(str(wd / OUTPUT))
            else:
                remedy = "give --stream to keep it in a few files, or --output DIR"
                echo(f"of {tasks} tasks only the last lines of failures are kept; {remedy}", err=True)
        self.text = " ".join(_as_text(name, wd) for name in self._names if name is not None)
        if options.stream:
            self.text = "stream"

    def fill_in(self, job: dict[str, Any], stem: str) -> None:
        """Name files that begin with `stem` for a job that names none itself."""
        execution = job.get("execution")
        if not isinstance(execution, dict):
            return
        if self._stream and "stream" not in execution:
            execution = job["execution"] = {**execution, "stream": True}
        named = self._names.of(job, stem)
        job["execution"] = {**execution, **{member: named[member] for member in named if execution.get(member) is None}}


def _as_text(name: str, wd: Path) -> str:
    return os.path.relpath(Path(name).absolute(), wd).encode(errors="backslashreplace").decode()


def task_count(jobs: Sequence[Mapping[str, Any]]) -> int:
    """How many tasks these are."""
    return sum(map(_task_count, jobs))


def _task_count(job: Mapping[str, Any]) -> int:
    """Of what the pilot will refuse: 1."""
    try:
        return 1 if job.get("iteration") is None else describe_iteration(job["iteration"], "iteration").count
    except PilotfishError:
        return 1
