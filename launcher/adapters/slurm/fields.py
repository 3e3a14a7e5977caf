"""The columns of squeue and sacct: what each of them is of a Row, and under which names and letters the commands know it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ...machines import slurm_facts
from .errors import Refusal
from .view import Row

Value = Callable[[Row], str]


class Column(NamedTuple):
    """`width` is used where the user says none."""

    heading: str
    value: Value
    width: int = 20


def _request(name: str) -> Value:
    return lambda row: str(getattr(row.job.request, name))


def _or(value: Value, absent: str) -> Value:
    return lambda row: value(row) or absent


def _priority(row: Row) -> str:
    return str(max(0, row.job.request.priority if row.job.request.priority is not None else 4294901760 - row.job.id))


def _tasks(row: Row) -> int:
    return sum(row.job.request.shape.tasks)


def _eligible(row: Row) -> str:
    return row.moment(row.job.eligible or row.job.submitted)


def _start(row: Row) -> str:
    begin = row.job.request.begin
    return row.moment(row.job.started or (begin if not row.job.is_over else None))


def _array_index(row: Row) -> str:
    if row.elements:
        return row.label.partition("_")[2].strip("[]")
    return "N/A" if row.job.index is None else str(row.job.index)


def _command(row: Row) -> str:
    request = row.job.request
    return " ".join([request.command, *request.arguments]) if request.command else "(null)"


def _features(row: Row) -> str:
    return "&".join(row.job.request.tags) or "(null)"


def _gres(row: Row) -> str:
    gpus = row.job.request.shape.gpus
    return f"gres:gpu:{gpus}" if gpus else "N/A"


SQUEUE: Mapping[str, tuple[str, Column]] = {
    # letter: (long name of -O, column)
    "A": ("jobid", Column("JOBID", lambda row: row.raw_label)),
    "a": ("account", Column("ACCOUNT", _or(_request("account"), "(null)"))),
    "B": ("batchhost", Column("EXEC_HOST", lambda row: next(iter(row.job.nodes), "n/a"))),
    "b": ("tres-per-node", Column("TRES_PER_NODE", _gres)),
    "c": ("mincpus", Column("MIN_CPUS", lambda row: str(row.job.request.cpus_per_task or 1))),
    "C": ("numcpus", Column("CPUS", lambda row: str(row.job.request.shape.cpus))),
    "D": ("numnodes", Column("NODES", lambda row: str(row.node_count))),
    "E": ("dependency", Column("DEPENDENCY", lambda row: row.queue.unmet(row.job, row.now) or "(null)")),
    "e": ("endtime", Column("END_TIME", lambda row: row.moment(row.expected_end))),
    "F": ("arrayjobid", Column("ARRAY_JOB_ID", lambda row: str(row.job.array_id or row.job.id))),
    "f": ("feature", Column("FEATURES", _features)),
    "g": ("groupname", Column("GROUP", lambda row: row.site.user)),
    "G": ("groupid", Column("GROUP", lambda row: str(row.site.uid))),
    "i": ("jobarrayid", Column("JOBID", lambda row: row.label)),
    "j": ("name", Column("NAME", _request("name"))),
    "K": ("arraytaskid", Column("ARRAY_TASK_ID", _array_index)),
    "k": ("comment", Column("COMMENT", _or(_request("comment"), "(null)"))),
    "L": ("timeleft", Column("TIME_LEFT", lambda row: row.left)),
    "l": ("timelimit", Column("TIME_LIMIT", lambda row: row.limit)),
    "M": ("timeused", Column("TIME", lambda row: slurm_facts.elapsed(row.job.ran_s(row.now)))),
    "m": ("minmemory", Column("MIN_MEMORY", lambda row: row.memory)),
    "N": ("nodelist", Column("NODELIST", lambda row: row.nodelist)),
    "n": ("reqnodes", Column("REQ_NODES", lambda row: "")),
    "o": ("command", Column("COMMAND", _command)),
    "P": ("partition", Column("PARTITION", _request("partition"))),
    "Q": ("priority", Column("PRIORITY", _priority)),
    "q": ("qos", Column("QOS", _request("qos"))),
    "R": ("reasonlist", Column("NODELIST(REASON)", lambda row: row.nodes_or_reason)),
    "r": ("reason", Column("REASON", lambda row: row.reason)),
    "S": ("starttime", Column("START_TIME", _start)),
    "T": ("state", Column("STATE", lambda row: row.job.state)),
    "t": ("statecompact", Column("ST", lambda row: row.short_state)),
    "U": ("userid", Column("UID", lambda row: str(row.site.uid))),
    "u": ("username", Column("USER", lambda row: row.site.user)),
    "V": ("submittime", Column("SUBMIT_TIME", lambda row: row.moment(row.job.submitted))),
    "v": ("reservation", Column("RESERVATION", lambda row: "(null)")),
    "W": ("licenses", Column("LICENSES", lambda row: "(null)")),
    "w": ("wckey", Column("WCKEY", _or(_request("wckey"), "(null)"))),
    "x": ("excnodes", Column("EXC_NODES", lambda row: "")),
    "y": ("nice", Column("NICE", _request("nice"))),
    "Z": ("workdir", Column("WORK_DIR", _request("work_dir"))),
}

_ONLY_LONG: Mapping[str, Column] = {
    "cluster": Column("CLUSTER", lambda row: row.site.name),
    "eligibletime": Column("ELIGIBLE_TIME", _eligible),
    "exit_code": Column("EXIT_CODE", lambda row: str(256 * row.job.exit_code + row.job.signal)),
    "derivedec": Column("DERIVED_EXIT_CODE", lambda row: str(256 * row.job.exit_code)),
    "numtasks": Column("TASKS", lambda row: str(_tasks(row))),
    "cpus-per-task": Column("CPUS_PER_TASK", lambda row: str(row.job.request.cpus_per_task or "N/A")),
    "requeue": Column("REQUEUE", lambda row: str(int(row.job.request.requeue))),
    "restartcnt": Column("RESTART_COUNT", lambda row: str(row.job.restarts)),
    "stdout": Column("STDOUT", lambda row: row.file("output")),
    "stderr": Column("STDERR", lambda row: row.file("error")),
    "stdin": Column("STDIN", lambda row: row.file("input")),
    "tres-alloc": Column("TRES_ALLOC", lambda row: row.tres()),
    "tres": Column("TRES_ALLOC", lambda row: row.tres()),
    "prioritylong": Column("PRIORITY", _priority),
    "schednodes": Column("SCHEDNODES", lambda row: "(null)"),
    "oversubscribe": Column("OVER_SUBSCRIBE", lambda row: "NO" if row.job.request.shape.whole else "OK"),
}

LONG: Mapping[str, Column] = {**dict(SQUEUE.values()), **_ONLY_LONG}

_FIELD = re.compile(r"%(\.?)(\d*)([A-Za-z%])")


def by_format(text: str, row: Row | None) -> str:
    """squeue's -o. Without a row: the headings. A letter that we do not know is an error, not an empty column."""

    def fill(match: re.Match[str]) -> str:
        if match[3] == "%":
            return "%"
        if match[3] not in SQUEUE:
            raise Refusal(f"squeue: error: Invalid job format specification: {match[3]}")
        column = SQUEUE[match[3]][1]
        return _fitted(column.heading if row is None else column.value(row), match[2], match[1] == ".")

    return _FIELD.sub(fill, text)


