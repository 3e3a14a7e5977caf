"""Starting the process of an agent launcher: in a session of its own, so that it and its agents outlive the manager.

FORK is the launcher for agents on this machine, where that process is the agent itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import variable_names
from ..files import open_private
from .base import AgentLauncher


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return list(command)


FORK = AgentLauncher("fork", _argv, is_agent=True, connect="environment")
"""Child processes of the manager, one for each (virtual) node."""


def start(
    argv: Sequence[str], log: Path, environ: Mapping[str, str], stdin_text: str = "", lifeline: int | None = None
) -> int:
    """Start it with output appended to `log`; returns its process id. Raises OSError when there is no such program.

    `stdin_text`: a line for its standard input, short enough for a pipe. `lifeline`: a descriptor that it inherits, whose end
    is its own end.
    """
    import subprocess  # an agent imports this file for its facts, and starts nothing with it

    environ = dict(environ)
    if lifeline is not None:
        environ[variable_names.LIFELINE_FD] = str(lifeline)
    with open(log, "ab", opener=open_private) as output, open(_input(stdin_text), "rb") as stdin:
        process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[] if lifeline is None else [lifeline],
            env=environ,
        )
    process.returncode = 0  # reaped by the manager's own loop, not by subprocess
    return process.pid


def _input(text: str) -> int:
    """A descriptor from which `text` and then the end is read."""
    if not text:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.write(write_end, text.encode())
    os.close(write_end)
    return read_end


def default_python(asked: str | None) -> str:
    """The interpreter for agents: the one asked for, else the manager's own."""
    return asked or sys.executable or os.environ.get("PYTHON", "python3")


def last_lines(log: Path, count: int = 3) -> str:
    """The last lines of a log, joined, for an error's text; empty when there is nothing."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join([line.strip() for line in lines if line.strip()][-count:])
