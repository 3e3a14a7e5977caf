"""Requests from a file (`--file`): a JSON array of request objects, served in order, replies to the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from ..loop import Loop
from ..model.errors import PilotfishError, SettingsError
from ..model.steps import Steps
from ..wire import codec
from .request_server import Reply

log = logging.getLogger(__name__)

_SLICE_S = 0.005
_PAUSE_S = 0.001
"""So that clients get at least as much of the time."""


class RequestFile:
    """The requests of one file; `serve` does a slice and comes again, so that a long file does not hold up the loop.

    Args:
        answer: works on one request; may raise PilotfishError.
        at_end: called when all have been answered, or at a null.
    """

    def __init__(
        self, requests: list[object], loop: Loop, answer: Callable[[object], Steps[Reply]], at_end: Callable[[], None]
    ) -> None:
        self._requests = iter(requests)
        self._loop = loop
        self._answer = answer
        self._at_end = at_end
        self._work: Steps[Reply] | None = None

    @classmethod
    def read(
        cls, path: Path, loop: Loop, answer: Callable[[object], Steps[Reply]], at_end: Callable[[], None]
    ) -> RequestFile:
        """Raises SettingsError when the file is not there or is not an array."""
        try:
            requests = json.loads(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from error
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"Wrong job description: {error}", where=str(path)) from error
        if not isinstance(requests, list):
            raise SettingsError("Not an array of requests in json file", where=str(path))
        return cls(requests, loop, answer, at_end)

    def serve(self) -> None:
        """Go on with the requests for one slice."""
        until = self._loop.clock() + _SLICE_S
        while self._loop.clock() < until:
            if self._work is None:
                request = next(self._requests, None)
                if request is None:
                    self._at_end()
                    return
                self._work = self._answer(codec.map_texts(request, codec.to_text))
            try:
                next(self._work)
                continue
            except StopIteration as end:
                reply = end.value.body.decode()
            except PilotfishError as error:
                reply = str(error)
            self._work = None
            log.info("FileInterface reply message: %s", reply)
        self._loop.call_after(_PAUSE_S, self.serve)
