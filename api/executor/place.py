"""Where the pilot of an executor is when that is another machine: what an executor knows of it.

The launcher does it (launcher/executor). This layer does not know the launcher, so the root package has the name by which it is
found, and nothing of it is imported before the first executor names a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..errors import PilotfishError


class NoPilotError(PilotfishError, BrokenExecutor):
    """The executor has no pilot on its machine, and will get none; `__cause__` is the error that says why."""

    code = "no-pilot"


class Place(Protocol):
    """A machine on which the executor's pilot is put, and followed by the next one while there is work."""

    is_here: bool
    """Whether it is this machine, with the same files and the same Python."""
    results: Path | None
    """Where what has come home is kept, for a later life of an executor with a name."""

    def pilot(self, is_needed: Callable[[], bool], ends: int) -> Path:
        """The connection file, here, of the pilot that runs; waits until there is one, which may take as long as a queue.

        `is_needed` is asked from time to time; `ends`: how many ends of calls have come home, by which it sees that pilots are
        of any use. Raises NoPilotError when there will be none, or when nobody needs it any more.
        """

    def look(self) -> None:
        """The pilot does not answer: see now whether it is still there."""

    def end(self) -> None:
        """End the pilot, and leave nothing behind on the machine. Raises PilotfishError when that cannot be done."""


def place_on(machine: Any, **settings: Any) -> Place:
    """Raises ValueError for settings that make no sense."""
    root = import_module(__name__.partition(".api.")[0])
    place: Place = root.MachinePlace(machine, **settings)
    return place
