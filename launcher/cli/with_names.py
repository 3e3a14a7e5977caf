"""`pilotfish with SYSTEM... -- PROGRAM`: a program that cannot be edited, with the names it knows."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import click

from ...pilot.model.errors import UsageError
from ..compat import dropin

_END = "--"


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@click.argument("words", metavar="SYSTEM... -- PROGRAM [ARGUMENT...]", nargs=-1, required=True, type=click.UNPROCESSED)
def with_names(words: tuple[str, ...]) -> None:
    """Run a program written for QCG-PilotJob, DPDispatcher, clusterjob or fyrd, as it is, on Pilotfish.

    SYSTEM is qcg, dpdispatcher, clusterjob or fyrd; several may be named. In the program, and in all that it starts, the
    modules and commands of these systems are Pilotfish's: `import qcg.pilotjob.api.manager`, `qcg-pm-service`, `dpdisp`.
    Nothing is installed or changed, and an original that is installed is not used.

    \b
    pilotfish with qcg -- python campaign.py
    pilotfish with qcg -- sh job.sh                  with qcg-pm-service in it
    pilotfish with qcg dpdispatcher -- jupyter lab

    In a notebook that runs already: `from pilotfish import dropin; dropin.enable("qcg")`.

    Exit code: the program's; 2 when it cannot be started.
    """
    if _END not in words:
        named = words[0] if words[0] in dropin.SYSTEMS else "SYSTEM"
        remedy = f"put -- before the program: pilotfish with {named} -- PROGRAM"
        raise UsageError("no program is named", remedy=remedy)
    place = words.index(_END)
    systems, program = words[:place], words[place + 1 :]
    dropin.check(systems)
    if not program:
        raise UsageError("no program is named", remedy=f"pilotfish with {' '.join(systems)} -- PROGRAM")
    environ = dropin.environment(systems, os.environ)
    path = shutil.which(program[0], path=environ["PATH"])
    if path is None:
        raise UsageError("there is no such program", where=program[0], remedy=_other(program[0], environ["PATH"]))
    _become(path, list(program), environ)


def _other(name: str, path: str) -> str:
    if name == "python" and shutil.which("python3", path=path):
        return "write python3"
    if name.endswith(".py") and os.path.exists(name):
        return f"write python {name}"
    return "give its path, or add its folder to PATH"


def _become(path: str, program: list[str], environ: dict[str, str]) -> None:
    """This process goes on as the program: signals reach it and its exit code is seen without anybody between."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and would pass that on
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execve(path, program, environ)
    except OSError as error:
        raise UsageError(f"cannot be started: {error.strerror}", where=program[0]) from error
