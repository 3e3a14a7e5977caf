"""`pilotfish as slurm -- PROGRAM`: a pilot in the place of a batch system."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ...pilot.model.errors import PilotfishError, UsageError

if TYPE_CHECKING:
    from ...api.manager import Manager


@click.group("as")
def as_system() -> None:
    """Let a pilot answer to the commands of a batch system.

    \b
    pilotfish as slurm -- snakemake --executor slurm --jobs 100
    """


@as_system.command(context_settings={"allow_interspersed_args": False})
@click.option("--connect", metavar="WHERE", help="The pilot: its connection file, or a folder with one.")
@click.option("--wd", default=".", show_default=True, help="Folder of the pilot that is started.")
@click.option("--nodes", metavar="NODES", help="Start a pilot with these nodes, as `pilotfish service --nodes`.")
@click.option("--walltime", metavar="TIME", help="Start a pilot that runs so long at most, e.g. 1h30m.")
@click.option(
    "--kill-grace", metavar="SECONDS", help="For the pilot that is started: time between SIGTERM and SIGKILL."
)
@click.option(
    "--partition",
    "partitions",
    metavar="NAME",
    multiple=True,
    help="A name jobs may give; more than once. Default: pilot.",
)
@click.option(
    "--account",
    "accounts",
    metavar="NAME",
    multiple=True,
    help="An account that sacctmgr lists; more than once. Default: pilot.",
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def slurm(
    connect: str | None,
    wd: str,
    nodes: str | None,
    walltime: str | None,
    kill_grace: str | None,
    partitions: tuple[str, ...],
    accounts: tuple[str, ...],
    program: tuple[str, ...],
) -> None:
    """Run a program whose Slurm is a pilot: its sbatch, srun, squeue, sacct, scancel, scontrol, sinfo and sacctmgr.

    In the program, and in all that it starts, these commands are Pilotfish's. The pilot is the one that --connect or
    PILOTFISH_CONNECTION names, or one that runs in the folder --wd; else one is started, in this allocation or on this machine.
    What cannot be honoured is refused as Slurm would refuse it: docs/workflow-managers.md has the table.

    \b
    pilotfish as slurm -- snakemake --executor slurm --jobs 100
    pilotfish as slurm --partition debug -- python submit.py
    pilotfish as slurm -- bash                       try sbatch and squeue by hand

    Exit code: the program's, when its jobs have ended too; 2 when it cannot be started.
    """
    from ..adapters.slurm import serve

    words = program[1:] if program[:1] == ("--",) else program
    if not words:
        raise UsageError("no program is named", remedy="pilotfish as slurm -- PROGRAM")
    options = {"--nodes": nodes, "--walltime": walltime, "--kill-grace": kill_grace}
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    if connect is not None and given:
        raise UsageError(f"{given[0]} is for a pilot that is started; --connect names one that runs")
    manager = None if given else _running(connect, wd)
    if manager is not None:
        try:
            code = serve.run(manager, words, partitions, accounts, os.environ)
        finally:
            manager.close()
        sys.exit(code)
    from ...api.local import LocalManager

    with LocalManager(["--wd", wd, *given]) as started:
        code = serve.run(started, words, partitions, accounts, os.environ)
    sys.exit(code)


def _running(connect: str | None, wd: str) -> Manager | None:
    """The pilot that is named, or found; None when there is none."""
    from pathlib import Path

    from ...api.manager import Manager
    from ...pilot.wire import connection

    if connect is not None:
        return Manager(connect)
    try:
        target = connection.discover(None, os.environ, Path(wd).absolute())
    except PilotfishError:
        return None
    return Manager(None if isinstance(target, str) else target.aux_dir)
