"""The variables by which a program, and whatever it starts, finds the old names: nothing is written anywhere for it.

`PYTHONPATH` begins with a folder whose `sitecustomize.py` every Python runs as it starts, and `PATH` with the folders of the
old commands. So what clears its environment, or starts Python with -E, -I or -S, does not have the old names.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from ....pilot import variable_names
from .tables import SYSTEMS

_HERE = Path(__file__).parent
START = _HERE / "start"


def commands(system: str) -> Path:
    """The folder with the commands of one of the old systems."""
    return _HERE / "old-commands" / system


def environment(systems: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for programs that are to find the names of these systems, and of those that it serves already."""
    served = list(dict.fromkeys([*served_by(environ), *systems]))
    own = {value for system in served for value in SYSTEMS[system].environment if value[0] not in environ}
    return {
        **environ,
        **dict(own),
        "PATH": _joined([str(commands(system)) for system in served], environ.get("PATH", os.defpath)),
        "PYTHONPATH": _joined([str(START)], environ.get("PYTHONPATH", "")),
        variable_names.DROPIN: ",".join(served),
        variable_names.DROPIN_PYTHON: sys.executable,
        variable_names.DROPIN_PATH: os.pathsep.join(_library_folders()),
        variable_names.DROPIN_TAG: sys.implementation.cache_tag or "",
    }


def served_by(environ: Mapping[str, str]) -> list[str]:
    """The systems whose names a program with this environment finds already."""
    return [name for name in environ.get(variable_names.DROPIN, "").split(",") if name in SYSTEMS]


def _joined(first: list[str], after: str) -> str:
    return os.pathsep.join([*first, *(entry for entry in after.split(os.pathsep) if entry and entry not in first)])


def _library_folders() -> list[str]:
    """Where this Python finds what is installed, its own library left out."""
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    own |= {os.path.join(folder, "lib-dynload") for folder in own}
    return [entry for entry in sys.path if os.path.isdir(entry) and entry not in own]