def _fitted(text: str, width: str, right: bool) -> str:
    if not width:
        return text
    size = int(width)
    return text[:size].rjust(size) if right else text[:size].ljust(size)


def by_long_format(text: str, row: Row | None) -> str:
    """squeue's -O: `name:width`, `name:.width`, 20 wide by default."""
    parts = []
    for word in filter(None, text.split(",")):
        name, _, size = word.strip().partition(":")
        match = re.fullmatch(r"([.-]?)(\d*)([A-Za-z]*)", size)
        if name.lower() not in LONG or match is None:
            raise Refusal(f"squeue: error: Invalid job format specification: {name}")
        column = LONG[name.lower()]
        value = column.heading if row is None else column.value(row)
        parts.append(_fitted(value, match[2] or "20", match[1] == "."))
    return "".join(parts)


# --- sacct ----------------------------------------------------------------------------------------------------------


def _of_step(job: Value, step: Callable[[Row], str]) -> Value:
    return lambda row: job(row) if row.step is None else step(row)


def _step_end(row: Row) -> str:
    assert row.step is not None
    return row.moment(row.step.ended, "Unknown")


def _elapsed_s(row: Row) -> float:
    if row.step is None:
        return row.job.ran_s(row.now)
    return max(0.0, (row.step.ended or row.now) - row.step.started)


