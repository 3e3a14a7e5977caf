"""Slurm: `sbatch`, `squeue`, `sacct` (or `scontrol` where there is no accounting), `scancel`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..resources import Resources
from ..states import JobState, Reason, Status
from .base import JobToPlace
from .batch import BatchMachine
from .dialect import Dialect, clock, job_name, quoted, status_of

_LIMIT = 128
_OUT_OF_MEMORY, _KILL = 125, 9
"""What Slurm calls a signal of its own (SIG_OOM) is the kernel's SIGKILL."""

# JOB STATE CODES of squeue(1).
STATES: dict[str, tuple[JobState, str]] = {
    "PENDING": (JobState.waiting, ""),
    "CONFIGURING": (JobState.waiting, ""),
    "REQUEUED": (JobState.waiting, ""),
    "REQUEUE_FED": (JobState.waiting, ""),
    "REQUEUE_HOLD": (JobState.waiting, ""),
    "RESV_DEL_HOLD": (JobState.waiting, ""),
    "SPECIAL_EXIT": (JobState.waiting, ""),
    "RUNNING": (JobState.running, ""),
    "RESIZING": (JobState.running, ""),
    "SIGNALING": (JobState.running, ""),
    "STAGE_OUT": (JobState.running, ""),
    "STOPPED": (JobState.running, ""),
    "SUSPENDED": (JobState.running, ""),
    "COMPLETING": (JobState.completing, ""),
    "COMPLETED": (JobState.finished, ""),
    "FAILED": (JobState.terminated, Reason.PROGRAM),
    "TIMEOUT": (JobState.terminated, Reason.TIME),
    "DEADLINE": (JobState.terminated, Reason.TIME),
    "OUT_OF_MEMORY": (JobState.terminated, Reason.MEMORY),
    "NODE_FAIL": (JobState.terminated, Reason.NODE),
    "BOOT_FAIL": (JobState.terminated, Reason.NODE),
    "LAUNCH_FAILED": (JobState.terminated, Reason.LAUNCH),
    "RECONFIG_FAIL": (JobState.terminated, Reason.LAUNCH),
    "PREEMPTED": (JobState.terminated, Reason.PREEMPTED),
    "CANCELLED": (JobState.terminated, Reason.CANCELLED),
    "REVOKED": (JobState.terminated, Reason.CANCELLED),
}


def header(job: JobToPlace) -> list[str]:
    resources = job.resources
    name = job_name(job.name or None, job.hash, _LIMIT, "")
    return [
        f"#SBATCH --nodes {resources.number_node}",
        f"#SBATCH --ntasks-per-node {resources.cpu_per_node}",
        _gpus(resources),
        f"#SBATCH --partition {resources.queue_name}" if resources.queue_name else "",
        f"#SBATCH --job-name {name}" if name else "",
        f"#SBATCH --time {clock(resources.walltime_s)}" if resources.walltime_s else "",
        f"#SBATCH --account {resources.account}" if resources.account else "",
        f"#SBATCH --qos {resources.qos}" if resources.qos else "",
        f"#SBATCH --mem {resources.memory_mib}M" if resources.memory_mib else "",
        "#SBATCH --exclusive" if resources.exclusive else "",
        f"#SBATCH --reservation {resources.reservation}" if resources.reservation else "",
        f"#SBATCH --dependency afterok:{':'.join(resources.dependency)}" if resources.dependency else "",
    ]


def _gpus(resources: Resources) -> str:
    line = resources.kwargs.get("custom_gpu_line")
    if line is not None:
        return str(line)
    return f"#SBATCH --gres=gpu:{resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""


def listing(ids: Sequence[str]) -> str:
    return f"squeue -h -r -t all -o '%i|%T|%N' -j {','.join(ids)}"


def read_listing(text: str) -> dict[str, Status]:
    found = {}
    for line in text.splitlines():
        words = line.split("|")
        if len(words) == 3:
            found[words[0].strip()] = status_of(words[1].strip(), STATES, nodes=words[2].strip())
    return found


def history(ids: Sequence[str]) -> str:
    """Accounting; where there is none, what the controller still remembers (MinJobAge). Times are seconds since the epoch."""
    fields = "JobID,State,ExitCode,Start,End,NodeList"
    return (
        f"export SLURM_TIME_FORMAT=%s; sacct -P -n -X -j {','.join(ids)} -o {fields} 2>/dev/null || "
        f"for id in {quoted(ids)}; do scontrol -o show job $id 2>/dev/null; done; true"
    )


def read_history(text: str) -> dict[str, Status]:
    found = {}
    for line in text.splitlines():
        if line.startswith("JobId="):
            facts = dict(re.findall(r"(\w+)=(\S*)", line))
            name = facts["JobId"]
            if facts.get("ArrayJobId") and facts.get("ArrayTaskId", "").isdigit():
                name = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"
            words = [
                name,
                *(facts.get(key, "") for key in ("JobState", "ExitCode", "StartTime", "EndTime", "NodeList")),
            ]
        else:
            words = line.split("|")
        if len(words) == 6 and words[1]:
            found[words[0]] = _ended(words)
    return found


def _ended(words: Sequence[str]) -> Status:
    _, state, code, start, end, nodes = words
    state = state.split()[0]  # "CANCELLED by 1000"
    exit_code, _, signal = code.partition(":")
    number = int(exit_code) if exit_code.isdigit() else None
    if signal.isdigit() and int(signal):
        number = 128 + (_KILL if int(signal) == _OUT_OF_MEMORY else int(signal))
    nodes = "" if nodes in ("None assigned", "(null)") else nodes
    return status_of(state, STATES, exit_code=number, start_s=_time(start), end_s=_time(end), nodes=nodes)


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() else None


DIALECT = Dialect(
    kind="Slurm",
    header=header,
    submit="sbatch --parsable {script}",
    id_pattern=r"^([0-9]+)(;.*)?$",
    listing=listing,
    read_listing=read_listing,
    history=history,
    read_history=read_history,
    cancel="scancel -Q {ids}",
    gone=("Invalid job id specified",),
    busy=(
        "Socket timed out on send/recv operation",
        "Unable to contact slurm controller",
        "Zero Bytes were transmitted or received",
        "Slurm temporarily unable to accept job",
    ),
    full=(
        r"Job violates accounting/QOS policy",
        "AssocMaxSubmitJobLimit",
        "QOSMaxSubmitJobPerUserLimit",
        "Reached the maximum number of jobs",
        "Job count limit",
    ),
    name_limit=_LIMIT,
)


class Slurm(BatchMachine):
    kind = "Slurm"
    dialect = DIALECT
