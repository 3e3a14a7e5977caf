"""PBS Pro and OpenPBS: `qsub`, `qstat -x -f` (with the history where the server keeps one), `qdel`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import ClassVar

from ..contexts.shell import Text, sh, words
from ..description.resources import Resources
from ..description.schema import Key, KeysOfSystem
from ..job.spec import JobVariables
from ..job.states import JobState, Listing, Reason, Status
from .commands import BatchMachine
from .dialect import Dialect, QueueRow, View, row_word
from .directives import Directives, tasks_and_threads

# qstat(1B), "Job States"; E is still there: its processes are being ended.
STATES: dict[str, tuple[JobState, str]] = {
    "Q": (JobState.waiting, ""),
    "H": (JobState.waiting, ""),
    "W": (JobState.waiting, ""),
    "T": (JobState.waiting, ""),
    "M": (JobState.waiting, ""),
    "R": (JobState.running, ""),
    "B": (JobState.running, ""),
    "S": (JobState.running, ""),
    "U": (JobState.running, ""),
    "E": (JobState.completing, ""),
    "F": (JobState.finished, ""),
    "X": (JobState.finished, ""),
}

# Of the server, below 0 (Big Book, "Job Exit Status Codes").
_SERVER_CODES = {
    -1: Reason.LAUNCH,
    -2: Reason.LAUNCH,
    -3: Reason.LAUNCH,
    -4: Reason.NODE,
    -5: Reason.NODE,
    -26: Reason.MEMORY,
    -27: Reason.MEMORY,
    -28: Reason.TIME,
    -29: Reason.TIME,
}
_KILLED = 256
"""An exit status above it is this plus the signal that killed the script: 271 after qdel."""


def _select(resources: Resources) -> list[str]:
    tasks, threads = tasks_and_threads(resources)
    ranks = f":mpiprocs={tasks}:ompthreads={threads}" if tasks else ""
    gpus = f":ngpus={resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""
    memory = f":mem={resources.memory_mib}mb" if resources.memory_mib else ""
    return [f"-l select={resources.number_node}:ncpus={resources.cpu_per_node}{ranks}{gpus}{memory}"]


COMMON = {
    "one_output": "-j oe",
    "queue": "-q {}",
    "name": "-N {}",
    "walltime": "-l walltime={}",
    "account": "-A {}",
    "dependency": "-W depend=afterok:{}",
}
FOR_OTHERS = {"megabytes": "-l mem={}m", "stdout": "-o {}", "stderr": "-e {}", "export": "-v {}"}

# qsub(1B); select and place: pbs_resources(7B).
DIRECTIVES = Directives(
    "#PBS",
    {"nodes": _select, **COMMON, "exclusive": "-l place=excl", "memory": "", "gpus": "", **FOR_OTHERS},
    values=lambda job: {"one_output": True},
    name_limit=15,
    name_prefix="j-",
    option="listed",
)


def owner(name: str) -> str:
    """Without the server's name, which may be written short or long; `123[]` of the member `123[4]` of an array."""
    return re.sub(r"\[\d+\]", "[]", name.partition(".")[0])


def listing(ids: Sequence[str]) -> Text:
    return sh("qstat -x -f {ids}", ids=words(ids))


def without_history(ids: Sequence[str]) -> Text:
    return sh("qstat -f {ids}", ids=words(ids))


def read_listing(text: str) -> Listing:
    return listed(text, STATES, _SERVER_CODES)


def listed(text: str, states: Mapping[str, tuple[JobState, str]], server_codes: Mapping[int, str]) -> Listing:
    jobs, unread = blocks(text)
    found = Listing(unread=unread)
    for name, facts in jobs:
        found.add(name, status(facts, states, server_codes))
    return found


def blocks(text: str) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """(job id, attributes) of `qstat -f`: `Job Id: X`, then `    name = value`; long values go on behind a tab.

    Wrappers around another batch system put a tab before each attribute. The second list has the lines that were not
    understood; where the same attribute comes once more the head of another job's block was one.
    """
    found: list[tuple[str, dict[str, str]]] = []
    unread: list[str] = []
    for line in re.sub(r"\n\t(?![A-Za-z_.]+ = )", "", text).splitlines():
        if match := re.fullmatch(r"Job Id:\s*(\d\S*)\s*", line):
            found.append((match[1], {}))
        elif found and (match := re.fullmatch(r"\s+([A-Za-z_.]+) = ?(.*)", line)) and match[1] not in found[-1][1]:
            found[-1][1][match[1]] = match[2].strip()
        elif line.strip():
            unread.append(line)
    return found, unread


FIND = sh(
    """\
command -v qselect >/dev/null 2>&1 || exit 0
jobs=$(qselect -u "$(id -un)") || exit
[ -z "$jobs" ] || qstat -f $jobs"""
)


