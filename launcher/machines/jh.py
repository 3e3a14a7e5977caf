"""JH UniScheduler: LSF's directives as `#JSUB`, its commands with another letter, its tables as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from ..contexts.shell import Text, sh, words
from ..description.schema import KeysOfSystem
from ..job.states import JobState, Listing
from . import lsf
from .dialect import GPU_LINE, QueueRow, View, row_word, status_of

STATES: dict[str, tuple[JobState, str]] = {**lsf.STATES, "PSUSP": (JobState.running, "")}


# Its directives are LSF's, but it takes no name and has its own word for GPUs.
DIRECTIVES = replace(
    lsf.DIRECTIVES,
    prefix="#JSUB",
    rows={name: row for name, row in lsf.DIRECTIVES.rows.items() if name != "name"} | {"gpus": "-gpgpu {}"},
)


def listing(ids: Sequence[str]) -> Text:
    return sh("jjobs {ids}", ids=words(ids))


def read_listing(text: str) -> Listing:
    """A header, then `JOBID USER STAT ...`; further hosts of a job stand below each other, far to the right."""
    found = Listing()
    for line in text.splitlines():
        row = line.split()
        if len(row) > 2 and re.fullmatch(r"\d+(\[\d+\])?", row[0]) and re.fullmatch("[A-Z]+", row[2]):
            found.add(row[0], status_of(row[2], STATES))
        elif row and row[0] != "JOBID" and not re.fullmatch(r" {20,}\S+", line):
            found.unread.append(line)
    return found


def _queue(cluster: str, everybody: bool) -> list[str]:
    return ["jjobs", *(["-u", "all"] if everybody else [])]


def _read_queue(text: str) -> Iterator[QueueRow]:
    """The table; the columns stand below their headings, and a job that waits has no host."""
    columns: dict[str, int] = {}
    for line in text.splitlines():
        row = line.split()
        if row[:1] == ["JOBID"]:
            columns = {match[0]: match.start() for match in re.finditer(r"\S+", line)}
        elif len(row) > 3 and re.fullmatch(r"\d+(\[\d+\])?", row[0]) and row[2] in STATES:
            shown = "suspended" if row[2].endswith("SUSP") else row_word(status_of(row[2], STATES))
            host, name = (_cell(line, columns.get(column)) for column in ("EXEC_HOST", "JOB_NAME"))
            yield QueueRow(row[0], name, row[1], row[3], shown, host, 0)


def _cell(line: str, start: int | None) -> str:
    return "" if start is None or line[start : start + 1].isspace() else (line[start:].split() or [""])[0]


class JH_UniScheduler(lsf.LSF):
    kind = "JH_UniScheduler"
    aliases: ClassVar[tuple[str, ...]] = ("jh",)
    keys = KeysOfSystem((GPU_LINE,), wanted=True)
    commands = ("jsub", "jjobs", "jctrl")
    helpful_commands: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[tuple[View, ...]] = (View(_queue, _read_queue),)
    queue_check = ""
    script_suffix = ".sh"
    dialect = replace(
        lsf.DIALECT,
        kind="JH_UniScheduler",
        directives=DIRECTIVES,
        submit="jsub < {script}",
        listing=listing,
        read_listing=read_listing,
        history=None,
        read_history=None,
        reasons=None,
        read_reasons=None,
        cancel=lambda ids: sh("jctrl kill {ids}", ids=words(ids)),
    )
