"""LSF: `bsub`, `bjobs -o`, `bhist`, `bkill`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..description.resources import Resources
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .commands import BatchMachine
from .dialect import Dialect, job_name, quoted, refuse, status_of

_LIMIT = 128

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
    "TERM_OWNER": Reason.CANCELLED,
    "TERM_ADMIN": Reason.CANCELLED,
    "TERM_FORCE_OWNER": Reason.CANCELLED,
    "TERM_FORCE_ADMIN": Reason.CANCELLED,
    "TERM_ZOMBIE": Reason.NODE,
    "TERM_REMOVE_HUNG_JOB": Reason.NODE,
}


def directives(job: JobToPlace, prefix: str, gpus: str) -> list[str]:
    """The lines that LSF and its relatives share."""
    resources = job.resources
    refuse(resources, {"BSUB": "LSF"}.get(prefix, "JH_UniScheduler"), ["qos"])
    done = " && ".join(f"done({name})" for name in resources.dependency)
    lines = [
        "-e %J.err",
        "-o %J.out",
        f"-n {resources.number_node * resources.cpu_per_node}",
        f"-R 'span[ptile={resources.cpu_per_node}]'",
        f"-q {resources.queue_name}" if resources.queue_name else "",
        gpus,
        f"-W {-int(-resources.walltime_s // 60)}" if resources.walltime_s else "",
        f"-P {resources.account}" if resources.account else "",
        f"-R 'rusage[mem={resources.memory_mib}MB]'" if resources.memory_mib else "",
        "-x" if resources.exclusive else "",
        f"-U {resources.reservation}" if resources.reservation else "",
        f"-w '{done}'" if done else "",
    ]
    return [line if line.startswith("#") else f"#{prefix} {line}" for line in lines if line]


def header(job: JobToPlace) -> list[str]:
    name = job_name(job.name or None, job.hash, _LIMIT, "")
    return [*directives(job, "BSUB", _gpus(job.resources)), f"#BSUB -J {name}" if name else ""]


def _gpus(resources: Resources) -> str:
    kwargs, count = resources.kwargs, resources.gpu_per_node
    line = kwargs.get("custom_gpu_line")
    if line is not None:
        return str(line)
    if not kwargs.get("gpu_usage") or count < 1:
        return ""
    if kwargs.get("gpu_new_syntax"):
        exclusive = "yes" if kwargs.get("gpu_exclusive", True) else "no"
        return f"-gpu 'num={count}:mode=shared:j_exclusive={exclusive}'"
    return f'-R "select[ngpus >0] rusage[ngpus_excl_p={count}]"'


def listing(ids: Sequence[str]) -> str:
    fields = "jobid stat exit_code exit_reason exec_host delimiter='|'"
    return f'bjobs -a -noheader -o "{fields}" {quoted(ids)}'


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


def history(ids: Sequence[str]) -> str:
    return f"bhist -a -l {quoted(ids)} 2>/dev/null; true"


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


DIALECT = Dialect(
    kind="LSF",
    header=header,
    submit="bsub < {script}",
    id_in_words=((r"^.*Job <([0-9]+)> is submitted.*$", r"\1"),),
    listing=listing,
    read_listing=read_listing,
    history=history,
    read_history=read_history,
    cancel=lambda ids: f"bkill {quoted(ids)}",
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
        "batch daemon not responding",
        "Cannot connect to LSF",
        "Communication time out",
    ),
    full=(
        "User has reached the",
        "job limit",
        "has exceeded its job slot limit",
        "Pending job threshold reached",
    ),
)


class LSF(BatchMachine):
    kind = "LSF"
    dialect = DIALECT
