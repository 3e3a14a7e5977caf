"""`service.log`: its lines begin as post-processing knows them, `date time,ms: text`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..files import open_private
from ..logs import EventFormatter

_LEVELS = {"notset": logging.NOTSET} | {
    name: getattr(logging, name.upper()) for name in ("critical", "error", "warning", "info", "debug")
}


class _File(logging.FileHandler):
    """Private; what finds no room is left out. A line about that for each line, as `logging` has it, would help nobody."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=open_private)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def configure_log(path: Path, level: str) -> None:
    """Send everything this process logs to `path`. Only the programs of Pilotfish call this, never the library."""
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(EventFormatter())
    root = logging.getLogger()
    root.setLevel(_LEVELS[level])
    root.addHandler(handler)
