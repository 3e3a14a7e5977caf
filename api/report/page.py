"""The page: one file that needs nothing else, also not a network.

What it says is in its text and tables; charts are SVG made here. The script draws the timeline and tells what lies under the
pointer. Everything is aggregated, so the page of a million tasks is no larger than that of some thousands.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from html import escape
from importlib import resources

from ...pilot.version import VERSION
from . import charts, figures, summary, timeline
from .charts import number, percent, seconds
from .page_data import MOST_ROWS, data_of
from .page_sections import WORDS, core_time, sections
from .record import Record
from .views import counts

_COLUMNS = 600
_MOST_NAMES = 4
_OTHERS = {"FAILED": "bad", "CANCELED": "canceled", "OMITTED": "omitted", "QUEUED": "left"}


def render(record: Record) -> str:
    """The page as text."""
    by_state = counts(record)
    grid = timeline.grid(record, _axis(record), MOST_ROWS)
    shown = [section for section in sections(record, grid) if section.html]
    name = _title(record)
    texts = {
        "title": escape(f"{name}: Pilotfish report"),
        "heading": escape(name),
        "facts": _facts(record),
        "outcome": charts.share_bar(
            [(_OTHERS.get(state, "good"), WORDS[state], count) for state, count in by_state.items()]
        ),
        "nav": "".join(f'<a href="#{section.name}">{section.title}</a>' for section in shown),
        "main": _tiles(record, by_state)
        + "".join(
            f'<section id="{section.name}" aria-labelledby="{section.name}-title">'
            f'<h2 id="{section.name}-title">{section.title}</h2>{section.html}</section>'
            for section in shown
        ),
        "footer": f"Made by Pilotfish {VERSION} on {datetime.now():%Y-%m-%d %H:%M}.",
        "data": json.dumps(data_of(record, grid), separators=(",", ":")).replace("<", "\\u003c"),
    }
    texts |= {"css": _file("page.css").rstrip(), "js": _file("page.js").rstrip()}
    page = re.sub(r"{{(\w+)}}", lambda part: texts[part[1]], _file("page.html"))
    return page.encode(errors="replace").decode()


def _title(record: Record) -> str:
    names = [run.name for run in record.runs]
    return ", ".join(names[:_MOST_NAMES]) + (
        f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    )


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _axis(record: Record) -> timeline.Axis:
    """From the begin of the first run to the end of the last, or to the last thing that is known."""
    first_s, last_s = figures.limits(record)
    from_s = record.began_s or first_s
    return timeline.axis_of(min(from_s, first_s or from_s), max(record.ended_s, last_s, from_s), _COLUMNS)


def _facts(record: Record) -> str:
    began_s, nodes = record.began_s, len({core.node for core in record.cores})
    state = record.runs[0].state if len(record.runs) == 1 else f"{len(record.runs)} runs"
    parts = [state]
    if began_s:
        parts.append(f"began {datetime.fromtimestamp(began_s):%Y-%m-%d %H:%M:%S}")
    if began_s and record.ended_s:
        parts.append(f"took {seconds(record.ended_s - began_s)}")
    parts.append(f"{number(nodes)} {'node' if nodes == 1 else 'nodes'}, {number(len(record.cores))} cores")
    return " · ".join(escape(part) for part in parts)


def _tiles(record: Record, by_state: dict[str, int]) -> str:
    first_s, last_s = figures.limits(record)
    tasks, ended = sum(by_state.values()), sum(by_state.values()) - by_state["QUEUED"]
    there_s = _presence(record)
    used_s, cpu_s = summary.core_seconds(record), sum(record.tasks.cpu_s)
    lost_s = sum(lost.core_seconds for lost in record.lost)
    jobs = max(len(record.tasks.jobs), 1)
    tiles = [
        ("Tasks", number(tasks), f"of {number(jobs)} {'job' if jobs == 1 else 'jobs'}"),
        ("Time", seconds(last_s - first_s) if last_s else "none", "from the first start to the last end"),
        ("Rate", f"{number(ended / (last_s - first_s)) if last_s > first_s else '0'}/s", "tasks ended, on average"),
        (
            "Cores in use",
            percent(min(1.0, (used_s + lost_s) / there_s) if there_s else 0.0),
            f"of {core_time(there_s)}",
        ),
        ("CPU at work", percent(min(1.0, cpu_s / used_s) if used_s else 0.0), f"of {core_time(used_s)} in tasks"),
        ("Lost", core_time(lost_s), f"in {number(len(record.lost))} attempts that were repeated"),
    ]
    return (
        "<dl class=tiles>"
        + "".join(f"<div><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>" for label, value, note in tiles)
        + "</dl>"
    )


def _presence(record: Record) -> float:
    """For how many seconds there were cores."""
    axis = _axis(record)
    if not record.nodes:
        return len(record.cores) * (axis.to_s - axis.from_s)
    return sum(
        node.cores * max(0.0, (node.to_s or axis.to_s) - max(axis.from_s, node.from_s or axis.from_s))
        for node in record.nodes
    )
