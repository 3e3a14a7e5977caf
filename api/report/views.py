"""The views of qcg-pm-report: the same labels in the same order, so that programs that read its text read ours.

What is ours stands behind, and in CSV and JSON everything has a name. `views_of_processes` has the two of qcg-pm-processes,
`gantt` those that are pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from ...pilot.model.errors import UsageError
from . import figures
from .record import Record
from .tasks import STATES, Place
from .view import Cell, Moment, Table, View

UNKNOWN = "???"


def moment(time_s: float | None) -> str:
    """As the original prints times: local, `None` for none."""
    return str(datetime.fromtimestamp(time_s)) if time_s else "None"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "None"
    text = str(timedelta(seconds=round(seconds, 6)))
    return text if "." in text else f"{text}.000000"


# --- stats --------------------------------------------------------------------------------------------------------------


def stats(record: Record, details: bool = False) -> View:
    view, tasks = View("stats"), record.tasks
    by_state = counts(record)
    began_s, ended_s = record.began_s, record.ended_s
    first_s, last_s = figures.limits(record)
    view.add("total jobs", sum(by_state.values()))
    view.add("failed jobs", by_state["FAILED"] + by_state["OMITTED"])
    view.add("total cores", len(record.cores))
    view.add("total nodes", len({core.node for core in record.cores}))
    view.add("service started", _moment(began_s), moment(began_s))
    view.add("service finished", _moment(ended_s), moment(ended_s))
    _add_overhead(view, record, first_s, last_s)
    view.add("succeeded jobs", by_state["SUCCEED"])
    view.add("canceled jobs", by_state["CANCELED"])
    view.add("jobs left", by_state["QUEUED"])
    view.add("repeated attempts", sum(attempts - 1 for attempts in tasks.attempts if attempts > 1))
    view.add("cpu core-hours", sum(tasks.cpu_s) / 3600, f"{sum(tasks.cpu_s) / 3600:.2f}", "cpu_core_hours")
    if details:
        _add_details(view, record, first_s, last_s)
    return view


def counts(record: Record) -> dict[str, int]:
    """Tasks by state; QUEUED: those that have not ended. They add up to all that were accepted."""
    by_state = {state: record.tasks.state.count(number) for number, state in enumerate(STATES)}
    for state, count in record.unlisted.items():
        by_state[state] += count
    return by_state | {"QUEUED": record.left}


def _moment(time_s: float) -> Moment | None:
    return Moment(time_s) if time_s else None


def _add_overhead(view: View, record: Record, first_s: float, last_s: float) -> None:
    """What the pilot took before its first task, and after its last."""
    began_s, ended_s = record.began_s, record.ended_s
    runtime = ended_s - began_s if began_s and ended_s else None
    before = first_s - began_s if began_s and first_s else None
    after = max(0.0, ended_s - last_s) if ended_s and last_s else None
    for label, seconds in (("service runtime", runtime), ("init overhead", before), ("finish overhead", after)):
        view.add(
            label, seconds, f"{UNKNOWN if seconds is None else f'{seconds:.2f}'} secs", f"{label.replace(' ', '_')}_s"
        )
    if before is None or after is None or not runtime:
        return
    both = before + after
    view.add("total overhead", both, f"{both:.2f} secs", "total_overhead_s")
    view.add("overhead ratio", 100 * both / runtime, f"{100 * both / runtime:.1f} %", "overhead_percent")
    hours = len(record.cores) * both / 3600
    view.add("overhead core-hours", hours, f"{hours:.2f}")


def _add_details(view: View, record: Record, first_s: float, last_s: float) -> None:
    queued = [submit.time_s for submit in record.submits]
    first_queued, last_queued = min(queued, default=0.0), max(queued, default=0.0)
    view.add("first job queued", _moment(first_queued), moment(first_queued))
    view.add("last job queued", _moment(last_queued), moment(last_queued))
    view.add("total queuing time", round(last_queued - first_queued, 6), key="total_queuing_time_s")
    view.add("first job start", _moment(first_s), moment(first_s))
    view.add("last job finish", _moment(last_s), moment(last_s))
    spread = figures.spread(record.tasks.runtimes())
    rows: list[tuple[str, float]] = [] if spread is None else list(spread._asdict().items())
    table = Table(
        "runtime_s",
        ("statistic", "seconds"),
        rows,
        tuple,
        lambda row: f"\t{row[0]:>30}: {row[1]}",
        "\tjobs runtime statistics (seconds):",
    )
    view.tables.append(table)


# --- tasks --------------------------------------------------------------------------------------------------------------

TASK_COLUMNS = (
    *("task", "state", "exit_code", "reason", "queued", "scheduled", "started", "ended", "real_started", "real_ended"),
    *("seconds", "nodes", "pid", "program", "folder", "cpu_s", "max_rss_mib", "attempts"),
)


def _cells(record: Record, row: int) -> tuple[Cell, ...]:
    task, real = record.tasks[row], record.real.get(row)
    times = (task.queued_s, task.scheduled_s, task.started_s, task.ended_s, *(real or (None, None)))
    return (
        task.name,
        task.state,
        task.exit_code,
        task.reason,
        *(None if time_s is None else Moment(time_s) for time_s in times),
        task.seconds,
        task.place,
        task.pid,
        task.program,
        task.folder,
        task.cpu_s,
        task.max_rss_kib / 1024,
        task.attempts,
    )


def _task_table(record: Record, rows: Iterable[int], line: Callable[[Record, int], str]) -> Table:
    return Table("tasks", TASK_COLUMNS, rows, lambda row: _cells(record, row), lambda row: line(record, row))


def text(record: Record) -> View:
    """Every task with its history, as the report of format `text` has it."""
    return View("text", tables=[_task_table(record, range(len(record.tasks)), _history)])


def _history(record: Record, row: int) -> str:
    task = record.tasks[row]
    times = (
        ("QUEUED", task.queued_s if ":" not in task.name else None),
        ("SCHEDULED", task.scheduled_s),
        ("EXECUTING", task.started_s),
        (task.state, task.ended_s),
    )
    lines = [f"{datetime.fromtimestamp(time_s).isoformat()}: {state}" for state, time_s in times if time_s]
    members: dict[str, object] = {
        "allocation": task.place.allocation,
        "wd": task.folder,
        "rtime": duration(task.seconds),
    }
    members |= {"exit_code": task.exit_code, "pid": task.pid, "pname": task.program}
    known = [f"{name}: {value}" for name, value in members.items() if value not in (None, "", "None")]
    return "\n\t".join([f"{task.name} ({task.state}) {task.message}", *lines, *known]) + "\n"


def job(record: Record, *names: str) -> View:
    """All that is known of some tasks."""
    found = record.tasks.rows(names)
    view = View("job", tables=[_task_table(record, [found[name] for name in names if name in found], details_of)])
    view.warnings = [f"{name}: {_why_missing(record, name)}" for name in names if name not in found]
    return view


def _why_missing(record: Record, name: str) -> str:
    """Of a job with iterations these have what there is to know."""
    jobs = record.tasks.jobs
    row = next((row for row, number in enumerate(record.tasks.job) if jobs[number].name == name), None)
    return "missing job data" if row is None else f"it has iterations, name some of them, as {record.tasks.name(row)}"


def details_of(record: Record, row: int) -> str:
    task, real = record.tasks[row], record.real.get(row)
    state = task.state
    if state != "SUCCEED":
        state += f" ({'UNKNOWN' if task.exit_code is None else task.exit_code})"
    members = {
        "run-time (s)": duration(task.seconds),
        "in queue (s)": moment(task.queued_s),
        "in schedule (s)": moment(task.scheduled_s),
        "start (by qcg)": moment(task.started_s),
        "finish (by qcg)": moment(task.ended_s),
        "start (real)": moment(real[0]) if real else "0",
        "finish (real)": moment(real[1]) if real else "0",
        "nodes": str({node: list(cores) for node, cores in task.place.shares}),
        "process id": str(task.pid),
        "process name": task.program or "None",
        "state": state,
    }
    if task.message:
        members["message"] = task.message
    return "\n".join([f"\t{task.name}:", *(f"\t{label:>20}: {value}" for label, value in members.items())])


def jobs(
    record: Record,
    state: str | None = None,
    node: str | None = None,
    core: str | None = None,
    sort: str | None = None,
    details: bool = False,
) -> View:
    """The tasks that ran, in the order in which they ended unless `sort` says otherwise."""
    tasks = record.tasks
    rows: Iterable[int] = tasks.those_that_ran()
    if state is not None:
        if state.upper() not in STATES:
            known = ", ".join(STATES)
            raise UsageError(f"there is no state {state!r}", where="--state", remedy=f"write one of {known}")
        number = STATES.index(state.upper())
        rows = (row for row in rows if tasks.state[row] == number)
    if node is not None or core is not None:
        places = {number for number, place in enumerate(tasks.places) if _is_at(place, node, core)}
        rows = (row for row in rows if tasks.place[row] in places)
    if sort is not None:
        rows = sorted(rows, key=_ORDERS[sort.lower()](record))
    return View("jobs", tables=[_task_table(record, rows, details_of if details else _short)])


def _is_at(place: Place, node: str | None, core: str | None) -> bool:
    return any((node is None or name == node) and (core is None or core in cores) for name, cores in place.shares)


_ORDERS: dict[str, Callable[[Record], Callable[[int], str | float]]] = {
    "start": lambda record: record.tasks.started_s.__getitem__,
    "finish": lambda record: record.tasks.ended_s.__getitem__,
    "runtime": lambda record: record.tasks.seconds,
    "name": lambda record: record.tasks.name,
    "state": lambda record: lambda row: STATES[record.tasks.state[row]],
}


def _short(record: Record, row: int) -> str:
    task = record.tasks[row]
    from_s, to_s = figures.times_of(record, row)
    nodes = ",".join(task.place.nodes)
    return (
        f"\t{task.name} state {task.state} run {duration(task.seconds)} secs, "
        f"between {moment(from_s)} - {moment(to_s)} on nodes {nodes}"
    )


def allocation_view(record: Record, node: str, core: str) -> View:
    """What ran on a core, in order of starts."""
    check_core(record, node, core)
    tasks = record.tasks
    places = {number for number, place in enumerate(tasks.places) if _is_at(place, node, core)}
    rows = [row for row in figures.by_start(record) if tasks.place[row] in places]
    return View("allocation", heading=f"jobs launched on {node}:{core}", tables=[_task_table(record, rows, _on_core)])


def _on_core(record: Record, row: int) -> str:
    task = record.tasks[row]
    from_s, to_s = figures.times_of(record, row)
    nodes = {node: list(cores) for node, cores in task.place.shares}
    return (
        f"\t{task.name} for {duration(task.seconds)}, between {moment(from_s)} - {moment(to_s)}\n\t\ton nodes {nodes}"
    )


def check_core(record: Record, node: str, core: str) -> None:
    """Raises UsageError, which names what there is."""
    nodes = dict.fromkeys(each.node for each in record.cores)
    if node not in nodes:
        raise UsageError(f"there is no node {node!r}", where="NODE", remedy=f"there are {_some(list(nodes))}")
    cores = [each.name for each in record.cores if each.node == node]
    if core not in cores:
        raise UsageError(f"{node} has no core {core!r}", where="CORE", remedy=f"it has {_some(cores)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" ... {names[-1]}" if len(names) > 8 else "")


__all__ = ["allocation_view", "check_core", "counts", "job", "jobs", "stats", "text"]
