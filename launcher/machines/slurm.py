"""Slurm: `sbatch`, `squeue`, `sacct` (or `scontrol` where there is no accounting), `scancel`. Its arrays: slurm_array.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from ..contexts.shell import Text, sh, word, words
from ..description.schema import Key, KeysOfSystem
from ..job.spec import JobToPlace, JobVariables
from ..job.states import JobState, Listing, Status
from . import slurm_facts
from .commands import BatchMachine
from .dialect import GPU_LINE, Dialect, QueueRow, View, cluster_of, status_of
from .directives import Directives, tasks_and_threads

_KILL = 9
STATES: dict[str, tuple[JobState, str]] = {
    name: (state.means, state.reason) for name, state in slurm_facts.STATES.items()
}


def _values(job: JobToPlace) -> dict[str, Any]:
    """DPDispatcher's cores are what `srun` and MPI start; `tasks_per_node` gives them to fewer, with threads."""
    tasks, threads = tasks_and_threads(job.resources)
    return {"tasks": tasks or job.resources.cpu_per_node, "threads": threads if tasks else None}


def _one_program(cores: int) -> dict[str, Any]:
    """From 22.05 on `srun` does not take over what the job was given."""
    return {"kwargs": {"tasks_per_node": 1}, "envs": {"SRUN_CPUS_PER_TASK": cores} if cores > 1 else {}}


# sbatch(1).
DIRECTIVES = Directives(
    "#SBATCH",
    {
        "nodes": "--nodes {}",
        "tasks": "--ntasks-per-node {}",
        "threads": "--cpus-per-task {}",
        "gpus": "--gres=gpu:{}",
        "queue": "--partition {}",
        "name": "--job-name {}",
        "walltime": "--time {}",
        "account": "--account {}",
        "qos": "--qos {}",
        "memory": "--mem {}M",
        "exclusive": "--exclusive",
        "reservation": "--reservation {}",
        "dependency": "--dependency afterok:{}",
        "ppn": "--tasks-per-node {}",
        "megabytes": "--mem {}",
        "stdout": "--output {}",
        "stderr": "--error {}",
        "features": "--constraint={}",
        "begin": "--begin={}",
        "export": "--export={}",
    },
    values=_values,
    bare_ids=lambda text: re.sub(r";[\w.-]+", "", text),
    option="long",
    one_program=_one_program,
)

_ROW = re.compile(r"\d+([_+]\S+)?(\.\S+)?")
_STATE = re.compile(r"[A-Z_]+")
_HEADING = re.compile(r"CLUSTER: \S+")
_COMMAND = re.compile(r"(\d\S*)\|(/.*)\|(\S.*)")


def owner(name: str) -> str:
    """`101` of `101_4`, `101_[5-9%2]` (arrays), `101+0` (a part of a heterogeneous job) and `101;east`."""
    return re.split(r"[_+.;]", name, maxsplit=1)[0]


def on(ids: Sequence[str]) -> Text:
    """The option that asks the cluster that has these jobs; empty for the local one."""
    cluster = cluster_of(ids[0])
    return sh(" -M {cluster}", cluster=word(cluster)) if cluster else sh("")


def numbers_of(ids: Sequence[str]) -> list[str]:
    return [name.partition(";")[0] for name in ids]


def listing(ids: Sequence[str]) -> Text:
    numbers = word(",".join(numbers_of(ids)))
    return sh("SQUEUE_FEDERATION=1 squeue{on} -h -r -t all -o '%i|%T|%N|%r' -j {numbers}", on=on(ids), numbers=numbers)


def read_listing(text: str) -> Listing:
    found = Listing()
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) in (3, 4) and _ROW.fullmatch(words[0]) and _STATE.fullmatch(words[1]):
            why = words[3] if len(words) == 4 and words[3] != "None" else ""
            found.add(words[0], status_of(words[1], STATES, nodes=words[2], why=why))
        elif line.strip() and not _HEADING.fullmatch(line.strip()):
            found.unread.append(line)
    return found


FIND = sh(
    """\
me=$(id -un)
squeue -h -u "$me" -o '%i|%Z|%o'; code=$?
squeue -M all -h -u "$me" -o '%i|%Z|%o' 2>/dev/null
exit $code"""
)
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


_HISTORY = """\
export SLURM_TIME_FORMAT=%s SACCT_FEDERATION=1
sacct{on} -P -n -X -j {all} -o JobID,State,ExitCode,Start,End,NodeList 2>/dev/null ||
  for id in {each}; do scontrol{on} -o show job $id 2>/dev/null; done
true"""


def history(ids: Sequence[str]) -> Text:
    """Accounting; where there is none, what the controller still remembers (MinJobAge). Times are seconds since the epoch."""
    numbers = numbers_of(ids)
    return sh(_HISTORY, on=on(ids), all=word(",".join(numbers)), each=words(numbers))


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


def cancel(ids: Sequence[str]) -> Text:
    return sh("scancel{on} -Q {numbers}", on=on(ids), numbers=words(numbers_of(ids)))


def _ended(words: Sequence[str]) -> Status:
    _, state, code, start, end, nodes = words
    state = state.split()[0]  # "CANCELLED by 1000"
    number, signal = slurm_facts.read_exit_status(code)
    if signal:
        number = 128 + (_KILL if signal == slurm_facts.OUT_OF_MEMORY_SIGNAL else signal)
    nodes = "" if nodes in ("None assigned", "(null)") else nodes
    return status_of(state, STATES, exit_code=number, start_s=_time(start), end_s=_time(end), nodes=nodes)


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() else None


