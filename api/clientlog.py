"""The client's own log, `<wdir>/.qcgpjm-client/api.log`: requests, refusals and events at info, whole messages at debug.

It goes to a logger of its own that no configuration of logging knows: the lines of one Manager do not get into the file of
another, and nothing of it appears where the program shows its log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..pilot.model.errors import PilotfishError
from ..pilot.wire import codec
from ..pilot.wire.ownership import ForeignError, check_folder

log = logging.getLogger("pilotfish.api")


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk costs lines of the log, nothing else."""


class ClientLog:
    """The log that `cfg` of a Manager asks for: `wdir`, `log_file`, `log_level`.

    A folder that cannot be written, or that another user owns, is no reason to fail: then there is no log.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        level = logging.DEBUG if cfg.get("log_level") == "debug" else logging.INFO
        self._logger = logging.Logger("pilotfish.api", level)
        self._handler = _open(cfg)
        if self._handler is None:
            self._logger.disabled = True
        else:
            self._handler.setFormatter(logging.Formatter("%(asctime)s: %(message)s"))
            self._logger.addHandler(self._handler)

    def request(self, request: Mapping[str, Any]) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug("request %s", codec.dump(request).decode())
        else:
            self._logger.info("request %s", request.get("request"))

    def reply(self, reply: bytes) -> None:
        self._logger.debug("reply %r", reply)

    def refused(self, message: str) -> None:
        self._logger.info("refused: %s", message)

    def events(self, endings: Sequence[tuple[str, str]]) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info("events: %s", ", ".join([f"{name} {state}" for name, state in endings]))

    def problem(self, name: str, text: str) -> None:
        """Something went wrong with one of several names: for the program's log too."""
        self._logger.warning("%s: %s", name, text)
        log.warning("%s: %s", name, text)

    def close(self) -> None:
        """Write no more. May be called again."""
        self._logger.disabled = True
        if self._handler is not None:
            with suppress(OSError):  # lines that the disk has no room for
                self._handler.close()


def _open(cfg: Mapping[str, Any]) -> logging.Handler | None:
    path = Path(cfg.get("wdir", ".")) / ".qcgpjm-client" / "api.log"
    if cfg.get("log_file") == os.devnull:
        return None
    try:
        if cfg.get("log_file"):
            path = Path(cfg["log_file"])
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not _make_folder(path.parent):
            return None
        # Emptied, then appended to: a second Manager of the same folder may write to it at the same time.
        path.open("w").close()
        return _File(path, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None


def _make_folder(folder: Path) -> bool:
    """False when another user owns it: a log in it could be a link to any file of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check_folder(folder)
    except PilotfishError as error:
        return not isinstance(error, ForeignError)  # a folder of ours may be open to others: the log is no secret
    return True
