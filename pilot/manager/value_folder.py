"""The folder for large values of calls: arguments and results that go from process to process without passing through us.

On one machine it is in memory (/dev/shm); else a part of the auxiliary folder, which all nodes see. It is there from the first
request of an executor to the end of the pilot; who reads a value for the last time removes it. A manager that was killed cannot
clear up: its next life finds the folder by its name, and if there is none, the next pilot of this user sees the run is gone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..model.errors import RefusedError
from ..wire import ownership

_MEMORY = Path("/dev/shm")
_LEAST_FREE_BYTES = 256 << 20
_OWNER = ".run"
"""A link in the folder to the auxiliary folder that it belongs to."""


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
            self._path = self._in_memory() or self._made(self._aux / "values")
        return "" if self._path is None else str(self._path)

    def _in_memory(self) -> Path | None:
        _clear_up()
        with suppress(OSError):
            room = os.statvfs(_MEMORY)
            if self._here and room.f_bavail * room.f_frsize >= _LEAST_FREE_BYTES:
                digest = hashlib.blake2b(os.fsencode(self._aux), digest_size=8).hexdigest()
                return self._made(_MEMORY / f"{_prefix()}{digest}")
        return None

    def _made(self, path: Path) -> Path | None:
        with suppress(OSError, RefusedError):
            path.mkdir(mode=0o700, exist_ok=True)  # of an earlier life
            ownership.check_folder(path)
            with suppress(FileExistsError):
                (path / _OWNER).symlink_to(self._aux)
            return path
        return None

    def remove(self) -> None:
        """The pilot ends. Values in memory go with it; others stay for a resume."""
        if self._path is not None and self._path.parent == _MEMORY:
            shutil.rmtree(self._path, ignore_errors=True)


def _prefix() -> str:
    return f"pilotfish-{os.getuid()}-"


def _clear_up() -> None:
    """Remove folders in memory whose runs are gone."""
    with suppress(OSError):
        for path in _MEMORY.glob(f"{_prefix()}*"):
            owner = path / _OWNER
            if path.stat().st_uid == os.getuid() and owner.is_symlink() and not owner.exists():
                shutil.rmtree(path, ignore_errors=True)
