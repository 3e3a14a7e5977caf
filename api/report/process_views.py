"""The views of qcg-pm-processes: which processes a task had, as `--enable-proc-stats` has seen them.

Without its traces only the process that the pilot itself has started is known, from the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from .record import Record
from .tasks import TaskEnd
from .traces import Seen, Traces
from .view import Table, View

_NO_TRACES = (
    "no traces of processes (ptrace_*.log): only with --enable-proc-stats more is seen than the first process of a task"
)
_ARGUMENTS = 80
_MOST_LEVELS = 64


class Process(NamedTuple):
    """`level`: how far below the task's first process."""

    task: str
    level: int
    seen: Seen
    after_s: float
    """Since the first one began."""


def tree(record: Record, traces: Traces, names: Sequence[str], all: bool = False) -> View:
    """The processes below the first one of each task; without `all` only those of the task's program."""
    view = View("tree")
    if not traces:
        view.warnings.append(_NO_TRACES)
    found: list[Process] = []
    for task in _tasks(record, names, view):
        of_task = [
            each for each in _processes(traces, task) if all or each.level == 0 or each.seen.get("name") == task.program
        ]
        found += of_task

    def line(process: Process) -> str:
        above = "" if process.level else _heading(record, process.task)
        return above + _tree_line(process)

    view.tables.append(Table("processes", _COLUMNS, found, _cells, line))
    return view


def apps(record: Record, traces: Traces, names: Sequence[str]) -> View:
    """Those of the processes that are the task's program itself, with all that is known of them."""
    view = View("apps")
    if not traces:
        view.warnings.append(_NO_TRACES)
    found: list[Process] = []
    firsts: dict[int, int] = {}
    for task in _tasks(record, names, view):
        of_task = [each for each in _processes(traces, task) if each.seen.get("name") == task.program]
        if of_task:
            firsts[id(of_task[0])] = len(of_task)
        else:
            view.warnings.append(f"{task.name}: found 0 target processes")
        found += of_task

    def line(process: Process) -> str:
        count = firsts.get(id(process))
        return (f"found {count} target processes\n" if count else "") + _all_of(process.seen)

    view.tables.append(Table("processes", _COLUMNS, found, _cells, line))
    return view


def _tasks(record: Record, names: Sequence[str], view: View) -> Iterator[TaskEnd]:
    rows = record.tasks.rows(names)
    for name in names:
        if name not in rows:
            view.warnings.append(f'warning: job "{name}" not found in jobs report')
            continue
        task = record.tasks[rows[name]]
        if task.pid is None:
            view.warnings.append(f'warning: not found job "{name}" PID')
            continue
        yield task


# --- processes ---------------------------------------------------------------------------------------------------------


def _processes(traces: Traces, task: TaskEnd) -> Iterator[Process]:
    """The first process of a task and those below it, each before its children."""
    node = task.place.nodes[0] if task.place.shares else ""
    first = traces.find(task.pid, node) or traces.find(task.pid) or _known(task, node)
    began_s = _time_s(first.get("created"))
    todo = [(first, 0)]
    seen_before: set[tuple[object, object]] = set()
    while todo:
        seen, level = todo.pop()
        key = (seen.get("node"), seen.get("pid"))
        if key in seen_before or level > _MOST_LEVELS:
            continue
        seen_before.add(key)
        yield Process(task.name, level, seen, round(max(0.0, _time_s(seen.get("created")) - began_s), 6))
        todo += [(child, level + 1) for child in reversed(list(traces.below(seen)))]


def _known(task: TaskEnd, node: str) -> Seen:
    """Of a process that nobody has traced."""
    began = "" if task.started_s is None else str(datetime.fromtimestamp(task.started_s))
    return {
        "pid": task.pid,
        "name": task.program,
        "node": node,
        "created": began,
        "cpu_times": f"{task.cpu_s} s",
        "memory_info": f"at most {task.max_rss_kib} KiB",
    }


def _time_s(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


# --- as text and cells --------------------------------------------------------------------------------------------------

_COLUMNS = ("task", "level", "pid", "name", "node", "created", "after_s", "command", "cpu_times", "memory_info")


def _cells(process: Process) -> tuple[Any, ...]:
    seen = process.seen
    texts = [None if seen.get(name) is None else str(seen[name]) for name in ("cpu_times", "memory_info")]
    return (
        process.task,
        process.level,
        seen.get("pid"),
        seen.get("name"),
        seen.get("node"),
        seen.get("created"),
        process.after_s,
        " ".join(map(str, seen.get("cmdline") or ())),
        *texts,
    )


def _heading(record: Record, name: str) -> str:
    task = record.tasks[record.tasks.rows([name])[name]]
    return f"job {name}, job process id {task.pid}, application name {task.program}\n"


def _tree_line(process: Process) -> str:
    seen, level = process.seen, process.level
    when = f"after {process.after_s} secs" if level else f"created {seen.get('created')}"
    arguments = " ".join(map(str, seen.get("cmdline") or ()))[:_ARGUMENTS]
    return (
        f"{'  ' * (level + 1)}--{seen.get('pid', 'X')}:{seen.get('name', 'X')} ({arguments}) "
        f"node({seen.get('node', 'X')}) {when}"
    )


def _all_of(seen: Seen) -> str:
    parent = f"{seen.get('parent', 'X')}:{seen.get('parent_name', 'X')}"
    members = {
        "created": seen.get("created", "X"),
        "cmdline": " ".join(map(str, seen.get("cmdline") or ())),
        "parent": parent,
        "cpu affinity": seen.get("cpu_affinity", "X"),
        "cpu times": seen.get("cpu_times", "X"),
        "cpu memory info": seen.get("memory_info", "X"),
        "cpu memory percent": seen.get("memory_percent", "X"),
    }
    lines = [f"\t{name}: {value}" for name, value in members.items()]
    return "\n".join([f"{seen.get('pid', 'X')}:{seen.get('name', 'X')}", *lines])
