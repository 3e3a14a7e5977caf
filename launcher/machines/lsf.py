"""LSF: `bsub`, `bjobs -o`, `bhist`, `bkill`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from ..contexts.shell import Text, sh, words
from ..description.resources import Resources
from ..description.schema import Key, KeysOfSystem
from ..job.spec import JobVariables
from ..job.states import JobState, Listing, Reason, Status
from .commands import BatchMachine
from .dialect import GPU_LINE, Dialect, QueueRow, View, row_word, status_of
from .directives import Directives

# bjobs(1), "STAT". ZOMBI: the host is unreachable, the job was killed meanwhile.
STATES: dict[str, tuple[JobState, str]] = {
    "PEND": (JobState.waiting, ""),
    "PROV": (JobState.waiting, ""),
    "WAIT": (JobState.waiting, ""),
    "PSUSP": (JobState.waiting, ""),
    "RUN": (JobState.running, ""),
    "USUSP": (JobState.running, ""),
    "SSUSP": (JobState.running, ""),
    "UNKWN": (JobState.running, ""),
    "DONE": (JobState.finished, ""),
    "EXIT": (JobState.terminated, Reason.PROGRAM),
    "ZOMBI": (JobState.terminated, Reason.NODE),
}

# bjobs(1), "EXIT REASON".
_REASONS = {
    "TERM_RUNLIMIT": Reason.TIME,
    "TERM_CPULIMIT": Reason.TIME,
    "TERM_DEADLINE": Reason.TIME,
    "TERM_MEMLIMIT": Reason.MEMORY,
    "TERM_SWAP": Reason.MEMORY,
    "TERM_PREEMPT": Reason.PREEMPTED,
    "TERM_OWNER": Reason.CANCELED,
    "TERM_ADMIN": Reason.CANCELED,
    "TERM_FORCE_OWNER": Reason.CANCELED,
    "TERM_FORCE_ADMIN": Reason.CANCELED,
    "TERM_ZOMBIE": Reason.NODE,
    "TERM_REMOVE_HUNG_JOB": Reason.NODE,
}


def _span(resources: Resources) -> list[str]:
    cores = resources.cpu_per_node
    return [f"-n {resources.number_node * cores}", f"-R 'span[ptile={cores}]'"]


def _gpus(resources: Resources) -> list[str]:
    kwargs, count = resources.kwargs, resources.gpu_per_node
    if not kwargs.get("gpu_usage") or count < 1:
        return []
    if kwargs.get("gpu_new_syntax"):
        exclusive = "yes" if kwargs.get("gpu_exclusive", True) else "no"
        return [f"-gpu 'num={count}:mode=shared:j_exclusive={exclusive}'"]
    return [f'-R "select[ngpus >0] rusage[ngpus_excl_p={count}]"']


# bsub(1).
DIRECTIVES = Directives(
    "#BSUB",
    {
        "stderr": "-e {}",
        "stdout": "-o {}",
        "nodes": _span,
        "queue": "-q {}",
        "gpus": _gpus,
        "walltime": "-W {}",
        "account": "-P {}",
        "memory": "-R 'rusage[mem={}MB]'",
        "exclusive": "-x",
        "reservation": "-U {}",
        "dependency": "-w '{}'",
        "name": "-J {}",
        "megabytes": "-M {}",
    },
    values=lambda job: {"stderr": "%J.err", "stdout": "%J.out"},
    minutes=True,
    id="done({})",
    between_ids=" && ",
)


_LISTING = """bjobs -a -noheader -o "jobid stat exit_code exit_reason exec_host delimiter='|'" {ids}"""


def listing(ids: Sequence[str]) -> Text:
    return sh(_LISTING, ids=words(ids))


def owner(name: str) -> str:
    """`77` of `77[1]`, an element of an array."""
    return name.partition("[")[0]


def read_listing(text: str) -> Listing:
    found = Listing()
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 5 and re.fullmatch(r"\d+(\[\d+\])?", words[0]) and re.fullmatch("[A-Z]+", words[1]):
            found.add(words[0], _told(*words[1:]))
        elif line.strip():
            found.unread.append(line)
    return found


def _told(word: str, code: str, why: str, hosts: str) -> Status:
    number = int(code) if code.isdigit() else 0 if word == "DONE" else None
    status = status_of(word, STATES, exit_code=number, nodes="" if hosts == "-" else hosts)
    reason = next((reason for name, reason in _REASONS.items() if why.startswith(name)), status.reason)
    return Status(status.state, word, reason if status.reason else "", number, nodes=status.nodes)


def history(ids: Sequence[str]) -> Text:
    return sh("bhist -a -l {ids} 2>/dev/null; true", ids=words(ids))


def read_history(text: str) -> Listing:
    """`bhist -l`: a block `Job <ID>, ...` for each; long lines are broken and indented."""
    found = Listing()
    for block in re.split(r"^Job <", re.sub(r"\n {10,}", "", text), flags=re.MULTILINE)[1:]:
        name = block.partition(">")[0]
        if "Done successfully" in block:
            found.add(name, Status(JobState.finished, "DONE", exit_code=0))
        elif match := re.search(r"Exited with exit code (\d+)|Exited by signal (\d+)|Exited[;.]", block):
            number = int(match[1]) if match[1] else 128 + int(match[2]) if match[2] else None
            why = re.search(r"TERM_\w+", block)
            reason = _REASONS.get(why[0], Reason.PROGRAM) if why else Reason.PROGRAM
            found.add(name, Status(JobState.terminated, "EXIT", reason, number))
    return found


def read_reasons(text: str) -> dict[str, str]:
    """Of `bjobs -p`: below the row of each job its reasons, indented, each with a semicolon."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"(\d+(\[\d+\])?)\s", line):
            name = match[1]
            found[name] = []
        elif name and line.startswith(" ") and line.strip():
            found[name].append(line.strip())
    return {name: " ".join(lines).removesuffix(";") for name, lines in found.items()}


