"""Runs by their names: `pilotfish-runs/NAME` is a link to the auxiliary folder of the pilot that did it, `last` to the latest.

The auxiliary folders keep their names and places, which programs of QCG-PilotJob know; a pilot without a link (`pilotfish
service`, `LocalManager`) goes by the id in its folder's name. A file system without links has only those.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..pilot.files import link_atomically
from ..pilot.model.errors import LostError, PilotfishError, RefusedError, UsageError
from ..pilot.wire import connection, journal, ownership
from ..pilot.wire.connection import AUX_PREFIX

FOLDER = "pilotfish-runs"
LAST = "last"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """`name`: how to call it; `path`: the auxiliary folder."""

    name: str
    path: Path

    @property
    def state(self) -> str:
        """`running`, `ended` in good order, or `stopped`: killed, or it never began to listen."""
        try:
            info = connection.read(self.path / connection.FILE_NAME)
        except PilotfishError:
            return "stopped"
        if info.ended:
            return "ended"
        return "running" if connection.is_alive(info) else "stopped"

    @property
    def host(self) -> str:
        with suppress(PilotfishError):
            return connection.read(self.path / connection.FILE_NAME).host
        return ""

    @property
    def size_bytes(self) -> int:
        """Of all files in it, streams included."""
        size = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(OSError):
                    size += os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
        return size


def checked_name(_context: object, _option: object, name: str | None) -> str | None:
    """For click. Raises UsageError for what cannot be the name of a run."""
    if name is not None and (name == LAST or _NAME.fullmatch(name) is None):
        remedy = f"write letters, digits and . _ + - (at most 100), and not {LAST!r}"
        raise UsageError(f"{name!r} cannot be the name of a run", where="--run-name", remedy=remedy)
    return name


def name_run(aux: Path, name: str | None) -> str:
    """Give the run in `aux` a name, unless it has one; it is `last` from now on. The name, which is free.

    Raises UsageError when `name` is that of another run.
    """
    folder = aux.parent / FOLDER
    known = {run.path: run.name for run in _linked(folder)}
    if aux in known and name in (None, known[aux]):
        name = known[aux]
    elif name is None:
        name = _free(folder, time.strftime("%Y%m%d-%H%M%S"))
    elif os.path.lexists(folder / name):
        raise UsageError(
            f"there is a run {name!r} already", where=str(folder), remedy=f"pilotfish rm {name}, or another name"
        )
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        ownership.check_folder(folder)
        if not os.path.lexists(folder / name):
            (folder / name).symlink_to(os.path.relpath(aux, folder))
        link_atomically(name, folder / LAST)
    except (OSError, RefusedError):  # no links there, or a folder that others can change: the id is a name too
        return aux.name.removeprefix(AUX_PREFIX)
    return name


def _free(folder: Path, name: str) -> str:
    tries = [name, *(f"{name}.{number}" for number in range(2, 1000))]
    return next(each for each in tries if not os.path.lexists(folder / each))


def _linked(folder: Path) -> Iterator[RunFolder]:
    with suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_symlink() and entry.name != LAST:
                target = Path(os.path.normpath(folder / os.readlink(entry.path)))
                if target.name.startswith(AUX_PREFIX) and target.is_dir():
                    yield RunFolder(entry.name, target)


def runs_in(wd: Path) -> list[RunFolder]:
    """All runs of a working folder, the latest last. Those of others are left out, and told in the log."""
    wd = wd.absolute()
    names = {run.path: run.name for run in _linked(wd / FOLDER)}
    return [
        RunFolder(names.get(path, path.name.removeprefix(AUX_PREFIX)), path)
        for path in ownership.own_folders(wd, AUX_PREFIX)
        if any((path / name).exists() for name in (journal.FILE_NAME, connection.FILE_NAME))
    ]


def find_run(run: str | Path, wd: Path) -> RunFolder:
    """A run by its name, `last`, its id, its auxiliary folder, or a working folder, whose latest is meant.

    Raises LostError when there is none, RefusedError when it is not ours.
    """
    folder = Path(run)
    if folder.is_dir() and (os.sep in str(run) or folder.name.startswith(AUX_PREFIX)):
        folder = folder.resolve()
        if folder.name.startswith(AUX_PREFIX):
            ownership.check_folder(folder)
            return next(
                (each for each in runs_in(folder.parent) if each.path == folder), RunFolder(folder.name, folder)
            )
        wd, run = folder, LAST
    runs = runs_in(wd)
    if not runs:
        remedy = "say which with RUN or --wd, or start one with pilotfish run"
        raise LostError("there is no run here", where=str(wd.absolute()), remedy=remedy)
    if run == LAST:
        return runs[-1]
    for each in runs:
        if str(run) in (each.name, each.path.name, each.path.name.removeprefix(AUX_PREFIX)):
            ownership.check_folder(each.path)
            return each
    near = get_close_matches(str(run), [each.name for each in runs], 1)
    remedy = f"did you mean {near[0]}?" if near else "pilotfish runs lists them"
    raise LostError(f"there is no run {str(run)!r}", where=str(wd.absolute()), remedy=remedy)