def _cpus(row: Row) -> int:
    if row.step is not None:
        return row.step.cpus
    return row.job.request.shape.cpus


def _blank(row: Row) -> str:
    return ""


def _step_status(row: Row) -> str:
    assert row.step is not None
    return slurm_facts.exit_status(row.step.exit_code, row.step.signal)


def _job_status(row: Row) -> str:
    """Accounting does not know the signal of scancel; the batch step has it."""
    return "0:0" if row.job.state == "CANCELLED" else row.exit_status


def _limit_raw(row: Row) -> str:
    minutes = row.job.request.time_limit
    return "UNLIMITED" if minutes is None else str(minutes)


def _full_limit(row: Row) -> str:
    minutes = row.job.request.time_limit
    return "UNLIMITED" if minutes is None else slurm_facts.full_elapsed(60 * minutes)


def _of_job(value: Value) -> Value:
    return _of_step(value, _blank)


def _alloc_nodes(row: Row) -> str:
    return str(len(row.step.nodes) if row.step is not None else len(row.job.nodes) or row.node_count)


def _node_words(row: Row) -> str:
    if row.step is not None:
        return slurm_facts.hostlist(row.step.nodes)
    return row.nodelist or "None assigned"


def _derived(row: Row) -> str:
    return slurm_facts.exit_status(row.job.exit_code, 0)


def _label(row: Row) -> str:
    return row.label if row.step is None else f"{row.job.label}.{row.step.id}"


def _raw_label(row: Row) -> str:
    return row.raw_label if row.step is None else f"{row.job.id}.{row.step.id}"


def _state(row: Row) -> str:
    return row.state_words if row.step is None else row.step.state


def _step_name(row: Row) -> str:
    assert row.step is not None
    return row.step.name


def _step_start(row: Row) -> str:
    assert row.step is not None
    return row.moment(row.step.started)


def _job_end(row: Row) -> str:
    return row.moment(row.job.ended, "Unknown")


def _job_start(row: Row) -> str:
    return row.moment(row.job.started, "None" if row.job.is_over else "Unknown")


