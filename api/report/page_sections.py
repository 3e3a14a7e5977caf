"""The sections of the page: each says in text and tables what there is to know; empty text where that is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import NamedTuple

from . import charts, summary, timeline
from .charts import kib, meter, number, seconds
from .page_data import has_bars
from .record import Record
from .tables import Column, rows_of, table

_CURVE = 300
"""Columns of what is drawn over time."""
_MOST_LINES = 200
"""Of a table."""
_SLOWEST = 12
WORDS = {"SUCCEED": "succeeded", "FAILED": "failed", "CANCELED": "canceled", "OMITTED": "omitted", "QUEUED": "left"}


class Section(NamedTuple):
    name: str
    title: str
    html: str


def sections(record: Record, grid: timeline.Grid) -> list[Section]:
    axis = grid.axis
    coarse = axis._replace(step_s=axis.step_s * axis.columns / _CURVE, columns=_CURVE)
    return [
        Section("timeline", "Timeline", _timeline(record, grid)),
        Section("over-time", "Over time", _curves(record, grid, coarse)),
        Section("times", "Run times and waiting", _spreads(record)),
        Section("failed", "Tasks that did not succeed", _failed(record)),
        Section("slowest", "Slowest tasks", _slowest(record)),
        Section("jobs", "Jobs", _jobs(record)),
        Section("memory", "Memory", _memory(record)),
        Section("attempts", "Attempts and faults", _attempts(record)),
        Section("nodes", "Nodes", _nodes(record, axis)),
        Section("runs", "Runs", _runs(record) if len(record.runs) > 1 else ""),
    ]


def core_time(core_s: float) -> str:
    return f"{number(core_s / 3600)} core-h" if core_s >= 3600 else f"{number(core_s)} core-s"


def _timeline(record: Record, grid: timeline.Grid) -> str:
    if not len(record.tasks):
        return "<p class=none>No task has ended.</p>"
    rows = grid.rows
    what = "core" if len(rows) == len(record.cores) else "node" if all(row.node for row in rows) else "group of nodes"
    each = (
        "Each bar is a task." if has_bars(record) else "The stronger the colour, the more of that time cores were busy."
    )
    label = f"Timeline: {len(rows)} rows, one for each {what}. Arrow keys move, the line below says what is there."
    kinds = [
        ("good", "succeeded"),
        ("bad", "did not succeed"),
        *([("canceled", "lost to a fault")] if record.lost else []),
    ]
    legend = "".join(f"<li class={kind}>{label}</li>" for kind, label in kinds)
    return (
        f"<p>A row for each {what}. {each} Use the pointer, or the arrow keys once it has the focus.</p>"
        f"<ul class=legend>{legend}</ul>"
        "<div class=timeline><canvas tabindex=0 role=application aria-roledescription=timeline aria-describedby=tip "
        f'aria-label="{label}"></canvas>'
        f"{charts.time_marks(grid.axis)}<p class=tip id=tip role=status aria-live=polite></p></div>"
        '<noscript><p>Without JavaScript the timeline is not drawn; the table <a href="#nodes">Nodes</a> has the sums.</p>'
        "</noscript>"
    )


def _curves(record: Record, grid: timeline.Grid, axis: timeline.Axis) -> str:
    found = timeline.series(record, grid, axis)
    together = _CURVE // _rate_columns(len(record.tasks))
    rates = [_rates(of_kind, together, axis.step_s) for of_kind in (found.succeeded, found.failed)]
    both = [good + bad for good, bad in zip(*rates, strict=True)]
    coarse = axis._replace(step_s=axis.step_s * together, columns=len(both))
    mean = sum(found.busy) / len(found.busy)
    most_waiting = max(found.waiting)
    uses = f"{number(round(mean, 1))} of {number(max(found.cores))} cores in use on average"
    uses += f", {number(round(max(found.busy)))} at most"
    waits = f"at most {number(round(most_waiting))} tasks waited at a time"
    ends = f"at most {number(max(both))} tasks ended per second"
    there = charts.Line("available", "there", found.cores, filled=False)
    shown = [
        charts.over_time("Cores in use", "cores", axis, [charts.Line("in use", "good", found.busy), there], uses),
        charts.over_time("Tasks waiting", "tasks", axis, [charts.Line("waiting", "wait", found.waiting)], waits),
        charts.over_time(
            "Tasks that ended per second",
            "per second",
            coarse,
            [charts.Line("ended", "good", both), charts.Line("did not succeed", "bad", rates[1])],
            ends,
        ),
    ]
    return f"<div class=charts>{''.join(shown)}</div>"


def _rate_columns(tasks: int) -> int:
    """A divisor of _CURVE: a column has some tasks, where there are not very few."""
    return next((columns for columns in (300, 150, 100, 60, 30) if tasks >= 4 * columns), 15)


def _rates(counts_: Sequence[int], together: int, step_s: float) -> list[float]:
    firsts = range(0, len(counts_), together)
    return [sum(counts_[first : first + together]) / (together * step_s) for first in firsts]


def _spreads(record: Record) -> str:
    runtimes = charts.bars("Run time of a task", summary.histogram(record.tasks.runtimes()), "No task has run.")
    waits = charts.bars(
        "Waiting, from its submit to its start", summary.histogram(summary.waits(record)), "Not known of this run."
    )
    return f'<p>How many tasks took how long; the scale is logarithmic.</p><div class="charts pair">{runtimes}{waits}</div>'


def _failed(record: Record) -> str:
    groups = summary.reasons(record)
    if not groups and not record.unlisted:
        return "<p class=none>All tasks that ended have succeeded.</p>"
    lines = [
        [WORDS[group.state], group.text or "(no reason given)", number(group.tasks), group.example] for group in groups
    ]
    lines += [
        [WORDS[state], "ended before they were started", number(count), ""] for state, count in record.unlisted.items()
    ]
    columns = [Column("State"), Column("Reason", "name"), Column("Tasks", "n"), Column("First", "name")]
    shown = "".join(_failure(record, failure.row, failure.lines) for failure in record.failures)
    shown = shown.replace("<details>", "<details open>", 1)
    heading = "<h3>The first of them, with the last lines they wrote</h3>" if shown else ""
    return table("Reasons why tasks did not succeed", columns, rows_of(lines)) + heading + shown


def _failure(record: Record, row: int, lines: str) -> str:
    task = record.tasks[row]
    took = "" if task.seconds is None else f"<span>after {seconds(task.seconds)}</span>"
    where = f"<span>on {escape(', '.join(task.place.nodes))}</span>" if task.place.shares else ""
    text = f"<pre>{escape(lines)}</pre>" if lines else "<p class=none>Nothing that it wrote is here.</p>"
    return (
        f"<details><summary><b>{escape(task.name)}</b>{task.state.lower()}: {escape(task.reason or 'no reason given')}"
        f"{took}{where}</summary>{text}</details>"
    )


def _slowest(record: Record) -> str:
    tasks, rows = record.tasks, summary.slowest(record, _SLOWEST)
    columns = [
        *(Column("Task", "name"), Column("Time", "n"), Column("CPU", "n"), Column("Memory", "n")),
        *(Column("Node", "name"), Column("Outcome")),
    ]
    lines = []
    for row in rows:
        task = tasks[row]
        used = kib(task.max_rss_kib) if task.max_rss_kib else ""
        nodes, state = ", ".join(task.place.nodes), WORDS[task.state]
        lines.append([task.name, seconds(task.seconds or 0), seconds(task.cpu_s), used, nodes, state])
    return table("The slowest tasks", columns, rows_of(lines)) if lines else ""


def _jobs(record: Record) -> str:
    if len(record.tasks.jobs) < 2:
        return ""
    found = summary.job_lines(record)
    columns = [
        Column("Job", "name"),
        *(Column(name, "n") for name in ("Tasks", "Not succeeded", "Median time", "In tasks")),
    ]
    lines = [
        [job.name, number(job.tasks), number(job.bad), seconds(job.median_s), core_time(job.core_s)] for job in found
    ]
    rest = len(record.tasks.jobs) - len(found)
    note = f"<p class=note>{number(rest)} others used less.</p>" if rest else ""
    return table("Jobs by the core time of their tasks", columns, rows_of(lines)) + note


def _memory(record: Record) -> str:
    groups = summary.memory_groups(record)
    if not groups:
        return "<p class=none>How much memory tasks used is not known of this run.</p>"
    columns = [
        Column("Asked for", "n"),
        *(Column(name, "n") for name in ("Tasks", "Median used", "95 % within", "At most")),
    ]
    has_asked = any(group.asked for group in groups)
    columns += [Column("At most, of what was asked", "part")] if has_asked else []
    lines = []
    for group in groups:
        asked = kib(group.asked) if group.asked else "nothing"
        share = group.max / group.asked if group.asked else 0.0
        part = meter(share, "bad" if share > 0.95 else "good") if group.asked else ""
        cells = [asked, number(group.tasks), kib(group.median), kib(group.p95), kib(group.max)]
        lines.append([*map(escape, cells), part] if has_asked else list(map(escape, cells)))
    return table("Memory asked for and used, by what was asked for", columns, lines)


def _attempts(record: Record) -> str:
    tries: dict[int, int] = {}
    for attempts in record.tasks.attempts:
        tries[attempts] = tries.get(attempts, 0) + 1
    lines = [
        ["never started" if not attempts else f"{number(attempts)}", number(count)]
        for attempts, count in sorted(tries.items())
    ]
    columns = [Column("Attempts"), Column("Tasks", "n")]
    html = f"<div class=narrow>{table('Attempts', columns, rows_of(lines))}</div>" if lines else ""
    if record.lost:
        total = core_time(sum(lost.core_seconds for lost in record.lost))
        html += f"<h3>Attempts that came to nothing: {number(len(record.lost))}, {total} lost</h3>" + _lost_table(
            record
        )
    if record.faults:
        faults = [[_since(record, fault.time_s), fault.node, fault.event] for fault in record.faults[:_MOST_LINES]]
        columns = [Column("When", "n"), Column("Node", "name"), Column("What")]
        html += "<h3>What went away</h3>" + table("Faults", columns, rows_of(faults))
    if not record.lost and not record.faults:
        html += "<p class=none>Nothing was lost to faults.</p>"
    return html


def _lost_table(record: Record) -> str:
    lost = [
        [each.task, each.node, _since(record, each.ended_s), core_time(each.core_seconds), each.reason]
        for each in record.lost[:_MOST_LINES]
    ]
    columns = [
        Column("Task", "name"),
        Column("Node", "name"),
        Column("When", "n"),
        Column("Lost", "n"),
        Column("Why", "name"),
    ]
    more = len(record.lost) - len(lost)
    return table("Lost attempts", columns, rows_of(lost)) + (
        f"<p class=note>... and {number(more)} more.</p>" if more else ""
    )


def _since(record: Record, time_s: float) -> str:
    """After the begin."""
    return f"after {seconds(max(0.0, time_s - record.began_s))}" if time_s and record.began_s else ""


def _nodes(record: Record, axis: timeline.Axis) -> str:
    found = summary.node_lines(record, axis.from_s, axis.to_s)
    columns = [
        Column("Node", "name"),
        *(Column(name, "n") for name in ("Cores", "Tasks", "Not succeeded")),
        Column("Busy", "part"),
        Column("There", "name"),
    ]
    lines = []
    for node in found[:_MOST_LINES]:
        came = _since(record, node.from_s) if node.from_s > axis.from_s + 1 else ""
        went = _since(record, node.to_s) if node.to_s < axis.to_s - 1 else ""
        stay = ", ".join(
            [
                *(["joined"] if node.joined else []),
                *([f"came {came}"] if came else []),
                *([f"left {went}"] if went else []),
            ]
        )
        cells = [node.name, number(node.cores), number(node.tasks), number(node.bad)]
        lines.append([*map(escape, cells), meter(node.busy), escape(stay or "all the time")])
    more = len(found) - len(lines)
    note = f"<p class=note>... and {number(more)} more nodes.</p>" if more > 0 else ""
    return table("Nodes", columns, lines) + note


def _runs(record: Record) -> str:
    columns = [Column("Run", "name"), Column("State"), Column("Began"), Column("Took", "n"), Column("Tasks ended", "n")]
    lines = []
    for run in record.runs:
        began = f"{datetime.fromtimestamp(run.began_s):%Y-%m-%d %H:%M:%S}" if run.began_s else ""
        took = seconds(run.ended_s - run.began_s) if run.began_s and run.ended_s else ""
        lines.append([run.name, run.state, began, took, number(run.tasks)])
    return table("Runs", columns, rows_of(lines))
