"""The client requests as values. Whatever comes in, a Request comes out, or a PilotfishError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..model.job_spec import JobSpec
from ..model.steps import Steps, finish
from . import legacy, overview
from .check import is_count, shown
from .codec import check_storable, decode
from .describe import describe_in_steps
from .json_steps import decode_in_steps
from .legacy import FormError, MemberError

Variables = Callable[[], Mapping[str, str]]
"""Gives the values of the submit phase; called once for each submit request."""

CONTROL_COMMAND = "finishAfterAllTasksDone"
FINISH_DELAY_S = 2.0
LONGEST_RESULT_WAIT_S = 60.0
LONGEST_FINISH_DELAY_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Submit:
    jobs: list[JobSpec]


@dataclass(frozen=True, slots=True)
class JobStatus:
    names: list[object]


@dataclass(frozen=True, slots=True)
class JobInfo:
    """Ours: `explain`, why it is not running; `limit` iterations at most, of those behind the iteration `after`."""

    names: list[object]
    with_childs: bool
    explain: bool = False
    limit: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class ListJobs:
    """Ours: `limit` jobs at most, of those behind `after`, which is `next` of the page before."""

    limit: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class CancelJob:
    names: list[object]


@dataclass(frozen=True, slots=True)
class RemoveJob:
    names: list[object]


@dataclass(frozen=True, slots=True)
class ResourcesInfo:
    pass


@dataclass(frozen=True, slots=True)
class Status:
    all_jobs_finished: bool


@dataclass(frozen=True, slots=True)
class Control:
    command: str


@dataclass(frozen=True, slots=True)
class Finish:
    """`delay_s`: how long requests are served before the end begins; `kill`: stop what runs instead of waiting for it."""

    kill: bool
    delay_s: float


@dataclass(frozen=True, slots=True)
class Events:
    """Ours: the events after number `after`."""

    after: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Ours: what the pilot does now, with lists of at most `limit` entries; `match`: running tasks with this in their names."""

    limit: int
    match: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Ours: what waits for nodes, and what the nodes do. `nodes_may_come`: who asks can get more, so work waits for them."""

    nodes_may_come: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Ours: the nodes of this allocation end what runs there, and leave."""

    allocation: str


@dataclass(frozen=True, slots=True)
class CallResults:
    """Ours: the ends of an executor's calls after number `after` of life `epoch`; if there are none, wait so long for one.

    `jobs`: tell which jobs it has, too. `keep`: a later life of the executor may ask for all of them again.
    """

    executor: str
    epoch: str
    after: int
    wait_s: float
    jobs: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Register:
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notify:
    params: Mapping[str, Any]


Request = (
    Submit
    | JobStatus
    | JobInfo
    | ListJobs
    | CancelJob
    | RemoveJob
    | ResourcesInfo
    | Status
    | Control
    | Finish
    | Events
    | Overview
    | Demand
    | Release
    | CallResults
    | Register
    | Notify
)


def submit_variables(count: int, uniq: str, now_text: str) -> dict[str, str]:
    """Values of the submit phase: `date` has the time too and `time` is constant, as clients know them."""
    return {
        "rcnt": str(count),
        "uniq": uniq,
        "sname": "local",
        "date": now_text,
        "dateTime": now_text,
        "time": "00:00:00",
    }


def parse(body: bytes, variables: Variables) -> Request:
    """One request frame, at once. Raises PilotfishError for anything that is not a request."""
    return from_value(decode(body), variables, may_substitute=_may_substitute(body))


def from_value(value: object, variables: Variables, *, may_substitute: bool = True) -> Request:
    """The same from a decoded value; `may_substitute` False promises that there is no `$` in it."""
    check_storable(value)
    return finish(parse_value(value, variables, may_substitute=may_substitute))


def parse_in_steps(body: bytes, variables: Variables, note_id: Callable[[object], None]) -> Steps[Request]:
    """The same in slices. `note_id` is told the request's `id`, if it has one, before anything is wrong with the rest."""
    value = yield from decode_in_steps(body)
    if isinstance(value, dict) and "id" in value:
        note_id(value["id"])
    return (yield from parse_value(value, variables, may_substitute=_may_substitute(body)))


def _may_substitute(body: bytes) -> bool:
    return b"$" in body or b"\\u0024" in body


def parse_value(value: object, variables: Variables, *, may_substitute: bool = True) -> Steps[Request]:
    """The same from a value that can be stored."""
    try:
        return (yield from _read(value, variables, may_substitute))
    except RecursionError:  # parts of a description become text, which takes more levels than the value has
        raise FormError("it is nested too deeply") from None


