"""The allocator of a pilot, which asks batch systems for nodes: begun with the manager, and again with each that follows.

It belongs to the launcher, of which nothing is known here but its command. It has a process of its own, outlives a manager that
is killed, and finds out itself when the pilot has ended.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .. import locks, own_python
from ..loop import Loop
from ..model.errors import SettingsError

log = logging.getLogger(__name__)

JOURNAL, HOLDER = Path("alloc") / "journal", Path("alloc") / "allocator"
"""What it has written, and which process it is, below the auxiliary folder."""
_LOOK_EVERY_S = 30.0


def check(file: Path | None) -> None:
    """Whether the allocations of this file can be asked for. Raises SettingsError."""
    if file is not None:
        _run(file, str(file))


def begin(aux: Path, file: Path | None, warn: Callable[[str], None]) -> None:
    """Let the queue of the pilot in this folder ask for what the file says, and for what it could ask for before."""
    if file is None and not (aux / JOURNAL).exists():
        return
    try:
        _run(file or aux, *([] if file is None else [str(file)]), "--connect", str(aux))
    except SettingsError as error:  # the pilot is there, and its queue can be told to ask later
        log.warning("allocator.not_started", extra={"reason": str(error)})
        warn(f"nobody asks for nodes: {error}")


def watch(loop: Loop, aux: Path) -> None:
    """From now on start another one in the place of one that was killed."""

    def look() -> None:
        replace_killed(aux)
        loop.call_after(_LOOK_EVERY_S, look)

    loop.call_after(_LOOK_EVERY_S, look)


def replace_killed(aux: Path) -> None:
    """One that has come to its end has emptied the file; of one on another host nothing can be known."""
    try:
        holder = locks.Owner.parse((aux / HOLDER).read_text().strip())
    except OSError:
        return
    if holder is not None and holder.is_gone:
        log.warning("allocator.gone", extra={"pid": holder.pid})
        command = own_python.pilotfish(sys.executable, "alloc", "begin", "--connect", str(aux))
        subprocess.run(["sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "sh", *command], check=False)


def _run(where: Path, *words: str) -> None:
    command = own_python.pilotfish(sys.executable, "alloc", "begin", *words)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"pilotfish alloc begin: exit code {done.returncode}"]
        raise SettingsError(said[0].removeprefix("Error: "), where="--allocations" if where.is_file() else str(where))
