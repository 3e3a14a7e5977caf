"""The commands of all parts joined together, each loaded only when it is used."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

import click

from .pilot import early_warnings
from .pilot.console import echo, fill_closed_descriptors, give_up, why_not
from .pilot.exit_codes import ExitCode
from .pilot.inherited import begin_command
from .pilot.model.errors import JobExistsError, LostError, NotEnoughResourcesError, PilotfishError, UsageError

COMMANDS = {
    "run": ".api.run",
    "runs": ".api.run_cli",
    "show": ".api.run_cli",
    "cat": ".api.output_cli",
    "tail": ".api.output_cli",
    "wait": ".api.run_cli",
    "rm": ".api.run_cli",
    "report": ".api.report_cli",
    "service": ".pilot.cli",
    "submit": ".launcher.cli.submit",
    "jobs": ".api.cli",
    "status": ".api.cli",
    "info": ".api.look_cli",
    "cancel": ".api.cli",
    "remove": ".api.cli",
    "resources": ".api.cli",
    "top": ".api.look_cli",
    "watch": ".api.look_cli",
    "explain": ".api.look_cli",
    "finish": ".api.cli",
    "alloc": ".launcher.cli.alloc",
    "submissions": ".launcher.cli.submissions",
    "job": ".launcher.cli.job",
    "script": ".launcher.cli.submit",
    "doctor": ".launcher.cli.doctor",
    "init": ".launcher.cli.init",
    "schema": ".launcher.cli.schema",
    "with": ".launcher.cli.with_names",
    "as": ".launcher.cli.as_system",
    "completion": ".api.completion",
    "agent": ".pilot.cli",
}

_WARNED = ("run", "service")
"""Commands that do something when the end of their allocation is announced."""

SUMMARIES = {
    "run": "Run tasks on this machine and wait for them.",
    "runs": "List the runs of this folder.",
    "show": "Show what became of a run and its tasks.",
    "cat": "Print what a task has written.",
    "tail": "Print the last lines that a task has written.",
    "wait": "Wait until a run is over.",
    "rm": "Remove runs that are over.",
    "report": "Tell what a run was like, in numbers and pictures.",
    "service": "Start a manager, as in a batch script.",
    "submit": "Place work on a machine, or send jobs to a running pilot.",
    "jobs": "List the jobs of a running pilot.",
    "status": "Show what a running pilot is doing.",
    "info": "Show everything that is known about some jobs.",
    "explain": "Say why jobs do not run, and what is missing.",
    "cancel": "Cancel jobs or single iterations.",
    "remove": "Forget ended jobs, so that their names are free again.",
    "resources": "Show nodes and cores of a running pilot.",
    "top": "Look at a running pilot: nodes, tasks, queue, failures.",
    "watch": "Follow a running pilot until it is idle.",
    "finish": "End a running pilot.",
    "agent": "Bring nodes to a running pilot.",
    "alloc": "Let the queue of a running pilot ask for nodes.",
    "submissions": "List what you have submitted, and work on it.",
    "job": "Work on single batch jobs.",
    "script": "Run a Python script where its first comment says.",
    "doctor": "Check that a machine has everything submissions need.",
    "init": "Write a first submission file.",
    "schema": "Print the JSON Schema of job files or submission files.",
    "with": "Run a program of QCG-PilotJob, DPDispatcher, clusterjob or fyrd as it is.",
    "as": "Run a program for Slurm, as it is, on a pilot.",
    "completion": "Print the completion script for your shell.",
}
"""Shown by --help without loading anything."""


_NAMES = {"show": "show_run", "wait": "wait_for", "with": "with_names", "as": "as_system"}
"""Commands whose functions have other names, because theirs mean something else there."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is used: `pilotfish --help` must not load ZeroMQ."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module, "pilotfish"), _NAMES.get(cmd_name, cmd_name))
        if ctx.resilient_parsing:  # a shell completes a line
            from .completions import attach

            attach(command, [cmd_name])
        begins = ctx.find_root().obj
        if begins is not None:
            begins()
        if cmd_name not in _WARNED:
            early_warnings.let_go()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if args[:1] == ["resources"] and "--here" in args:  # the pilot's side knows allocations, the client's must not
            from .pilot.show_resources import resources_here

            if ctx.obj is not None:
                ctx.obj()
            early_warnings.let_go()
            return "resources", resources_here, args[1:]
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], SUMMARIES, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pilotfish", message="pilotfish %(version)s")
def cli() -> None:
    """Very many small tasks inside one large allocation, or on this machine.

    \b
    pilotfish run tasks.txt                 one shell command per line
    pilotfish run jobs.yaml                 a file of job descriptions
    pilotfish run --iterations 100 -- ./simulate '${it}'
    pilotfish service --wd run1 &           a pilot for many clients
    pilotfish watch
    """


def run_command(begins: Callable[[], None]) -> int:
    """Run what the command line says; returns the exit code. Errors made on purpose become one line.

    `begins` is called when all that a command needs is loaded.
    """
    fill_closed_descriptors()
    begin_command()
    try:
        code = cli.main(prog_name="pilotfish", standalone_mode=False, obj=begins)
    except click.exceptions.Abort:
        code = ExitCode.INTERRUPTED
    except _ASKED_FOR_HELP as error:
        echo(error.format_message())
        code = error.exit_code
    except click.ClickException as error:
        echo(f"Error: {_one_line(error)}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        code = ExitCode.FAILED
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except SystemExit as error:
        code = error.code
    except PilotfishError as error:
        echo(f"Error: {error.line}", err=True)
        code = _code_of(error)
    except Exception as error:
        reason = why_not(error)
        if reason is None:
            raise
        echo(f"Error: {reason}", err=True)
        code = 1
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was done is done: Ctrl-C while Python ends changes nothing
    _give_up_unwritable()
    return code if isinstance(code, int) else int(code is not None)


_ASKED_FOR_HELP: tuple[type[click.UsageError], ...] = tuple(
    filter(None, [getattr(click.exceptions, "NoArgsIsHelpError", None)])
)
"""Of click 8.2 and later: a command with commands of its own was given none."""


def _one_line(error: click.ClickException) -> str:
    """What is wrong with the command line: the option, the value, and where the right ones are."""
    text = (
        error.format_message().replace("valid integer range.", "whole number.").replace("valid float range.", "number.")
    )
    text = re.sub(r"^Invalid value for '([^']+)': ", r"\1: ", text.replace("\n", " "))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text.rstrip('.')}; see `{error.ctx.command_path} --help`"
    return text


_ALSO_BAD_INPUT = (JobExistsError.code, NotEnoughResourcesError.code)


def _code_of(error: PilotfishError) -> int:
    kinds: list[type[PilotfishError]] = [UsageError, *UsageError.__subclasses__()]
    bad_input = {kind.code for kind in kinds}
    if error.code in bad_input or error.code in _ALSO_BAD_INPUT:  # a pilot may have said it
        return ExitCode.BAD_INPUT
    return ExitCode.UNREACHABLE if error.code == LostError.code else ExitCode.FAILED


def _give_up_unwritable() -> None:
    """What cannot be written now must not change the exit code when Python tries it a last time."""
    for stream, err in ((sys.stdout, False), (sys.stderr, True)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            give_up(err)
