"""`service.log`: `date time,ms: text`, as post-processing knows it, with the keys of an event behind its name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..files import open_private

_LEVELS = {"notset": logging.NOTSET} | {
    name: getattr(logging, name.upper()) for name in ("critical", "error", "warning", "info", "debug")
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        keys = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return text + "".join(f" {name}={value}" for name, value in keys.items())


class _File(logging.FileHandler):
    """Private; what finds no room is left out. A line about that for each line, as `logging` has it, would help nobody."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=open_private)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def configure_log(path: Path, level: str) -> None:
    """Send everything this process logs to `path`. Only the programs of Pilotfish call this, never the library."""
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(_LEVELS[level])
    root.addHandler(handler)
