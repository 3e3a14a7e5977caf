"""Agents on this machine: one child process per (virtual) node, in a session of its own so that it outlives the manager."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def agent_command(python: str, connection: Path, node: str, agent_id: str, replaces: str | None) -> list[str]:
    """The command line that starts one agent; `replaces` is the agent whose left-overs it has to clear away."""
    command = [python, "-m", "pilotfish", "agent", "--connect", str(connection), "--node", node, "--agent-id", agent_id]
    return command if replaces is None else [*command, "--replaces", replaces]


def start(command: Sequence[str], log: Path, lifeline: int | None, environ: dict[str, str]) -> int:
    """Start an agent and return its process id. `lifeline`: a descriptor it inherits and whose end is its own end."""
    inherited = [] if lifeline is None else [lifeline]
    if lifeline is not None:
        environ = environ | {"PILOTFISH_LIFELINE_FD": str(lifeline)}
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=inherited,
            env=environ,
        )
    process.returncode = 0  # reaped by the manager's own loop, not by subprocess
    return process.pid


def default_python(asked: str | None) -> str:
    """The interpreter for agents: the one asked for, else the manager's own."""
    return asked or sys.executable or os.environ.get("PYTHON", "python3")