DIALECT = Dialect(
    kind="Slurm",
    directives=DIRECTIVES,
    submit="sbatch --parsable {script}",
    submit_dependent="sbatch --parsable --kill-on-invalid-dep=yes {script}",
    id_in_words=(
        (r"^.*Submitted batch job ([0-9]+) on cluster ([A-Za-z0-9_.-]*[A-Za-z0-9_-]).*$", r"\1;\2"),
        (rf"^.*{slurm_facts.SUBMITTED.format('([0-9]+)')}.*$", r"\1"),
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
    gone=(slurm_facts.UNKNOWN_JOB,),
    # What follows is in slurm_errno.c and job_state_reason.c.
    busy=(
        "Socket timed out on send/recv operation",
        "Unable to contact slurm controller",
        "Zero Bytes were transmitted or received",
        "Slurm temporarily unable to accept job",
        "Rate limit exceeded, please retry",
        "Communication (connection|shutdown) failure",
        "Message (send|receive) failure",
        "Connection timed out",
        "backup controller in standby mode",
        "Protocol authentication error",
        "writing script/environment to file",
    ),
    # The first line of sbatch's message names the limit, the second speaks of all of them.
    refused=(
        r"\b(QOS|Assoc)(?!\w*(Submit|MaxJobs|GrpJobs|GrpMaxJobs)|JobLimit)"
        r"\w*(Wall|Node|Cpu|Gres|TRES|Mem|Bill|BB|Energy|License|Limit|Satisf)",
        r"\bMax(BB|Billing|Cpu|Energy|GRES|Node|License|Memory|Unknown)PerAccount",
        r"\b(Partition(Time|Node)Limit|MaxMemPerLimit)",
    ),
    full=(
        r"\b(QOS|Assoc)\w*(Submit|MaxJobs|GrpJobs|GrpMaxJobs|JobLimit)",
        r"\bMax(Submit)?JobsPerAccount",
        r"Job violates accounting/QOS policy",
        "MaxJobCount limit reached",
        "Reached the maximum number of jobs",
        "Job count limit",
        "Too many (simultaneous )?jobs",
        "System submissions disabled",
        "Required partition not available",
        "Partition in DOWN state",
    ),
    # squeue(1), "JOB REASON CODES": not those of which it says that they may be for nodes that are away.
    never=(
        r"^DependencyNeverSatisfied",
        r"^(QOS|Assoc)Max\w*PerJob(Limit)?$",
        r"^(QOS|Assoc)Max\w*PerNode$",
        r"^QOSMin",
        r"^PartitionTimeLimit",
        r"^(BadConstraints|InvalidAccount|InvalidQOS|MaxMemPerLimit|ReservationDeleted)$",
        r"^(JobHeldAdmin|JobHoldMaxRequeue)$",
        r"^launch failed requeued held",
    ),
    outputs=lambda job_id: (f"slurm-{owner(job_id)}.out", f"slurm-{owner(job_id)}_*.out"),
)


# --- the whole queue ----------------------------------------------------------------------------------------------------------


def _clustered(command: str, cluster: str, *words: str) -> list[str]:
    return [command, *(["-M", cluster] if cluster else []), *words]


def _listed(cluster: str, everybody: bool) -> list[str]:
    return _clustered("squeue", cluster, "-h", "-t", "all", "-o", "%i|%j|%u|%P|%T|%N|%D|%C")


def _accounted(cluster: str, everybody: bool) -> list[str]:
    fields = "jobid,jobname,user,partition,state,nodelist,reqnodes,ncpus,exitcode"
    return _clustered("sacct", cluster, "-nP", "-o", fields, *(["-a"] if everybody else []))


def _read_listed(text: str) -> Iterator[QueueRow]:
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) >= 8:  # a name may have a bar in it
            user, partition, state, nodes, _, cpus = fields[-6:]
            yield QueueRow(fields[0], "|".join(fields[1:-6]), user, partition, state.lower(), nodes, _whole(cpus))


def _read_accounted(text: str) -> Iterator[QueueRow]:
    """Steps are left out."""
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) < 9 or "." in fields[0]:
            continue
        user, partition, state, nodes, _, cpus, code = fields[-7:]
        word = state.split()[0].rstrip("+") if state.split() else ""
        ended = word not in STATES or STATES[word][0].ended
        exit_code = _exit_code(code) if ended else None
        name = "|".join(fields[1:-7])
        yield QueueRow(fields[0], name, user, partition, word.lower(), nodes, _whole(cpus), exit_code)


def _exit_code(text: str) -> int:
    """Of `3:0`, `0:15`."""
    code, signal = slurm_facts.read_exit_status(text)
    return 128 + signal if signal else code or 0


def _whole(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


_TASKS = Key(
    "tasks_per_node", "int", None, "what `srun` starts on a node, each with its share of the cores", ours=True, least=1
)


class Slurm(BatchMachine):
    kind = "Slurm"
    aliases: ClassVar[tuple[str, ...]] = ("slurm",)
    dialect = DIALECT
    keys = KeysOfSystem((GPU_LINE, _TASKS))
    variables = JobVariables(  # sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"
        id=("SLURM_JOB_ID",),
        element=("SLURM_ARRAY_TASK_ID",),
        part="SLURM_ARRAY_TASK_ID",
        submit_host=("SLURM_SUBMIT_HOST",),
        submit_folder=("SLURM_SUBMIT_DIR",),
        nodes=("SLURM_JOB_NODELIST",),
    )
    commands = ("sbatch", "squeue", "scancel")
    helpful_commands: ClassVar[tuple[str, ...]] = ("sacct",)
    queue_check = "sinfo -h -o %R -p {queue}"
    views = (View(_accounted, _read_accounted), View(_listed, _read_listed))
    script_suffix = ".slr"
