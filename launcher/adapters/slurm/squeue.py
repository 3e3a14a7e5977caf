"""`squeue`: what waits and runs, and what has ended lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...machines import slurm_facts
from . import json_view
from .arguments import read
from .desk import MIN_JOB_AGE_S, Answer, Call, Desk, named, rows_of, version
from .errors import Refusal
from .fields import SQUEUE, by_format, by_long_format
from .jobs import Job
from .options import Value, flags, granted, refused, valued
from .view import Row

TABLE = [
    *flags("array/r array-unique help json long/l me noheader/h start usage version/V"),
    *granted("all/a federation hide local noconvert priority/P verbose/v"),
    *valued(
        "account/A clusters/M format/o Format/O jobs/j licenses/L name/n nodelist/w partition/p qos/q sort/S states/t user/u"
    ),
    *refused("iterate/i", "ask again instead"),
    *refused("steps/s", "steps are shown by sacct", Value.OPTIONAL),
    *refused("reservation/R", "Requested reservation is invalid"),
    *refused("yaml", "ask for --json", Value.NONE),
]

_SHORT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_LONG = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
_START = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
_USUAL = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT"})


def squeue(desk: Desk, call: Call) -> Answer:
    values, rest = read("squeue", call.words, TABLE)
    if "version" in values:
        return version("squeue")
    if "help" in values or "usage" in values:
        return Answer("Usage: squeue [OPTIONS]\nAnswered by a pilot (pilotfish as slurm).\n")
    for variable, name in _VARIABLES.items():
        if variable in call.environ:
            values.setdefault(name, call.environ[variable])
    if rest:
        raise Refusal(f"squeue: error: Unrecognized option: {rest[0]}")
    check_cluster("squeue", values.get("clusters"), desk)
    jobs = _chosen(desk, values)
    if "json" in values:
        return Answer(json_view.squeue(rows_of(desk, jobs, {}, False)))
    shown = rows_of(desk, jobs, call.environ, "array" not in values)
    shown.sort(key=_order(values.get("sort", "P,t,-p")))
    return Answer(_table(values, shown, desk))


_VARIABLES = {
    "SQUEUE_FORMAT": "format", "SQUEUE_STATES": "states", "SQUEUE_USERS": "user", "SQUEUE_PARTITION": "partition",
    "SQUEUE_SORT": "sort", "SQUEUE_NAMES": "name", "SQUEUE_ARRAY": "array",
}  # fmt: skip


def check_cluster(command: str, text: str | None, desk: Desk) -> None:
    """Raises Refusal for a cluster that this is not."""
    for name in filter(None, (text or "").split(",")):
        if name not in ("all", desk.site.name):
            raise Refusal(f"{command}: error: No cluster '{name}' known by database.")


def states_of(command: str, text: str) -> frozenset[str] | None:
    """None for all. Raises Refusal for a word that is no state."""
    found = set()
    by_short = {state.short: name for name, state in slurm_facts.STATES.items()}
    for word in filter(None, text.split(",")):
        if word.lower() == "all":
            return None
        name = by_short.get(word.upper(), word.upper())
        if name not in slurm_facts.STATES:
            names = ",".join(_VALID)
            raise Refusal(
                f"{command}: error: Invalid job state specified: {word}\n{command}: error: Valid job states include: {names}\n"
            )
        found.add(name)
    return frozenset(found)


_VALID = (
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL",
    "DEADLINE", "OUT_OF_MEMORY", "COMPLETING", "CONFIGURING", "RESIZING", "RESV_DEL_HOLD", "REQUEUED", "REQUEUE_FED",
    "REQUEUE_HOLD", "REVOKED", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED",
)  # fmt: skip


def _named(desk: Desk, text: str) -> list[Job]:
    """One unknown id of several is left out; of one it is an error."""
    found: list[Job] = []
    words = [word for word in text.split(",") if word]
    for word in words:
        try:
            jobs = named(desk, word)
        except ValueError:
            raise Refusal(f"squeue: error: Invalid job id: {word}") from None
        found += jobs
    if len(words) == 1 and not found:
        raise Refusal(f"slurm_load_jobs error: {slurm_facts.UNKNOWN_JOB}")
    return list(dict.fromkeys(found))


def _chosen(desk: Desk, values: Mapping[str, str]) -> list[Job]:
    jobs: Sequence[Job] = list(desk.queue) if not values.get("jobs") else _named(desk, values["jobs"])
    states = states_of("squeue", values["states"]) if "states" in values else _USUAL
    since = desk.now() - MIN_JOB_AGE_S
    jobs = [
        job for job in jobs if (states is None or job.state in states) and (job.ended is None or job.ended >= since)
    ]
    for name, of_job in _FILTERS.items():
        if name in values:
            wanted = set(values[name].split(","))
            jobs = [job for job in jobs if of_job(job) in wanted]
    if "user" in values and not {desk.site.user, str(desk.site.uid)} & set(values["user"].split(",")):
        return []
    if "start" in values:
        jobs = [job for job in jobs if job.state == "PENDING"]
    if "nodelist" in values:
        from .others import hosts

        nodes = set(hosts(values["nodelist"]))
        jobs = [job for job in jobs if nodes & set(job.nodes)]
    return [] if "licenses" in values else list(jobs)


_FILTERS: Mapping[str, Any] = {
    "account": lambda job: job.request.account,
    "name": lambda job: job.request.name,
    "partition": lambda job: job.request.partition,
    "qos": lambda job: job.request.qos,
}


def _order(text: str) -> Any:
    """A key for one column after the other; numbers by size, `-` in reverse."""
    columns = [(word.startswith("-"), word.lstrip("+-")) for word in text.split(",") if word.lstrip("+-") in SQUEUE]
    states = list(slurm_facts.STATES)

    def key(row: Row) -> tuple[Any, ...]:
        parts: list[Any] = []
        for reverse, letter in columns:
            value = SQUEUE[letter][1].value(row)
            if letter in ("t", "T"):
                number: float = states.index(row.job.state)
            elif letter in ("i", "A", "F"):
                number = row.job.id
            else:
                number = float(value) if value.replace(".", "", 1).isdigit() else 0
            parts.append(-number if reverse else number)
            parts.append("" if number or reverse else value)
        return (*parts, row.job.id)

    return key


def _table(values: Mapping[str, str], shown: Sequence[Row], desk: Desk) -> str:
    long = values.get("Format")
    form = values.get("format") or (_LONG if "long" in values else _START if "start" in values else _SHORT)
    form = form.replace("%20Y", "%20n")
    printed = by_long_format if long else by_format
    lines = [printed(long or form, row) for row in shown]
    if "noheader" not in values:
        heading = printed(long or form, None)
        stamp = [slurm_facts.moment(desk.now(), form="%a %b %d %H:%M:%S %Y")] if "long" in values and not long else []
        lines = [*stamp, heading, *lines]
    return "".join(f"{line}\n" for line in lines)
