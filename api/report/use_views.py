"""The views of qcg-pm-report about the use of cores: launch-stats, rusage, efficiency, efficiency-core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from . import figures
from .record import Record
from .view import Table, View
from .views import check_core

_NO_REAL_TIMES = (
    "no times of the processes themselves were measured (rtimes_*.log): those of the pilot may not be accurate"
)


def launch_stats(record: Record, details: bool = False) -> View:
    view = View("launch-stats", width=40)
    if not figures.is_measured(record):
        view.warnings.append(_NO_REAL_TIMES)
    found = list(figures.launches(record))
    starts, ends = [one.start_s for one in found], [one.finish_s for one in found]
    real, seen = [one.real_s for one in found], [one.seen_s for one in found]
    shares = [100 * (one.start_s + one.finish_s) / one.real_s for one in found if one.real_s > 0]
    start, finish = sum(starts), sum(ends)
    count = len(found)
    for label, seconds in (
        ("total start overhead", start),
        ("total finish overhead", finish),
        ("total start and finish overhead", start + finish),
        ("average job start overhead", figures.average(starts)),
        ("average job finish overhead", figures.average(ends)),
        ("average job total overhead", (start + finish) / count if count else 0.0),
        ("average real job run time", figures.average(real)),
        ("average qcg job run time", figures.average(seen)),
    ):
        view.add(label, seconds, f"{seconds:.4f}", f"{label.replace(' ', '_')}_s")
    percent = figures.average(shares)
    view.add("average job overhead per runtime (%)", percent, f"{percent:.2f}", "average_job_overhead_percent")
    view.add("generated for total jobs", count)
    if details:
        names = record.tasks.name
        view.tables.append(
            Table(
                "jobs",
                ("task", "start_s", "finish_s", "total_s"),
                found,
                lambda one: (names(one.row), one.start_s, one.finish_s, one.start_s + one.finish_s),
                lambda one: (
                    f"\t\t{names(one.row)}: total {one.start_s + one.finish_s:.4f}, start {one.start_s:.4f}, "
                    f"stop {one.finish_s:.4f}"
                ),
                f"\t{'individual job statistics':>40}",
            )
        )
    return view


class _Used(NamedTuple):
    core: int
    utilization: float
    unused_s: float


def rusage(record: Record, details: bool = False, wo_init: bool = False, until_last_job: bool = False) -> View:
    """How busy the cores were: from the start of the pilot to its end, or of the tasks alone."""
    view = View("rusage", width=40)
    from_s, to_s = record.began_s, record.ended_s
    if wo_init or not (from_s and to_s):
        from_s, to_s = figures.limits(record)
        view.warnings.append(
            "WARNING: resource usage is measured from the start of the first job, NOT from service start"
            + ("" if wo_init else ", as not enough is known")
        )
    if until_last_job:
        view.warnings.append(
            "WARNING: resource usage is counted until last job on given core finished, NOT when allocation finished"
        )
    unused = figures.unused_times(record, from_s, to_s, until_last_job)
    used = [_Used(one.core, one.utilization, one.unused_s) for one in unused]
    idle = len(record.cores) - len(used)
    percent = figures.average([one.utilization for one in used])
    view.add("used cores", len(used))
    if idle:
        view.warnings.append(f"WARNING: {idle} cores have not been used by any job")
        of_all = sum(one.utilization for one in used) / len(record.cores)
        view.add("average USED core utilization (%)", percent, f"{percent:.1f}%", "used_core_utilization_percent")
        view.add("average ALL cores utilization (%)", of_all, f"{of_all:.1f}%", "core_utilization_percent")
    else:
        view.add("average core utilization (%)", percent, f"{percent:.1f}%", "core_utilization_percent")
    if details:
        view.tables.append(_core_table(record, used))
    return view


def efficiency(record: Record, details: bool = False) -> View:
    """How busy the cores were but for the time that the pilot took to give them the next task."""
    view = View("efficiency", width=40)
    if not figures.is_measured(record):
        view.warnings.append(_NO_REAL_TIMES)
    used = _efficiencies(record, figures.dispatch_gaps(record))
    percent = figures.average([one.utilization for one in used])
    view.add("used cores", len(used))
    view.add("average core utilization (%)", percent, f"{percent:.1f}%", "core_utilization_percent")
    if details:
        view.tables.append(_core_table(record, used))
    return view


def efficiency_core(record: Record, node: str, core: str, details: bool = False) -> View:
    check_core(record, node, core)
    view = View("efficiency-core")
    gaps = figures.dispatch_gaps(record)
    first_s, last_s = figures.limits(record)
    number = next(number for number, each in enumerate(record.cores) if (each.node, each.name) == (node, core))
    used = _efficiencies(record, {number: gaps.get(number, last_s - first_s)})[0]
    share = f"utilization {used.utilization:.1f}%, unused {used.unused_s:.4f}"
    view.heading = f"node {node}:{core}: {share} of total {last_s - first_s:.4f}"
    if not figures.is_measured(record):
        view.warnings.append(_NO_REAL_TIMES)
    for key, value in (
        ("utilization_percent", used.utilization),
        ("unused_s", used.unused_s),
        ("total_s", last_s - first_s),
    ):
        view.add("", value, key=key)
    if details:
        view.tables.append(_waits(record, number))
    return view


def _efficiencies(record: Record, unused_s: Mapping[int, float]) -> list[_Used]:
    first_s, last_s = figures.limits(record)
    total_s = last_s - first_s
    return [
        _Used(core, 100 * (total_s - seconds) / total_s if total_s else 0.0, seconds)
        for core, seconds in sorted(unused_s.items())
    ]


def _waits(record: Record, core: int) -> Table:
    """For each task on the core: how long all its cores had been free."""
    tasks, first_s = record.tasks, figures.limits(record)[0]
    rows = [
        (tasks.name(row), max(0.0, figures.times_of(record, row)[0] - (free_s or first_s)))
        for row, free_s in figures.free_before(record, figures.by_start(record))
        if core in tasks.places[tasks.place[row]].cores
    ]
    return Table("tasks", ("task", "unused_s"), rows, tuple, lambda row: f"\t{row[0]}: unused {row[1]:.4f} s before it")


def _core_table(record: Record, used: list[_Used]) -> Table:
    """Node by node, as they are numbered."""
    lines: list[tuple[str, str, float, float]] = []
    for one in used:
        core = record.cores[one.core]
        lines.append((core.node, core.name, one.utilization, one.unused_s))
    lines.sort(key=lambda line: line[0])
    first_cores: dict[str, str] = {}
    for node, name, _, _ in lines:
        first_cores.setdefault(node, name)

    def text(line: tuple[str, str, float, float]) -> str:
        node, name, percent, unused_s = line
        above = f"\t{node}\n" if first_cores[node] == name else ""
        return f"{above}\t\t{name:4}: {percent:.1f}%, unused {unused_s:.4f} s"

    return Table("cores", ("node", "core", "utilization_percent", "unused_s"), lines, tuple, text)