def _read(value: object, variables: Variables, may_substitute: bool) -> Steps[Request]:
    if not isinstance(value, dict) or not value.get("request"):
        raise FormError(legacy.INVALID)
    name = value["request"]
    kind = KINDS.get(name) if isinstance(name, str) else None
    if name == "submit":
        return (yield from _submit(value, variables, may_substitute))
    if kind is None:
        raise FormError(legacy.UNKNOWN_NAME.format(name), remedy=f"known are {', '.join(sorted([*KINDS, 'submit']))}")
    return kind.read(value)


def _submit(value: dict[str, Any], variables: Variables, may_substitute: bool) -> Steps[Submit]:
    jobs = value.pop("jobs", None)  # so that what is described is let go
    if not isinstance(jobs, list) or not jobs:
        raise FormError(legacy.NO_JOBS, where="jobs")
    values = variables()  # counted also when nothing is to be filled in
    return Submit((yield from describe_in_steps(jobs, values if may_substitute else None)))


def _names(value: Mapping[str, Any], missing: str) -> list[object]:
    names = value.get("jobNames")
    if not isinstance(names, list) or not names:
        raise FormError(missing, where="jobNames")
    return names


def _object(value: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    """A member that may be left out, or null."""
    content = value.get(member)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise MemberError(f"{shown(content)} is not an object", where=member)
    return content


def _job_info(value: Mapping[str, Any]) -> JobInfo:
    params = _object(value, "params") if value.get("params") else {}  # old clients may send false, 0 or []
    names = _names(value, legacy.NO_INFO_NAMES)
    return JobInfo(names, bool(params.get("withChilds")), bool(params.get("explain")), *_page(params))


def _list_jobs(value: Mapping[str, Any]) -> ListJobs:
    return ListJobs(*_page(_object(value, "params") if value.get("params") else {}))


def _page(params: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """`limit` and `after`, None where they are not given."""
    limit, after = params.get("limit"), params.get("after")
    if limit is not None and not (is_count(limit) and limit > 0):
        raise MemberError(f"{shown(limit)} is not a number of entries", where="params.limit", remedy="write 1000")
    if after is not None and not is_count(after):
        raise MemberError(
            f"{shown(after)} is not a whole number", where="params.after", remedy="write `next` of the last page"
        )
    return limit, after


def _control(value: Mapping[str, Any]) -> Control:
    command = value.get("command")
    if not isinstance(command, str):
        raise FormError(legacy.NO_COMMAND, where="command")
    if command != CONTROL_COMMAND:
        raise FormError(
            legacy.UNKNOWN_COMMAND.format(command), where="command", remedy=f"the command is {CONTROL_COMMAND}"
        )
    return Control(command)


def _finish(value: Mapping[str, Any]) -> Finish:
    options = _object(value, "options")
    delay_s = options.get("delay", FINISH_DELAY_S)
    if isinstance(delay_s, bool) or not isinstance(delay_s, (int, float)) or not 0 <= delay_s <= LONGEST_FINISH_DELAY_S:
        raise MemberError(
            f"{shown(delay_s)} is not a number of seconds", where="options.delay", remedy="write 2 or 0.5"
        )
    return Finish(bool(options.get("kill")), float(delay_s))


def _events(value: Mapping[str, Any]) -> Events:
    after = value.get("after", 0)
    if not is_count(after):
        raise MemberError(f"{shown(after)} is not an event number", where="after")
    return Events(after)


def _overview(value: Mapping[str, Any]) -> Overview:
    params = _object(value, "params")
    limit, match = params.get("limit", overview.USUAL), params.get("match", "")
    if not (is_count(limit) and limit <= overview.MOST):
        raise MemberError(
            f"{shown(limit)} is not a number of entries", where="params.limit", remedy=f"write 0 to {overview.MOST}"
        )
    if not isinstance(match, str):
        raise MemberError(f"{shown(match)} is not text", where="params.match")
    return Overview(limit, match)


def _release(value: Mapping[str, Any]) -> Release:
    allocation = value.get("allocation")
    if not isinstance(allocation, str) or not allocation:
        raise MemberError(f"{shown(allocation)} is not the name of an allocation", where="allocation")
    return Release(allocation)


def _call_results(value: Mapping[str, Any]) -> CallResults:
    executor, epoch, after = value.get("executor"), value.get("epoch", ""), value.get("after", 0)
    wait_s = value.get("wait", 0)
    for member, text in (("executor", executor), ("epoch", epoch)):
        if not isinstance(text, str):
            raise MemberError(f"{shown(text)} is not text", where=member)
    if not is_count(after):
        raise MemberError(f"{shown(after)} is not the number of an end", where="after")
    if isinstance(wait_s, bool) or not isinstance(wait_s, (int, float)) or not 0 <= wait_s <= LONGEST_RESULT_WAIT_S:
        raise MemberError(f"{shown(wait_s)} is not a number of seconds", where="wait", remedy="write 10 or 0.5")
    return CallResults(
        str(executor), str(epoch), after, float(wait_s), bool(value.get("jobs")), bool(value.get("keep"))
    )


def _register(value: Mapping[str, Any]) -> Register:
    if value.get("entity") != "manager":
        raise FormError(legacy.NO_REGISTER_ENTITY, where="entity")
    params = value.get("params")
    if not isinstance(params, dict):
        raise FormError(legacy.NO_REGISTER_PARAMETERS, where="params")
    if not {"id", "address", "resources"} <= params.keys():
        raise FormError(legacy.NO_REGISTER_KEYS, where="params")
    return Register(params)


def _notify(value: Mapping[str, Any]) -> Notify:
    if value.get("entity") != "job":
        raise FormError(legacy.NO_NOTIFY_ENTITY, where="entity")
    params = value.get("params")
    if not isinstance(params, dict):
        raise FormError(legacy.NO_NOTIFY_PARAMETERS, where="params")
    if not {"name", "state", "attributes"} <= params.keys():
        raise FormError(legacy.NO_NOTIFY_KEYS, where="params")
    return Notify(params)


class Kind(NamedTuple):
    """How one request is read, and, for the documentation, its members besides `request` and what it does."""

    read: Callable[[Mapping[str, Any]], Request]
    members: str
    does: str


KINDS: dict[str, Kind] = {
    "jobStatus": Kind(
        lambda value: JobStatus(_names(value, legacy.NO_STATUS_NAMES)),
        "`jobNames`",
        "States of jobs (`JOB`) and iterations (`JOB:ITERATION`).",
    ),
    "jobInfo": Kind(
        _job_info,
        "`jobNames`, `params: {withChilds, explain, limit, after}`",
        "All that is known of them; `withChilds` adds the iterations (ours: in pages with `limit` and `after`), `explain` "
        "(ours) why it is not running.",
    ),
    "listJobs": Kind(_list_jobs, "`params: {limit, after}`", "Names and states of all jobs (ours: in pages)."),
    "cancelJob": Kind(
        lambda value: CancelJob(_names(value, legacy.NO_CANCEL_NAMES)),
        "`jobNames`",
        "Cancel jobs or iterations, running ones too.",
    ),
    "removeJob": Kind(
        lambda value: RemoveJob(_names(value, legacy.NO_REMOVE_NAMES)),
        "`jobNames`",
        "Forget ended jobs; their names are free again.",
    ),
    "resourcesInfo": Kind(
        lambda value: ResourcesInfo(),
        "",
        "Nodes and cores: total, used, free (what no task uses, on nodes that are not lost).",
    ),
    "status": Kind(
        lambda value: Status(bool(_object(value, "options").get("allJobsFinished"))),
        "`options: {allJobsFinished}`",
        "The pilot, its resources (ours: `ReadyNodes`, with an agent) and counts; with the option only whether all is done.",
    ),
    "control": Kind(_control, "`command`", f"`{CONTROL_COMMAND}`: end when the work is done."),
    "finish": Kind(
        _finish,
        "`options: {delay, kill}`",
        "End after `delay` seconds (2), when what was submitted is done, or with `kill` after stopping it (ours).",
    ),
    "events": Kind(_events, "`after`", "Ours: the events after that number."),
    "overview": Kind(
        _overview,
        "`params: {limit, match}`",
        "Ours: what the pilot does now: nodes, running tasks by age, what waits and why, the rate, the latest failures, "
        "the log. Each list has at most `limit` (100) entries; `match`: only running tasks and nodes with this text.",
    ),
    "demand": Kind(
        lambda value: Demand(bool(_object(value, "params").get("nodesMayCome"))),
        "`params: {nodesMayCome}`",
        "Ours: what waits for nodes, by shape, and what each node does; with `nodesMayCome` work that fits on no node is no "
        "longer refused.",
    ),
    "release": Kind(
        _release,
        "`allocation`",
        "Ours: the nodes of this allocation (`pilotfish agent --allocation`) end what runs there, and leave.",
    ),
    "callResults": Kind(
        _call_results,
        "`executor`, `epoch`, `after`, `wait`, `jobs`, `keep`",
        "Ours: the ends of that executor's calls after a number; without any, waits for one for `wait` seconds. `jobs`: also "
        "which jobs it has. `keep`: the ends up to that number are kept, for a later life of the executor.",
    ),
    "register": Kind(_register, "`entity`, `params`", "Refused: this manager has no parent."),
    "notify": Kind(_notify, "`entity`, `params`", "Refused: this manager has no parent."),
}
"""All requests but `submit`, which takes variables besides."""
