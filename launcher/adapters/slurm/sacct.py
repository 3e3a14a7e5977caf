"""`sacct`: every job of this controller, with its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ....pilot.model.errors import UsageError
from . import json_view, moments
from .arguments import read
from .desk import Answer, Call, Desk, named, rows_of, version
from .errors import Refusal
from .fields import SACCT, Column
from .jobs import Job
from .options import Value, flags, granted, refused, valued
from .squeue import check_cluster, states_of
from .view import Row, steps

TABLE = [
    *flags(
        "allocations/X array batch-script/B brief/b help/h helpformat/e json long/l noheader/n parsable/p parsable2/P"
    ),
    *flags("version/V"),
    *granted("allclusters/L allusers/a duplicates/D federation local noconvert truncate/T verbose/v"),
    *valued("accounts/A clusters/M delimiter endtime/E format/o jobs/j name nodelist/N partition/r qos/q starttime/S"),
    *valued("state/s uid user/u wckeys/W"),
    *refused("completion/c", "there is no job completion file", Value.NONE),
    *refused("env-vars", "a pilot does not keep them", Value.NONE),
    *refused("group/g", "a pilot serves one user"),
    *refused("units", "amounts of memory are printed in their largest whole unit"),
    *refused("yaml", "ask for --json", Value.NONE),
]

_SHORT = "jobid,jobname,partition,account,alloccpus,state,exitcode"
_BRIEF = "jobid,state,exitcode"
_LONG = "jobid,jobidraw,jobname,partition,ntasks,alloccpus,elapsed,state,exitcode,reqmem,alloctres"


def sacct(desk: Desk, call: Call) -> Answer:
    values, rest = read("sacct", call.words, TABLE)
    if "version" in values:
        return version("sacct")
    if "help" in values:
        return Answer("Usage: sacct [OPTIONS]\nAnswered by a pilot (pilotfish as slurm).\n")
    if "helpformat" in values:
        return Answer("\n".join(column.heading for column in SACCT.values()) + "\n")
    if rest:
        raise Refusal(f"sacct: error: Unrecognized option: {rest[0]}")
    check_cluster("sacct", values.get("clusters"), desk)
    jobs = _chosen(desk, values)
    if "batch-script" in values:
        return Answer("".join(_script(job) for job in jobs))
    only_allocations = "allocations" in values
    shown: list[Row] = []
    for row in rows_of(desk, jobs, call.environ, "array" not in values):
        shown.append(row)
        if not only_allocations:
            shown += [replace(row, step=step) for step in steps(row, desk.folder(row.job))]
    wanted_steps = _wanted_steps(values.get("jobs", ""))
    if wanted_steps:
        shown = [row for row in shown if _is_wanted(row, wanted_steps)]
    if "json" in values:
        return Answer(json_view.sacct(rows_of(desk, jobs, {}, False), lambda row: steps(row, desk.folder(row.job))))
    text = values.get("format") or call.environ.get("SACCT_FORMAT") or _default(values)
    return Answer(_table(_columns(text), shown, values))


def _default(values: Mapping[str, str]) -> str:
    return _BRIEF if "brief" in values else _LONG if "long" in values else _SHORT


def _script(job: Job) -> str:
    head = f"Batch Script for {job.label}"
    return f"{head}\n{'-' * 80}\n{job.request.script}\n"


def _wanted_steps(text: str) -> set[tuple[str, str]]:
    """(job, step) of words like `12.0`; a job that is named whole shows all its steps."""
    return {(job, step) for job, mark, step in (word.partition(".") for word in text.split(",")) if mark}


def _is_wanted(row: Row, wanted: set[tuple[str, str]]) -> bool:
    mine = {step for job, step in wanted if job in (row.job.label, str(row.job.id))}
    return not mine or (row.step is not None and row.step.id in mine)


def _chosen(desk: Desk, values: Mapping[str, str]) -> list[Job]:
    jobs: Sequence[Job] = list(desk.queue)
    if "jobs" in values:
        found: list[Job] = []
        for word in filter(None, values["jobs"].split(",")):
            try:
                found += named(desk, word)
            except ValueError:
                raise Refusal(f"sacct: fatal: Bad job/step specified: {word}") from None
        jobs = list(dict.fromkeys(found))
    if "state" in values:
        states = states_of("sacct", values["state"])
        jobs = [job for job in jobs if states is None or job.state in states]
    for name, attribute in (
        ("accounts", "account"),
        ("name", "name"),
        ("partition", "partition"),
        ("qos", "qos"),
        ("wckeys", "wckey"),
    ):
        if name in values:
            jobs = [job for job in jobs if str(getattr(job.request, attribute)) in values[name].split(",")]
    for name in ("user", "uid"):
        if values.get(name) and not {desk.site.user, str(desk.site.uid)} & set(values[name].split(",")):
            return []
    if "nodelist" in values:
        from .others import hosts

        nodes = set(hosts(values["nodelist"]))
        jobs = [job for job in jobs if nodes & set(job.nodes)]
    return _in_time(desk, values, jobs)


def _in_time(desk: Desk, values: Mapping[str, str], jobs: Sequence[Job]) -> list[Job]:
    """Those that were there at some time from -S (with -j the epoch, else midnight) to -E."""
    now = desk.now()
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    since, until = 0.0 if "jobs" in values else midnight, now
    try:
        since = moments.parse_past(values["starttime"], now) if "starttime" in values else since
        until = moments.parse_past(values["endtime"], now) if "endtime" in values else until
    except UsageError as error:
        raise Refusal(f"sacct: error: Invalid time specification: {error.what}") from None
    return [job for job in jobs if job.submitted <= until + 1 and (job.ended is None or job.ended >= since)]


def _columns(text: str) -> list[tuple[Column, int, bool]]:
    """The columns, their widths, and whether the words stand at the left; a width is said as `name%20`, `name%-20`."""
    found = []
    for word in filter(None, text.split(",")):
        name, _, width = word.strip().partition("%")
        matches = [column for key, column in SACCT.items() if key == name.lower()]
        matches = matches or [column for key, column in SACCT.items() if name and key.startswith(name.lower())][:1]
        if not matches or (width and not width.lstrip("-").isdigit()):
            raise Refusal(f'sacct: error: Invalid field requested: "{name}"')
        size = int(width) if width else matches[0].width
        found.append((matches[0], abs(size), size < 0))
    return found


def _table(columns: Sequence[tuple[Column, int, bool]], shown: Sequence[Row], values: Mapping[str, str]) -> str:
    lines = [[column.heading for column, _, _ in columns]] if "noheader" not in values else []
    lines += [[column.value(row) for column, _, _ in columns] for row in shown]
    if "parsable" in values or "parsable2" in values:
        mark = values.get("delimiter", "|")
        end = mark if "parsable" in values else ""
        return "".join(f"{mark.join(words)}{end}\n" for words in lines)
    widths = [(width, left or column.heading in ("JobID", "JobIDRaw")) for column, width, left in columns]
    text = [
        "".join(_fitted(word, width, left) + " " for word, (width, left) in zip(line, widths, strict=True))
        for line in lines
    ]
    if "noheader" not in values:
        text.insert(1, "".join("-" * width + " " for width, _ in widths))
    return "".join(f"{line}\n" for line in text)


def _fitted(word: str, width: int, left: bool) -> str:
    """Cut with a `+`."""
    if len(word) > width:
        return word[: width - 1] + "+"
    return word.ljust(width) if left else word.rjust(width)
