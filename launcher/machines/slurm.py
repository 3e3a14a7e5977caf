"""Slurm: `sbatch`, `squeue`, `sacct` (or `scontrol` where there is no accounting), `scancel`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ..description.resources import Resources
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .commands import BatchMachine
from .dialect import Dialect, clock, cluster_of, job_name, quoted, status_of

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
        *_cores(resources),
        _gpus(resources),
        f"#SBATCH --partition {resources.queue_name}" if resources.queue_name else "",
        f"#SBATCH --job-name {name}" if name else "",
        f"#SBATCH --time {clock(resources.walltime_s)}" if resources.walltime_s else "",
        f"#SBATCH --account {resources.account}" if resources.account else "",
        f"#SBATCH --qos {resources.qos}" if resources.qos else "",
        f"#SBATCH --mem {resources.memory_mib}M" if resources.memory_mib else "",
        "#SBATCH --exclusive" if resources.exclusive else "",
        f"#SBATCH --reservation {resources.reservation}" if resources.reservation else "",
        f"#SBATCH --dependency afterok:{':'.join(_numbers(resources.dependency))}" if resources.dependency else "",
    ]


def _cores(resources: Resources) -> list[str]:
    """DPDispatcher's cores are what `srun` and MPI start; `tasks_per_node` gives them to fewer, with threads."""
    tasks = resources.kwargs.get("tasks_per_node")
    if tasks is None:
        return [f"#SBATCH --ntasks-per-node {resources.cpu_per_node}"]
    each = -(-resources.cpu_per_node // tasks)
    return [f"#SBATCH --ntasks-per-node {tasks}", f"#SBATCH --cpus-per-task {each}"]


def _gpus(resources: Resources) -> str:
    line = resources.kwargs.get("custom_gpu_line")
    if line is not None:
        return str(line)
    return f"#SBATCH --gres=gpu:{resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""


_ROW = re.compile(r"\d+([_+]\S+)?(\.\S+)?")
_STATE = re.compile(r"[A-Z_]+")
_HEADING = re.compile(r"CLUSTER: \S+")
_COMMAND = re.compile(r"(\d\S*)\|(/.*)\|(\S.*)")


def owner(name: str) -> str:
    """`101` of `101_4`, `101_[5-9%2]` (arrays), `101+0` (a part of a heterogeneous job) and `101;east`."""
    return re.split(r"[_+.;]", name, maxsplit=1)[0]


def _on(ids: Sequence[str]) -> str:
    """The option that asks the cluster that has these jobs; empty for the local one."""
    cluster = cluster_of(ids[0])
    return f" -M {shlex.quote(cluster)}" if cluster else ""


def _numbers(ids: Sequence[str]) -> list[str]:
    return [name.partition(";")[0] for name in ids]


def listing(ids: Sequence[str]) -> str:
    return f"squeue{_on(ids)} -h -r -t all -o '%i|%T|%N' -j {quoted([','.join(_numbers(ids))])}"


def read_listing(text: str) -> Listing:
    found = Listing()
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 3 and _ROW.fullmatch(words[0]) and _STATE.fullmatch(words[1]):
            found.add(words[0], status_of(words[1], STATES, nodes=words[2]))
        elif line.strip() and not _HEADING.fullmatch(line.strip()):
            found.unread.append(line)
    return found


FIND = """\
me=$(id -un)
squeue -h -u "$me" -o '%i|%Z|%o'; code=$?
squeue -M all -h -u "$me" -o '%i|%Z|%o' 2>/dev/null
exit $code"""
"""Here, then on all clusters, where accounting knows of any."""


def read_find(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    rows: dict[str, tuple[str, str]] = {}
    unread, cluster = [], ""
    for line in text.splitlines():
        if _HEADING.fullmatch(line.strip()):
            cluster = f";{line.split()[1]}"
        elif match := _COMMAND.fullmatch(line.strip()):
            path = match[3] if match[3].startswith("/") else f"{match[2]}/{match[3]}"  # as it was submitted
            rows.setdefault(owner(match[1]), (f"{owner(match[1])}{cluster}", path))
        elif line.strip() and not re.match(r"\d\S*\|", line):  # jobs without a script have none here
            unread.append(line)
    return list(rows.values()), unread


def history(ids: Sequence[str]) -> str:
    """Accounting; where there is none, what the controller still remembers (MinJobAge). Times are seconds since the epoch."""
    fields, numbers = "JobID,State,ExitCode,Start,End,NodeList", _numbers(ids)
    return (
        f"export SLURM_TIME_FORMAT=%s; sacct{_on(ids)} -P -n -X -j {quoted([','.join(numbers)])} -o {fields} 2>/dev/null || "
        f"for id in {quoted(numbers)}; do scontrol{_on(ids)} -o show job $id 2>/dev/null; done; true"
    )


def read_history(text: str) -> Listing:
    found = Listing()
    for line in text.splitlines():
        if line.startswith("JobId="):
            facts = dict(re.findall(r"(\w+)=(\S*)", line))
            name = facts["JobId"]
            if facts.get("ArrayJobId") and facts.get("ArrayTaskId", "").isdigit():
                name = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"
            elif facts.get("HetJobId"):
                name = f"{facts['HetJobId']}+{facts.get('HetJobOffset', '0')}"
            words = [
                name,
                *(facts.get(key, "") for key in ("JobState", "ExitCode", "StartTime", "EndTime", "NodeList")),
            ]
        else:
            words = line.split("|")
        if len(words) == 6 and _ROW.fullmatch(words[0]) and "." not in words[0] and words[1].strip():
            found.add(words[0], _ended(words))
        elif line.strip():
            found.unread.append(line)
    return found


def cancel(ids: Sequence[str]) -> str:
    return f"scancel{_on(ids)} -Q {quoted(_numbers(ids))}"


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
    submit_dependent="sbatch --parsable --kill-on-invalid-dep=yes {script}",
    id_in_words=(
        (r"^.*Submitted batch job ([0-9]+) on cluster ([A-Za-z0-9_.-]*[A-Za-z0-9_-]).*$", r"\1;\2"),
        (r"^.*Submitted batch job ([0-9]+).*$", r"\1"),
    ),
    id_alone=(
        (r"^ *([0-9]+;[A-Za-z0-9_.-]+) *$", r"\1"),
        (r"^ *([0-9]+) *$", r"\1"),
    ),
    listing=listing,
    read_listing=read_listing,
    history=history,
    read_history=read_history,
    cancel=cancel,
    find=FIND,
    read_find=read_find,
    owner=owner,
    gone=("Invalid job id specified",),
    busy=(
        "Socket timed out on send/recv operation",
        "Unable to contact slurm controller",
        "Zero Bytes were transmitted or received",
        "Slurm temporarily unable to accept job",
    ),
    # The first line of sbatch's message names the limit, the second speaks of all of them.
    refused=(
        r"\b(QOS|Assoc)(?!\w*(Submit|MaxJobs|GrpJobs|GrpMaxJobs)|JobLimit)\w*(Wall|Node|Cpu|Gres|TRES|Mem|Bill|BB|Limit|Satisf)",
        r"\bPartition(Time|Node)Limit",
    ),
    full=(
        r"\b(QOS|Assoc)\w*(Submit|MaxJobs|GrpJobs|GrpMaxJobs|JobLimit)",
        r"Job violates accounting/QOS policy",
        "Reached the maximum number of jobs",
        "Job count limit",
        "Too many (simultaneous )?jobs",
    ),
)


class Slurm(BatchMachine):
    kind = "Slurm"
    dialect = DIALECT
