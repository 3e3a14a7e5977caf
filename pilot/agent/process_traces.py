"""`--enable-proc-stats`: which processes the tasks of an agent have started, in `ptrace_NODE_TIME_PID.log`.

The form is QCG-PilotJob's: one JSON object in the working directory, with the node and what was seen of each process by its
number. A process of its own looks once a second, because reading /proc of a full node takes longer than an agent may be busy.
It writes when the agent's end of its pipe is closed, however the agent has ended. What lives shorter than a second may not be
seen.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from typing import Any

import psutil

from .. import leftover_processes, own_python
from ..clock import now
from ..leftover_processes import Process
from .run_times import as_text, file_name

_EVERY_S = 1.0
_MOST = 100_000
"""Processes that are kept: some hundred bytes each."""
_LAST_WRITE_S = 10.0


class Tracer:
    """The agent's end."""

    def __init__(self, connect: str, folder: str, node: str) -> None:
        words = ["agent", "--connect", connect, "--node", node, "--traces", folder]
        self._process = subprocess.Popen(own_python.pilotfish(sys.executable, *words), stdin=subprocess.PIPE)

    @property
    def process(self) -> set[Process]:
        """It belongs to no task."""
        return {found for found in leftover_processes.below(os.getpid()) if found.pid == self._process.pid}

    def close(self) -> None:
        """No task runs any more: have the file written."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WRITE_S)


def run(folder: str, node: str) -> int:
    """Look at all that is below the agent, whose child this is, until standard input ends."""
    agent, seen = os.getppid(), dict[int, dict[str, Any]]()
    path = file_name(folder, "ptrace", node)
    while True:
        _look(agent, node, seen)
        if select.select([0], [], [], _EVERY_S)[0]:
            break
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump({"node": node, "pids": seen}, file, indent=1)
    return 0


def _look(agent: int, node: str, seen: dict[int, dict[str, Any]]) -> None:
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(agent).children(recursive=True):
            if process.pid == os.getpid() or (process.pid not in seen and len(seen) >= _MOST):
                continue
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                _note(process, node, seen)


def _note(process: psutil.Process, node: str, seen: dict[int, dict[str, Any]]) -> None:
    """What may change is that of the last look; the rest is that of the first, but for a program that took another's place."""
    with process.oneshot():
        entry = dict(seen.get(process.pid, {}))  # noted as a whole or not at all: it may end while it is looked at
        parent = process.ppid()
        if "parent" not in entry:
            entry |= {"pid": process.pid, "node": node, "created": as_text(process.create_time()), "parent": parent}
            with suppress(psutil.NoSuchProcess):
                entry["parent_name"] = psutil.Process(parent).name()
        entry |= {
            "name": process.name(),
            "cmdline": process.cmdline(),
            "cpu_affinity": process.cpu_affinity(),
            "cpu_times": list(process.cpu_times()),
            "memory_percent": process.memory_percent(),
            "memory_info": list(process.memory_info()),
            "last": as_text(now()),
        }
    seen[process.pid] = entry
    children = seen.setdefault(parent, {}).setdefault("childs", [])
    if process.pid not in children:
        children.append(process.pid)