def read_find(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The path of the script of each: what was submitted, in the folder where that was done."""
    jobs, unread = blocks(text)
    rows = []
    for name, facts in jobs:
        words = (facts.get("Submit_arguments") or facts.get("submit_args", "")).split()
        folder = re.search(r"PBS_O_WORKDIR=([^,]*)", facts.get("Variable_List", ""))
        if words and folder and facts.get("job_state") not in ("F", "X", "C"):
            rows.append((name, f"{folder[1]}/{words[-1]}"))
    return rows, unread


def status(
    facts: Mapping[str, str], states: Mapping[str, tuple[JobState, str]], server_codes: Mapping[int, str]
) -> Status:
    word = facts.get("job_state", "")
    state, reason = states.get(word, (JobState.unknown, ""))
    code = int(facts["Exit_status"]) if re.fullmatch(r"-?\d+", facts.get("Exit_status", "")) else None
    if state is JobState.finished and code:
        state, reason = JobState.terminated, server_codes.get(code, Reason.PROGRAM)
        if code > _KILLED:
            code, reason = 128 + code - _KILLED, Reason.CANCELED
    nodes = re.sub(r"/[^+]*", "", facts.get("exec_host", "")).replace("+", ",")
    start_s, end_s = _time(facts, "stime", "start_time"), _time(facts, "obittime", "comp_time")
    why = _why(facts) if state is JobState.waiting else ""
    return Status(state, word, reason, code, start_s, end_s, nodes, why)


def _why(facts: Mapping[str, str]) -> str:
    """The scheduler's comment, or who holds it: a job that others must precede is held by the system as well."""
    held = re.sub("n", "", facts.get("Hold_Types", ""))
    if facts.get("comment"):
        return facts["comment"]
    if held and "depend" in facts:
        return "waits for other jobs"
    return {"u": "held by the user", "s": _HELD, "o": _HELD}.get(held[:1], "")


_HELD = "held by the system"


def _time(facts: Mapping[str, str], *names: str) -> float | None:
    """`Fri Nov 20 21:37:37 2026`, in the local time of the machine."""
    for name in names:
        try:
            day, month, number, clock_, year = facts[name].split()
            return parsedate_to_datetime(f"{day}, {number} {month} {year} {clock_}").timestamp()
        except (KeyError, ValueError):
            continue
    return None


DIALECT = Dialect(
    kind="PBS",
    directives=DIRECTIVES,
    submit="qsub {script}",
    id_alone=(
        (r"^ *([0-9]+(\[\])?\.[A-Za-z0-9_.@-]+) *$", r"\1"),
        (r"^ *([0-9]+(\[\])?) *$", r"\1"),
    ),
    listing=listing,
    read_listing=read_listing,
    without_history=("not configured to maintain job history", without_history),
    cancel=lambda ids: sh("qdel {ids}", ids=words(ids)),
    find=FIND,
    read_find=read_find,
    owner=owner,
    gone=("Unknown Job Id", "Job has finished"),
    # What follows is in pbs_messages.c of OpenPBS and pbs_error_db.h of Torque.
    busy=(
        "cannot connect to server",
        "Connection (refused|timed out)",
        "Server shutting down",
        "No free connections",
        "Server connection table full",
        "Resource temporarily unavailable",
        "Server busy",
        "Could not connect to batch server",
        "Can not establish connection",
        "Unable to get connection to socket",
        "Error (reading|writing) data",
        "Socket close detected",
        "Premature End of File",
        "must be temporarily delayed",
        "trqauthd unable to authenticate",
        r"\bTime out\b",
    ),
    refused=(
        r"Job (exceeds|violates) queue( and/or server)? resource limits",
        "Array job exceeds server or queue size limit",
        "Resource limit exceeds allowable",
        "cannot satisfy (queue|server)",
    ),
    full=(
        r"would exceed .*limit",
        r"Maximum number of .*(jobs|resource).*already in",
        r"total number of .*jobs exceeds the",
        "Queue is not enabled",
        "Queue is currently not available",
    ),
    never=("^Can Never Run", "too many failed attempts", f"^{_HELD}$"),
    outputs=lambda job_id: (f"*.[oe]{owner(job_id).removesuffix('[]')}*",),
)


def _read_queue(text: str) -> Iterator[QueueRow]:
    for name, facts in blocks(text)[0]:
        told = status(facts, STATES, _SERVER_CODES)
        cores = facts.get("Resource_List.ncpus", "")
        yield QueueRow(
            name.partition(".")[0],
            facts.get("Job_Name", ""),
            facts.get("Job_Owner", "").partition("@")[0],
            facts.get("queue", ""),
            "suspended" if facts.get("job_state") in ("S", "U") else row_word(told),
            ",".join(dict.fromkeys(told.nodes.split(","))),
            int(cores) if cores.isdigit() else 0,
            told.exit_code,
        )


_TASKS = Key(
    "tasks_per_node", "int", None, "what MPI starts on a node, each with its share of the cores", ours=True, least=1
)


class PBS(BatchMachine):
    kind = "PBS"
    aliases: ClassVar[tuple[str, ...]] = ("pbs", "pbspro", "openpbs")
    dialect = DIALECT
    keys = KeysOfSystem((_TASKS,))
    variables = JobVariables(  # qsub(1B), "Environment Variables"
        id=("PBS_JOBID",),
        element=("PBS_ARRAY_INDEX",),
        submit_host=("PBS_O_HOST",),
        submit_folder=("PBS_O_WORKDIR",),
        node_file=("PBS_NODEFILE",),
    )
    commands = ("qsub", "qstat", "qdel")
    answers: ClassVar[tuple[tuple[str, ...], str]] = (("qstat", "--version"), "pbs_version")
    views: ClassVar[tuple[View, ...]] = (View(lambda cluster, everybody: ["qstat", "-f"], _read_queue),)
    queue_check = "qstat -Q {queue}"
    script_suffix = ".pbs"
