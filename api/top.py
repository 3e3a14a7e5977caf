"""`pilotfish top`: a live picture of a pilot in a terminal.

A thread asks the pilot, so that keys work while an answer is on its way; everything else is done in one loop, which sleeps
until a key, an answer or a new size of the terminal comes. One small request a second is all that the pilot has of it, however
much runs there.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from ..pilot.model.errors import LostError, PilotfishError
from ..pilot.wire import connection
from ..pilot.wire.overview import Overview
from ..pilot.wire.streams import Index, Part
from .keyboard import Keyboard
from .manager import Manager
from .task_output import tail_of
from .top_screen import screen
from .top_view import Action, Cancel, Look, Quit, View

INTERVAL_S = 1.0
_LIMIT = 200


class Asker:
    """Asks a pilot again and again. `wake` is written to when there is an answer, or an error instead."""

    def __init__(self, pilot: Manager, interval_s: float, match: str, wake: socket.socket) -> None:
        self._pilot = pilot
        self._interval_s = interval_s
        self._wake = wake
        self._now = threading.Event()
        self._ends = False
        self.match = match
        self.seen: Overview | None = None
        self.error: PilotfishError | None = None
        """Why the last question had no answer."""
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._now.set()

    def ask_now(self) -> None:
        self._now.set()

    def _run(self) -> None:
        while not self._ends:
            self._now.clear()
            try:
                self.seen, self.error = self._pilot.client.overview(_LIMIT, self.match), None
            except PilotfishError as error:
                self.error = error
            if not self._ends:
                with suppress(OSError):
                    self._wake.send(b"a")
                self._now.wait(self._interval_s)


class Files:
    """What tasks have written, where the pilot's own folder shows that its files are to be seen from here.

    The folder is named by the pilot; whether it is the same one here is looked at, as paths of other machines may exist.
    """

    def __init__(self, seen: Overview) -> None:
        aux = Path(seen.pilot.wd) / f"{connection.AUX_PREFIX}{seen.pilot.id}"
        self._aux: Path | None = None
        with suppress(PilotfishError):
            if connection.read(aux / connection.FILE_NAME).instance_id == seen.pilot.id:
                self._aux = aux

    def tail(self, task: str, path: str, of_stderr: bool, lines: int) -> str:
        """The last lines of a task's file, or of what of it is in the streams of the pilot; empty when there are none."""
        if self._aux is None:
            return ""
        part = Part(Path(path), 0, None) if path not in ("", os.devnull) else Index(self._aux).part(task, of_stderr)
        return "" if part is None else tail_of(part, lines)


def picture(seen: Overview, files: Files, width: int) -> list[Text]:
    """All there is to say, once."""
    return screen(seen, View(), None, files, width=width)


class Top:
    """One `pilotfish top` on a terminal, from its beginning to its end."""

    def __init__(self, pilot: Manager, interval_s: float, match: str) -> None:
        self._pilot = pilot
        self._interval_s = interval_s
        self._view = View(filter=match)
        self._seen: Overview | None = None
        self._files: Files | None = None
        self._console = Console(highlight=False)
        self.ended = ""
        """Why it ended by itself."""

    def run(self) -> None:
        """Until the key to leave, or until the pilot has ended. Raises LostError when it cannot be reached any more."""
        with ExitStack() as stack:
            wake, wake_end = map(stack.enter_context, socket.socketpair())
            wake_end.setblocking(False)
            stack.enter_context(_told_of_sizes(wake_end))
            keyboard = stack.enter_context(Keyboard(sys.stdin.fileno())) if sys.stdin.isatty() else None
            asker = stack.enter_context(Asker(self._pilot, self._interval_s, self._view.filter, wake_end))
            live = stack.enter_context(Live(console=self._console, screen=True, auto_refresh=False))
            sources = [wake.fileno(), *([keyboard.descriptor] if keyboard else [])]
            while True:
                ready = select.select(sources, [], [])[0]
                if wake.fileno() in ready:
                    wake.recv(4096)
                    if self._take(asker):
                        return
                if keyboard is not None and keyboard.descriptor in ready:
                    for key in keyboard.read():
                        action = self._view.press(key, self._seen)
                        if isinstance(action, Quit):
                            return
                        self._act(action, asker)
                self._draw(live, asker)

    def _take(self, asker: Asker) -> bool:
        """Look at what has come; whether this is the end."""
        error = asker.error
        if isinstance(error, LostError) and "has ended" in error.what:
            self.ended = error.what
            return True
        if error is not None and self._seen is None:
            raise error
        if asker.seen is not None and not self._view.stands_still:
            self._seen = asker.seen
            self._files = self._files or Files(self._seen)
        return False

    def _act(self, action: Action | None, asker: Asker) -> None:
        if isinstance(action, Look):
            asker.match = self._view.filter
        elif isinstance(action, Cancel):
            try:
                done = self._pilot.client.cancel([action.name])
                self._view.message = next(iter((done.errors or {}).values()), f"{action.name} is cancelled")
            except PilotfishError as error:
                self._view.message = str(error)
        if action is not None:
            asker.ask_now()

    def _draw(self, live: Live, asker: Asker) -> None:
        if self._seen is None or self._files is None:
            live.update(Text(" asking the pilot ..."), refresh=True)
            return
        # Asked of the terminal itself: COLUMNS and LINES, which rich prefers, are as old as the shell that exports them.
        width, height = os.get_terminal_size(sys.stdout.fileno())
        self._console.size = ConsoleDimensions(max(1, width), max(1, height))
        stale = f"no answer: {asker.error.what}" if asker.error is not None else ""
        lines = screen(self._seen, self._view, self._console.size, self._files, stale)
        live.update(Group(*lines), refresh=True)


@contextmanager
def _told_of_sizes(wake: socket.socket) -> Iterator[None]:
    """Write to `wake` when the terminal has another size."""

    def changed(_number: int, _frame: object) -> None:
        with suppress(OSError):
            wake.send(b"s")

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
