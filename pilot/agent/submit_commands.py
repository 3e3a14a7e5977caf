"""A job that a task submits is a job of its own: `sbatch` and its like forget what describes this job and the task's share.

`sbatch` and `bsub` send the whole environment along, `qsub -V` too. The new job would take itself for the old one's step: it
would bind to the old one's cores, count its tasks, and its clients would talk to the old pilot. Variables alone cannot help:
a task has to see them, and what SBATCH_EXPORT says wins over the `#SBATCH --export` of the user's script. So the folder of
the pilot has commands of these names, which come first on the PATH of tasks, and become the real ones without the variables.
There are none where there is no batch system. Who calls /usr/bin/sbatch by its path gets what a shell with the task's
variables would give it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from ..systems import registry

FOLDER = "commands"
_OURS = r"QCG_PM_.* | PILOTFISH_(CONNECTION|TASK|RUN|AGENT_ID|HOSTFILE|SPREAD)"
_OF_USER = re.compile(rb"(SBATCH|SALLOC)_(?!CPU_BIND|MEM_BIND).*")
"""Options that a user may have set for all jobs, though systems count them as theirs."""

_COMMAND = """\
#!/bin/sh
# {doc}
exec {python} -I -S {program} {name} "$@"
"""
_PROGRAM = '''\
"""Become the real command of the name in the first argument, without variables that are not for another job."""
import os, re, sys

NOT_FOR_OTHERS = re.compile({pattern!r}, re.VERBOSE)
OF_USER = re.compile({of_user!r})
name, here = os.fsencode(sys.argv[1]), os.path.dirname(os.path.abspath(os.fsencode(__file__)))
environ = {{
    variable: value
    for variable, value in os.environb.items()
    if not NOT_FOR_OTHERS.fullmatch(variable) or OF_USER.fullmatch(variable)
}}
folders = [folder for folder in environ.get(b"PATH", b"").split(b":") if os.path.abspath(folder) != here]
environ[b"PATH"] = b":".join(folders)
for folder in folders:
    program = os.path.join(folder, name)
    if os.path.isfile(program) and os.access(program, os.X_OK):
        os.execve(program, [name, *map(os.fsencode, sys.argv[2:])], environ)
sys.exit(f"{{sys.argv[1]}}: command not found")
'''
_DOC = "Pilotfish: a job that a task submits is a job of its own. See docs/task-environment.md."


def lay_ready(aux_dir: str, path: str, variables: Collection[str]) -> str:
    """The PATH of tasks, given the agent's: commands are laid ready in the pilot's folder for those that are on it.

    `told`: names of further variables that the pilot sets for tasks, and nobody else. The PATH is as it was where there is
    no such command, or no room for ours.
    """
    names = [name for name in registry.submit_commands() if shutil.which(name, path=path)]
    folder = Path(aux_dir) / FOLDER
    if not names or not os.path.isdir(aux_dir):
        return path
    pattern = b" | ".join(
        [registry.private_variables().pattern, _OURS.encode(), *(name.encode() for name in variables)]
    )
    program = folder / "submit.py"
    words = {"doc": _DOC, "python": shlex.quote(sys.executable), "program": shlex.quote(str(program))}
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(program, _PROGRAM.format(pattern=pattern, of_user=_OF_USER.pattern), 0o600)
        for name in names:
            _write(folder / name, _COMMAND.format(name=name, **words), 0o700)
    except OSError:
        return path
    return f"{folder}:{path}"


def _write(path: Path, text: str, mode: int) -> None:
    """In one step: other workers, and agents on other nodes, write the same."""
    draft = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", errors="surrogateescape")
    draft.chmod(mode)
    draft.replace(path)