_QUEUE = "jobid user stat queue slots exit_code exec_host job_name delimiter='|'"


def _queue(cluster: str, everybody: bool) -> list[str]:
    return ["bjobs", "-a", *(["-u", "all"] if everybody else []), "-noheader", "-o", _QUEUE]


def _read_queue(text: str) -> Iterator[QueueRow]:
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|", 7)]  # a name may have a bar in it
        if len(words) == 8 and words[0][:1].isdigit():
            job, owner, word, queue, slots, code, hosts, name = words
            told = _told(word, code, "", hosts)
            shown = "suspended" if word in ("USUSP", "SSUSP") else row_word(told)
            nodes = ",".join(dict.fromkeys(host.rpartition("*")[2] for host in told.nodes.split(":")))
            yield QueueRow(job, name, owner, queue, shown, nodes, int(slots) if slots.isdigit() else 0, told.exit_code)


DIALECT = Dialect(
    kind="LSF",
    directives=DIRECTIVES,
    submit="LSB_NTRIES=1 bsub < {script}",  # else bsub waits for ever where a user has too many jobs
    id_in_words=((r"^.*Job <([0-9]+)> is submitted.*$", r"\1"),),
    listing=listing,
    read_listing=read_listing,
    history=history,
    read_history=read_history,
    cancel=lambda ids: sh("bkill {ids}", ids=words(ids)),
    owner=owner,
    gone=(
        r"Job <\d+(\[\d+\])?> is not found",
        "No (matching )?job found",
        "No unfinished job found",
        "Job has already finished",
    ),
    busy=(
        "LSF is down",
        "Please wait",
        "batch (daemon|system)( is)? not responding",
        "Cannot connect to LSF",
        "Communication time ?out",
        "Failed in an LSF library call",
    ),
    refused=(r"Cannot exceed .*hard limit",),
    full=(
        "User has reached the",
        "Pending job threshold reached",
        "has exceeded its job slot limit",
        r"Job (slot )?limit (exceeded|reached)",
        r"reached (the|its) .*job.* limit",
        "Queue has been closed",
    ),
    reasons=lambda ids: sh("bjobs -p {ids}", ids=words(ids)),
    read_reasons=read_reasons,
    never=("never satisfied",),
    outputs=lambda job_id: (f"{owner(job_id)}.out", f"{owner(job_id)}.err"),
)


class LSF(BatchMachine):
    kind = "LSF"
    aliases: ClassVar[tuple[str, ...]] = ("lsf",)
    dialect = DIALECT
    keys = KeysOfSystem(
        (
            Key("gpu_usage", "bool", False, "ask for GPUs"),
            Key("gpu_new_syntax", "bool", False, "by `-gpu`, of LSF 10.1.0.3 and later"),
            Key("gpu_exclusive", "bool", True, "with `gpu_new_syntax`: a process has its GPU alone"),
            GPU_LINE,
        ),
        wanted=True,
    )
    variables = JobVariables(  # LSF configuration reference, "Environment variables set for job execution"
        id=("LSB_JOBID",),
        element=("LSB_JOBINDEX",),
        submit_host=("LSB_SUB_HOST",),
        submit_folder=("LS_SUBCWD",),
        nodes=("LSB_HOSTS",),
    )
    commands = ("bsub", "bjobs", "bkill")
    helpful_commands: ClassVar[tuple[str, ...]] = ("bhist",)
    views: ClassVar[tuple[View, ...]] = (View(_queue, _read_queue),)
    queue_check = "bqueues {queue}"
    script_suffix = ".lsf"
