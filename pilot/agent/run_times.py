"""`--enable-rt-stats`: when the process of each task began and ended, in `rtimes_NODE_TIME_PID.log` in the working directory.

The form is QCG-PilotJob's: one JSON object, with the node and the times of each task by its name. There a program around the
task (`--wrapper-rt-stats`) wrote the times down; an agent sees them itself. Each worker process has a file of its own, which is
complete JSON after each task, so that what was measured is not lost with the process.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime

from ..clock import now

log = logging.getLogger(__name__)

_END = b"\n}}\n"


class RunTimes:
    """One file in `folder`, made when the first task has ended. A disk that takes no more costs times, and nothing else."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: int | None = None
        self._size = 0
        """Bytes before the end, over which the next task goes."""
        self._before = b""

    def add(self, node: str, task: str, began_s: float, ended_s: float) -> None:
        times = json.dumps({"s": as_text(began_s), "f": as_text(ended_s)})
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._file = os.open(file_name(self._folder, "rtimes", node), flags, 0o600)
                self._before = b'{"node": %s, "rt": {\n' % json.dumps(node).encode()
            row = self._before + f"{json.dumps(task)}: {times}".encode()
            os.pwrite(self._file, row + _END, self._size)
        except OSError as error:
            log.warning("run_times.failed", extra={"folder": self._folder, "reason": error.strerror})
            return
        self._size += len(row)
        self._before = b",\n"


def file_name(folder: str, kind: str, node: str) -> str:
    """A name that no other process, and no earlier run, has."""
    return os.path.join(folder, f"{kind}_{node.replace('/', '_')}_{as_text(now()).replace(' ', 'T')}_{os.getpid()}.log")


def as_text(seconds: float) -> str:
    """A time since the epoch as QCG-PilotJob writes it: local, with microseconds."""
    return datetime.fromtimestamp(seconds).isoformat(" ", "microseconds")
