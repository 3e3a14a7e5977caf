"""What somebody who looks at `pilotfish top` has chosen, and what each key does to that. No terminal and no pilot here."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import NamedTuple

from ..pilot.wire.overview import Overview

PANES = ("nodes", "running", "queue", "failures", "log")
HELP = (
    "Tab, 1 to 5     the next part of the screen, or the one of this number: it gets most of the room",
    "up, down, j, k  choose a line; PgUp, PgDn, g, G go further",
    "/               show only running tasks and nodes with this text (Enter ends, Esc clears)",
    "c               cancel the chosen task (of the queue: the job that is next)",
    "t, Enter        what the chosen task has written",
    "e               of that: stdout or stderr",
    "space           stand still, and go on",
    "q, Ctrl-C       leave; the pilot goes on",
)


class Quit(NamedTuple):
    """Leave."""


class Cancel(NamedTuple):
    """Cancel a job or task."""

    name: str


class Look(NamedTuple):
    """The filter has changed: ask the pilot again."""


Action = Quit | Cancel | Look


class Chosen(NamedTuple):
    """A task on the screen, with the names of its files."""

    task: str
    stdout: str
    stderr: str


@dataclass
class View:
    """`typing`: the filter as it is being typed; `question`: the job that is to be cancelled, if the next key says so."""

    pane: str = "running"
    line: int = 0
    filter: str = ""
    typing: str | None = None
    question: str | None = None
    shows_help: bool = False
    output: Chosen | None = None
    of_stderr: bool = False
    stands_still: bool = False
    message: str = ""

    def press(self, key: str, seen: Overview | None) -> Action | None:
        """Take a key: a character, or the name of one (`up`, `enter`, `esc` …). Returns what is to be done besides."""
        if key == "ctrl-c":
            return Quit()
        self.message = ""
        if self.typing is not None:
            return self._type(key)
        if self.question is not None:
            name, self.question = self.question, None
            return Cancel(name) if key in ("y", "Y") else None
        if self.shows_help or self.output is not None:
            return self._leave_page(key)
        return self._command(key, seen)

    def _type(self, key: str) -> Action | None:
        assert self.typing is not None
        if key == "enter":
            self.filter, self.typing, self.line = self.typing, None, 0
            return Look()
        if key == "esc":
            self.filter, self.typing = "", None
            return Look()
        if key == "backspace":
            self.typing = self.typing[:-1]
        elif len(key) == 1:
            self.typing += key
        return None

    def _leave_page(self, key: str) -> Action | None:
        if key == "e" and self.output is not None:
            self.of_stderr = not self.of_stderr
            return None
        if key == "q" and self.shows_help:
            return Quit()
        if key in ("esc", "q", "t", "enter", "?", "h"):
            self.shows_help, self.output = False, None
        return None

    def _command(self, key: str, seen: Overview | None) -> Action | None:
        if key == "q":
            return Quit()
        if key in ("?", "h"):
            self.shows_help = True
        elif key == "/":
            self.typing = self.filter
        elif key == "esc" and self.filter:
            self.filter = ""
            return Look()
        elif key == " ":
            self.stands_still = not self.stands_still
        elif key == "tab" or (key.isdigit() and 1 <= int(key) <= len(PANES)):
            at = (PANES.index(self.pane) + 1) % len(PANES) if key == "tab" else int(key) - 1
            self.pane, self.line = PANES[at], 0
        elif key in _STEPS:
            self.line = min(max(0, self.line + _STEPS[key]), max(0, self.count(seen) - 1))
        elif key == "c":
            self.question = self._name_to_cancel(seen)
            self.message = "" if self.question else "choose a running task, or something of the queue"
        elif key in ("t", "enter"):
            self.output, self.of_stderr = self.chosen(seen), self.pane == "failures"
            self.message = "" if self.output else "choose a running task or a failure"
        return None

    def count(self, seen: Overview | None) -> int:
        """How many lines can be chosen in this pane."""
        if seen is None:
            return 0
        lists: tuple[Sized, ...] = (seen.nodes, seen.running, seen.queue, seen.failures, seen.log)
        return len(lists[PANES.index(self.pane)])

    def chosen(self, seen: Overview | None) -> Chosen | None:
        """The task on the line that is chosen."""
        if seen is None or self.pane not in ("running", "failures"):
            return None
        entries = seen.running if self.pane == "running" else seen.failures
        if self.line >= len(entries):
            return None
        entry = entries[self.line]
        return Chosen(entry.task, entry.stdout, entry.stderr)

    def _name_to_cancel(self, seen: Overview | None) -> str | None:
        if seen is not None and self.pane == "queue" and self.line < len(seen.queue):
            return seen.queue[self.line].first.partition(":")[0]
        task = self.chosen(seen) if self.pane == "running" else None
        return None if task is None else task.task


_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -10, "pgdn": 10, "g": -1_000_000, "G": 1_000_000}