_SACCT: Sequence[Column] = [
    Column("Account", _request("account"), 10),
    Column("AllocCPUS", lambda row: str(_cpus(row)), 10),
    Column("AllocNodes", _alloc_nodes, 10),
    Column("AllocTRES", _of_job(lambda row: row.tres()), 10),
    Column("Cluster", lambda row: row.site.name, 10),
    Column("Comment", _of_job(_request("comment")), 14),
    Column("Constraints", _of_job(lambda row: "&".join(row.job.request.tags)), 19),
    Column("CPUTime", lambda row: slurm_facts.full_elapsed(_cpus(row) * int(_elapsed_s(row))), 10),
    Column("CPUTimeRAW", lambda row: str(_cpus(row) * int(_elapsed_s(row))), 10),
    Column("DerivedExitCode", _of_job(_derived), 15),
    Column("Elapsed", lambda row: slurm_facts.full_elapsed(_elapsed_s(row)), 10),
    Column("ElapsedRaw", lambda row: str(int(_elapsed_s(row))), 10),
    Column("Eligible", _of_step(_eligible, _step_start), 19),
    Column("End", _of_step(_job_end, _step_end), 19),
    Column("ExitCode", _of_step(_job_status, _step_status), 8),
    Column("GID", _of_job(lambda row: str(row.site.uid)), 6),
    Column("Group", _of_job(lambda row: row.site.user), 9),
    Column("JobID", _label, 12),
    Column("JobIDRaw", _raw_label, 12),
    Column("JobName", _of_step(_request("name"), _step_name), 10),
    Column("NCPUS", lambda row: str(_cpus(row)), 10),
    Column("NNodes", _alloc_nodes, 8),
    Column("NodeList", _node_words, 15),
    Column("NTasks", _of_step(_blank, lambda row: str(row.step.tasks if row.step else "")), 8),
    Column("Partition", _of_job(_request("partition")), 10),
    Column("Priority", _of_job(_priority), 10),
    Column("QOS", _of_job(_request("qos")), 10),
    Column("Reason", _of_job(lambda row: row.reason if row.job.reason != "" else "None"), 22),
    Column("ReqCPUS", lambda row: str(_cpus(row)), 8),
    Column("ReqMem", _of_job(lambda row: row.requested_memory), 10),
    Column("ReqNodes", _of_job(lambda row: str(row.job.request.shape.nodes)), 8),
    Column("ReqTRES", _of_job(lambda row: row.tres()), 10),
    Column("Start", _of_step(_job_start, _step_start), 19),
    Column("State", _state, 10),
    Column("Submit", _of_step(lambda row: row.moment(row.job.submitted), _step_start), 19),
    Column("SubmitLine", _of_job(_request("submit_line")), 20),
    Column("Timelimit", _of_job(_full_limit), 10),
    Column("TimelimitRaw", _of_job(_limit_raw), 10),
    Column("UID", _of_job(lambda row: str(row.site.uid)), 6),
    Column("User", _of_job(lambda row: row.site.user), 9),
    Column("WCKey", _of_job(_request("wckey")), 10),
    Column("WorkDir", _of_job(_request("work_dir")), 20),
]
SACCT = {column.heading.lower(): column for column in _SACCT}

NOT_MEASURED = (
    *[
        "AdminComment",
        "AssocID",
        "AveCPU",
        "AveCPUFreq",
        "AveDiskRead",
        "AveDiskWrite",
        "AvePages",
        "AveRSS",
        "AveVMSize",
        "BlockID",
    ],
    *[
        "ConsumedEnergy",
        "ConsumedEnergyRaw",
        "Container",
        "DBIndex",
        "Flags",
        "Layout",
        "MaxDiskRead",
        "MaxDiskWrite",
        "MaxPages",
        "MaxRSS",
    ],
    *[
        "MaxRSSNode",
        "MaxRSSTask",
        "MaxVMSize",
        "McsLabel",
        "MinCPU",
        "Planned",
        "PlannedCPU",
        "Reservation",
        "ReservationId",
        "Reserved",
        "ResvCPU",
    ],
    *[
        "Suspended",
        "SystemComment",
        "SystemCPU",
        "TotalCPU",
        "TRESUsageInAve",
        "TRESUsageInMax",
        "TRESUsageInTot",
        "UserCPU",
        "Extra",
    ],
    *[
        "TRESUsageOutTot",
        "MaxDiskReadNode",
        "MaxDiskWriteNode",
        "MaxVMSizeNode",
        "ReqCPUFreq",
        "StdOut",
        "StdErr",
        "StdIn",
        "FailedNode",
    ],
)
"""Columns of sacct that are known and empty, as they are on a Slurm that does not gather them."""
for _name in NOT_MEASURED:
    SACCT[_name.lower()] = Column(_name, _blank, max(10, len(_name)))
