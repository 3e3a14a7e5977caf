"""What a command may ask of the controller, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...machines import slurm_facts
from .errors import Refusal
from .jobs import Job, Queue
from .request import Request, Site
from .view import Row, rows

MIN_JOB_AGE_S = 86400
"""For so long squeue still knows jobs that have ended."""


class Call(NamedTuple):
    """A command as it was called. `stdin`: what came in, for those that read it."""

    command: str
    words: Sequence[str]
    cwd: str
    environ: Mapping[str, str]
    stdin: str | None = None


class Answer(NamedTuple):
    """`wait_for`: the answer is complete when these jobs have ended; its code is then the largest of theirs."""

    out: str = ""
    err: str = ""
    code: int = 0
    wait_for: tuple[int, ...] = ()
    follow: bool = False
    """srun: print what the job writes."""


NEEDS_STDIN = Answer(code=-1)
"""The command has to read its stdin and ask again."""


class Desk(Protocol):
    """The controller, as the commands see it."""

    queue: Queue
    site: Site

    def now(self) -> float: ...

    def submit(self, request: Request) -> int:
        """The id. Raises Refusal when the pilot does not take it."""

    def cancel(self, jobs: Sequence[Job]) -> None: ...

    def hold(self, jobs: Sequence[Job]) -> None: ...

    def requeue(self, jobs: Sequence[Job], hold: bool) -> None: ...

    def signal(self, job: Job, number: int, whom: str) -> None: ...

    def folder(self, job: Job) -> Path:
        """Where its files are."""

    def used(self) -> Mapping[str, tuple[int, int, int, str]]:
        """By node: cores, GPUs and MiB in use, and its state at the pilot."""


def version(command: str) -> Answer:
    return Answer(f"slurm {slurm_facts.VERSION}\n")


def named(desk: Desk, text: str) -> list[Job]:
    """The jobs of `12`, `12_3`, `12_[3-5]`; empty when there are none. Raises ValueError for what is no id."""
    number, mark, element = text.partition("_")
    base = number.partition(".")[0].partition("+")[0].partition(";")[0]
    if not (base.isascii() and base.isdigit()):
        raise ValueError(text)
    if not mark:
        return desk.queue.jobs_of(int(base))
    from .arrays import parse

    try:
        indices = parse(element.partition(".")[0]).indices
    except Refusal:
        raise ValueError(text) from None
    return [job for index in indices for job in desk.queue.jobs_of(int(base), index)]


def rows_of(desk: Desk, jobs: Sequence[Job], environ: Mapping[str, str], fold: bool = True) -> list[Row]:
    form = environ.get("SLURM_TIME_FORMAT", "")
    return list(rows(jobs, desk.queue, desk.site, desk.now(), form, fold))
