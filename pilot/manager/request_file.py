"""Requests from a file (`--file`): a JSON array of request objects, served in order, replies to the log.

A file may hold a million jobs, so it is read in slices, as clients' requests are, and none of its requests is served before it
has been read to its end: one that is cut off somewhere asks for nothing. A short one is read at once, and what is wrong with
it is said before the pilot starts.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..loop import Loop
from ..model.errors import PilotfishError, SettingsError
from ..model.steps import Pause, Steps, finish
from ..wire.json_steps import PIECE_BYTES, read_in_steps
from ..wire.legacy import FormError
from .request_server import Reply

log = logging.getLogger(__name__)

_SLICE_S = 0.005
_PAUSE_S = 0.001
"""So that clients get at least as much of the time."""


class RequestFile:
    """The requests of one file; `serve` does a slice and comes again, so that a long file does not hold up the loop.

    Args:
        requests: reads the file.
        answer: works on one request; may raise PilotfishError.
        at_end: called when all have been answered, or at a null.
        refuse: called with what is wrong with a long file; then nothing of it is served.
    """

    def __init__(
        self,
        requests: Steps[list[object]],
        loop: Loop,
        answer: Callable[[object], Steps[Reply]],
        at_end: Callable[[], None],
        refuse: Callable[[SettingsError], None],
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._at_end = at_end
        self._refuse = refuse
        self._work = self._serve(requests)

    def serve(self) -> None:
        """Go on with the requests for one slice."""
        until = self._loop.clock() + _SLICE_S
        try:
            while self._loop.clock() < until:
                next(self._work)
        except StopIteration:
            self._at_end()
        except SettingsError as error:
            self._refuse(error)
        else:
            self._loop.call_after(_PAUSE_S, self.serve)

    def _serve(self, steps: Steps[list[object]]) -> Iterator[Pause]:
        requests = yield from steps
        requests.reverse()  # so that each is let go when it has been served
        while requests:
            request = requests.pop()
            if request is None:
                return
            try:
                reply = (yield from self._answer(request)).body.decode()
            except PilotfishError as error:
                reply = str(error)
            log.info("FileInterface reply message: %s", reply)
            yield Pause.MORE


def read(path: Path) -> Steps[list[object]]:
    """The requests of a file. Raises SettingsError, at once when the file cannot be read or is short and wrong."""
    try:
        file, size = _open(path)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeError as error:
        raise SettingsError(f"Wrong job description: {error}", where=str(path)) from error
    steps = _read(file, path)
    return steps if size > PIECE_BYTES else _all_there(finish(steps))


def _all_there(requests: list[object]) -> Steps[list[object]]:
    yield from ()
    return requests


def _open(path: Path) -> tuple[BinaryIO, int]:
    """(the file, at its first character, how large it is). What can be read only once, as a pipe, is read now."""
    file: BinaryIO = open(path, "rb")
    status = os.fstat(file.fileno())
    head = file.read(4) if stat.S_ISREG(status.st_mode) else b""
    encoding = json.detect_encoding(head)
    if stat.S_ISREG(status.st_mode) and encoding.startswith("utf-8"):
        file.seek(len(codecs.BOM_UTF8) if encoding == "utf-8-sig" else 0)
        return file, status.st_size
    with file:
        data = head + file.read()
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        data = data.decode(encoding, "surrogatepass").encode(errors="surrogatepass")
    return io.BytesIO(data), len(data)


def _read(file: BinaryIO, path: Path) -> Steps[list[object]]:
    try:
        with file:
            requests = yield from read_in_steps(file)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except FormError as error:
        raise SettingsError(f"Wrong job description: {error.what}", where=str(path)) from error
    if not isinstance(requests, list):
        raise SettingsError("Not an array of requests in json file", where=str(path))
    return requests
