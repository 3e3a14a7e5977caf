"""JH UniScheduler: LSF's directives as `#JSUB`, its commands with another letter, its tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..resources import Resources
from ..states import JobState, Status
from . import lsf
from .base import JobToPlace
from .batch import BatchMachine
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


def read_listing(text: str) -> dict[str, Status]:
    """A header, then `JOBID USER STAT ...`."""
    rows = [line.split() for line in text.splitlines()]
    return {row[0]: status_of(row[2], STATES) for row in rows if len(row) > 2 and row[0].isdigit()}


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
        cancel="jctrl kill {ids}",
        name_limit=0,
    )
