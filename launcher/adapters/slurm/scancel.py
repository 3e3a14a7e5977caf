"""`scancel`: end jobs, or send them a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import request
from .arguments import read
from .desk import Answer, Call, Desk, named, version
from .errors import Refusal
from .jobs import Job
from .options import Value, flags, granted, refused, valued
from .squeue import check_cluster, states_of

TABLE = [
    *flags("batch/b full/f help me quiet/Q usage verbose/v version/V"),
    *granted("cron ctld hurry/H"),
    *valued(
        "account/A clusters/M jobname/n name nodelist/w partition/p qos/q reservation/R signal/s state/t user/u wckey"
    ),
    *refused("interactive/i", "nobody can be asked", Value.NONE),
    *refused("sibling", "a pilot has no sibling"),
]
_KILL = 9


def scancel(desk: Desk, call: Call) -> Answer:
    words = list(call.words)
    values, rest = _with_ids(words)
    if "version" in values:
        return version("scancel")
    if "help" in values or "usage" in values:
        return Answer("Usage: scancel [OPTIONS] [JOB_ID[_ARRAY_ID]]\nAnswered by a pilot (pilotfish as slurm).\n")
    check_cluster("scancel", values.get("clusters"), desk)
    by = [name for name in _FILTERS if name in values]
    if not rest and not by:
        raise Refusal("scancel: error: No job identification provided")
    jobs = list(desk.queue) if not rest else _of_ids(desk, rest)
    jobs = [job for job in jobs if _matches(desk, job, values)]
    if "signal" in values:
        return _signal(desk, jobs, values, bool(rest))
    err = ""
    if "verbose" in values:
        err = "".join(f"scancel: Terminating job {job.label}\n" for job in jobs if not job.is_over)
    desk.cancel([job for job in jobs if not job.is_over])
    return Answer(err=err)


def _with_ids(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """scancel takes options after ids too."""
    values: dict[str, str] = {}
    ids: list[str] = []
    while words:
        found, rest = read("scancel", words, TABLE)
        values |= found
        ids += rest[:1]
        words = rest[1:]
    return values, [part for word in ids for part in word.split(",") if part]


def _of_ids(desk: Desk, ids: Sequence[str]) -> list[Job]:
    found: list[Job] = []
    for word in ids:
        try:
            found += named(desk, word)
        except ValueError:
            raise Refusal(f"scancel: error: Invalid job id {word}") from None
    return list(dict.fromkeys(found))


_FILTERS = ("account", "jobname", "name", "me", "partition", "qos", "state", "user", "wckey", "nodelist", "reservation")


def _matches(desk: Desk, job: Job, values: Mapping[str, str]) -> bool:
    asked = job.request
    facts = {
        "account": asked.account,
        "jobname": asked.name,
        "name": asked.name,
        "partition": asked.partition,
        "qos": asked.qos,
        "wckey": asked.wckey,
        "reservation": None,
    }
    if any(name in values and values[name] != fact for name, fact in facts.items()):
        return False
    if "user" in values and values["user"] not in (desk.site.user, str(desk.site.uid)):
        return False
    if "nodelist" in values and values["nodelist"] not in job.nodes:
        return False
    states = states_of("scancel", values["state"]) if "state" in values else None
    return states is None or job.state in states


def _signal(desk: Desk, jobs: Sequence[Job], values: Mapping[str, str], by_id: bool) -> Answer:
    number = request.signal_number(values["signal"])
    if number is None:
        raise Refusal(f"scancel: error: Unknown job signal: {values['signal']}")
    whom = "batch" if "batch" in values else "full" if "full" in values else "steps"
    errors = []
    for job in jobs:
        if job.state == "RUNNING":
            if number == _KILL and whom != "batch":
                desk.cancel([job])  # a job whose steps are killed has no way to go on
            else:
                desk.signal(job, number, whom)
        elif job.state == "PENDING":
            desk.cancel([job])
        elif by_id:
            errors.append(
                f"scancel: error: Kill job error on job id {job.label}: Job/step already completing or completed\n"
            )
    return Answer(err="".join(errors), code=1 if errors else 0)
