"""JH UniScheduler: LSF's directives as `#JSUB`, its commands with another letter, its tables as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..description.resources import Resources
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing
from . import lsf
from .commands import BatchMachine
from .dialect import quoted, status_of

STATES: dict[str, tuple[JobState, str]] = {**lsf.STATES, "PSUSP": (JobState.running, "")}


def header(job: JobToPlace) -> list[str]:
    return lsf.directives(job, "JSUB", _gpus(job.resources))


def _gpus(resources: Resources) -> str:
    line = resources.kwargs.get("custom_gpu_line")
    if line is not None:
        return str(line)
    return f"-gpgpu {resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""


def listing(ids: Sequence[str]) -> str:
    return f"jjobs {quoted(ids)}"


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


class JH_UniScheduler(BatchMachine):
    kind = "JH_UniScheduler"
    dialect = replace(
        lsf.DIALECT,
        kind="JH_UniScheduler",
        header=header,
        submit="jsub < {script}",
        listing=listing,
        read_listing=read_listing,
        history=None,
        read_history=None,
        cancel=lambda ids: f"jctrl kill {quoted(ids)}",
    )
