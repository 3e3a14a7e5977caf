"""What Slurm prints and reads, for both sides: who asks a real Slurm (slurm.py) and who answers like one (adapters/slurm).

From squeue(1), sacct(1), sbatch(1) and what Slurm 22.05 was seen to print.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from ...pilot.model.errors import UsageError
from ..job.states import JobState, Reason

VERSION = "22.05.8"
"""The Slurm whose outputs these are."""

OUT_OF_MEMORY_SIGNAL = 125
"""What Slurm calls a signal of its own (SIG_OOM) is the kernel's SIGKILL."""


class SlurmState(NamedTuple):
    """A row of JOB STATE CODES: its short form, and what the state means for a batch job of ours."""

    short: str
    means: JobState
    reason: str = ""


STATES: dict[str, SlurmState] = {
    "PENDING": SlurmState("PD", JobState.waiting),
    "CONFIGURING": SlurmState("CF", JobState.waiting),
    "REQUEUED": SlurmState("RQ", JobState.waiting),
    "REQUEUE_FED": SlurmState("RF", JobState.waiting),
    "REQUEUE_HOLD": SlurmState("RH", JobState.waiting),
    "RESV_DEL_HOLD": SlurmState("RD", JobState.waiting),
    "SPECIAL_EXIT": SlurmState("SE", JobState.waiting),
    "RUNNING": SlurmState("R", JobState.running),
    "RESIZING": SlurmState("RS", JobState.running),
    "SIGNALING": SlurmState("SI", JobState.running),
    "STAGE_OUT": SlurmState("SO", JobState.running),
    "STOPPED": SlurmState("ST", JobState.running),
    "SUSPENDED": SlurmState("S", JobState.running),
    "COMPLETING": SlurmState("CG", JobState.completing),
    "COMPLETED": SlurmState("CD", JobState.finished),
    "FAILED": SlurmState("F", JobState.terminated, Reason.PROGRAM),
    "TIMEOUT": SlurmState("TO", JobState.terminated, Reason.TIME),
    "DEADLINE": SlurmState("DL", JobState.terminated, Reason.TIME),
    "OUT_OF_MEMORY": SlurmState("OOM", JobState.terminated, Reason.MEMORY),
    "NODE_FAIL": SlurmState("NF", JobState.terminated, Reason.NODE),
    "BOOT_FAIL": SlurmState("BF", JobState.terminated, Reason.NODE),
    "LAUNCH_FAILED": SlurmState("LF", JobState.terminated, Reason.LAUNCH),
    "RECONFIG_FAIL": SlurmState("RC", JobState.terminated, Reason.LAUNCH),
    "PREEMPTED": SlurmState("PR", JobState.terminated, Reason.PREEMPTED),
    "CANCELLED": SlurmState("CA", JobState.terminated, Reason.CANCELED),
    "REVOKED": SlurmState("RV", JobState.unknown),  # in a federation another cluster has it: that one tells
}

UNKNOWN_JOB = "Invalid job id specified"
UNREACHABLE = "Unable to contact slurm controller (connect failure)"
SUBMITTED = "Submitted batch job {}"
NO_SCRIPT = (
    "This does not look like a batch script.  The first",
    "line must start with #! followed by the path to an interpreter.",
    "For instance: #!/bin/sh",
)

# --- times -----------------------------------------------------------------------------------------------------------

UNLIMITED_WORDS = ("unlimited", "infinite", "-1", "0")
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)


def minutes(text: str) -> int | None:
    """Of `MM`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`; None for no limit. Seconds count as a minute more.

    Raises UsageError for anything else.
    """
    if text.strip().lower() in UNLIMITED_WORDS:
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a time limit", remedy="write minutes, HH:MM:SS or D-HH:MM:SS")
    days, first, second, third = match.groups()
    if days is not None:
        seconds = (int(days) * 24 + int(first)) * 3600 + int(second or 0) * 60 + int(third or 0)
    elif third is not None:
        seconds = int(first) * 3600 + int(second) * 60 + int(third)
    else:
        seconds = int(first) * 60 + int(second or 0)
    return -(-seconds // 60)


def elapsed(seconds: float) -> str:
    """As squeue writes it: `0:05`, `1:00:00`, `1-00:00:00`."""
    days, hours, rest, rest_s = _parts(seconds)
    if days:
        return f"{days}-{hours:02}:{rest:02}:{rest_s:02}"
    return f"{hours}:{rest:02}:{rest_s:02}" if hours else f"{rest}:{rest_s:02}"


def full_elapsed(seconds: float) -> str:
    """As sacct and scontrol write it: `00:00:05`, `1-00:00:00`."""
    days, hours, rest, rest_s = _parts(seconds)
    return (f"{days}-" if days else "") + f"{hours:02}:{rest:02}:{rest_s:02}"


def _parts(seconds: float) -> tuple[int, int, int, int]:
    whole = max(0, int(seconds))
    return whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60


def moment(seconds: float | None, absent: str = "N/A", form: str = "") -> str:
    """Seconds since the epoch as Slurm prints them; `form`: what SLURM_TIME_FORMAT says."""
    if seconds is None:
        return absent
    return time.strftime("%Y-%m-%dT%H:%M:%S" if form in ("", "standard") else form, time.localtime(int(seconds)))


# --- exit codes -----------------------------------------------------------------------------------------------------


def exit_status(code: int, signal: int) -> str:
    """`3:0`, `0:9`."""
    return f"{code}:{signal}"


def read_exit_status(text: str) -> tuple[int | None, int]:
    """Exit code and signal of `3:0`; None where there is no code."""
    code, _, signal = text.partition(":")
    return (int(code) if code.isdigit() else None), (int(signal) if signal.isdigit() else 0)


# --- lists of hosts and indices -------------------------------------------------------------------------------------

_LAST_NUMBER = re.compile(r"(.*?)(\d+)")


def hostlist(names: Iterable[str]) -> str:
    """`node[1-3,7],login`: what `scontrol show hostlist` makes of names, in their order; only the last number is folded."""
    split = [
        (match[1], match[2]) if (match := _LAST_NUMBER.fullmatch(name)) is not None else (name, "") for name in names
    ]
    folded = []
    for prefix, same in groupby(split, key=lambda one: one[0]):
        numbers = [number for _, number in same]
        if numbers == [""] * len(numbers):
            folded += [prefix] * len(numbers)
        elif len(numbers) == 1:
            folded.append(prefix + numbers[0])
        else:
            folded.append(f"{prefix}[{_ranges(numbers)}]")
    return ",".join(folded)


def _ranges(numbers: list[str]) -> str:
    runs: list[list[str]] = []
    for number in numbers:
        last = runs[-1][-1] if runs else ""
        if last and int(number) == int(last) + 1 and (len(number) == len(last) or not number.startswith("0")):
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def indices(numbers: Iterable[int]) -> str:
    """`0-3,6`."""
    return _ranges([str(number) for number in numbers])


def mebibytes(text: str) -> int:
    """Of `4000`, `4G`, `512K`: MiB are meant without a letter; rounded up. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is not an amount of memory", remedy="write 500M or 2G")
    kib = float(match[1]) * {"K": 1, "": 1024, "M": 1024, "G": 1024**2, "T": 1024**3}[match[2].upper()]
    return int(-(-kib // 1024))


def memory(mib: int) -> str:
    """As squeue's %m: `100M`, `2G`."""
    for unit, size in (("T", 1024**2), ("G", 1024)):
        if mib and mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}M" if mib else "0"
