"""Requests from a file (`--file`, spec 15): a JSON array of request objects, served in order, replies to the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ..model.errors import PilotfishError, SettingsError
from .ending import Ending
from .handlers import Handlers
from .parts import Parts
from .shutdown import Shutdown

log = logging.getLogger(__name__)

_PER_TURN = 50


class RequestFile:
    """The requests of one file; `serve` answers some and comes again, so that a long file does not hold up the loop."""

    def __init__(
        self, requests: list[object], parts: Parts, shutdown: Shutdown, ending: Ending, handlers: Handlers
    ) -> None:
        self._requests = iter(requests)
        self._parts = parts
        self._shutdown = shutdown
        self._ending = ending
        self._handlers = handlers

    @classmethod
    def read(cls, path: Path, parts: Parts, shutdown: Shutdown, ending: Ending, handlers: Handlers) -> RequestFile:
        """Raises SettingsError when the file is not there or is not an array."""
        try:
            requests = json.loads(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from error
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"Wrong job description: {error}", where=str(path)) from error
        if not isinstance(requests, list):
            raise SettingsError("Not an array of requests in json file", where=str(path))
        return cls(requests, parts, shutdown, ending, handlers)

    def serve(self) -> None:
        """Answer the next requests; at the end (or at a null) close the service unless it has the network."""
        for _ in range(_PER_TURN):
            request = next(self._requests, None)
            if request is None:
                if not self._parts.settings.net and not self._shutdown.closing:
                    self._ending.finish_when_idle()
                return
            try:
                reply = self._handlers.answer_value(request).body.decode()
            except PilotfishError as error:
                reply = str(error)
            log.info("FileInterface reply message: %s", reply)
        self._parts.loop.call_after(0, self.serve)
