"""The folder for large values of calls: arguments and results that go from process to process without passing through us.

On one machine it is in memory (/dev/shm); else a part of the auxiliary folder, which all nodes see. It is there from the first
request of an executor to the end of the pilot; who reads a value for the last time removes it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_MEMORY = Path("/dev/shm")
_LEAST_FREE_BYTES = 256 << 20


class ValueFolder:
    """`aux`: the auxiliary folder. `here`: all nodes are this machine."""

    def __init__(self, aux: Path, here: bool) -> None:
        self._aux = aux
        self._here = here
        self._path: Path | None = None

    @property
    def path(self) -> str:
        """Made when it is first asked for; empty when that cannot be done."""
        if self._path is None:
            for path in (*self._in_memory(), self._aux / "values"):
                with suppress(OSError):
                    path.mkdir(mode=0o700)
                    self._path = path
                    break
                if path.parent == self._aux and path.is_dir():  # of an earlier life
                    self._path = path
        return "" if self._path is None else str(self._path)

    def _in_memory(self) -> list[Path]:
        with suppress(OSError):
            room = os.statvfs(_MEMORY)
            if self._here and room.f_bavail * room.f_frsize >= _LEAST_FREE_BYTES:
                return [_MEMORY / f"pilotfish-{os.getuid()}-{os.getpid()}-{self._aux.name[-12:]}"]
        return []

    def remove(self) -> None:
        """The pilot ends. Values in memory go with it; others stay for a resume."""
        if self._path is not None and self._path.parent == _MEMORY:
            shutil.rmtree(self._path, ignore_errors=True)
