"""Charts of the page: SVG without words that is stretched to the page's width, with HTML for words, which is not.

So text has the same size on a phone as on a desk, no script is needed, and colours come from the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from .summary import Histogram
from .timeline import Axis, tick_text, ticks

_HEIGHT = 100
_LATE = 0.88


class Line(NamedTuple):
    """`kind`: its class in the style sheet. A `filled` one is an area from the bottom."""

    label: str
    kind: str
    values: Sequence[float]
    filled: bool = True


def over_time(name: str, unit: str, axis: Axis, lines: Sequence[Line], summary: str) -> str:
    """Lines above each other on one scale, which begins at 0. `summary`: the same in words."""
    most = max((max(line.values, default=0.0) for line in lines), default=0.0)
    top = _round_up(most)
    paths = "".join(_path(line, axis.columns, top) for line in lines)
    legend = "".join(f'<li class="{line.kind}">{escape(line.label)}</li>' for line in lines)
    levels = "".join(
        f'<span style="bottom:{100 * part:.0f}%">{number(top * part)}</span>' for part in ((0, 0.5, 1) if top else (0,))
    )
    data = escape(",".join(f"{value:.4g}" for value in lines[0].values), quote=True)
    return (
        f'<figure class="chart over-time" data-unit="{escape(unit)}" data-values="{data}">'
        f"<figcaption><h3>{escape(name)}</h3><ul class=legend>{legend}</ul></figcaption>"
        f"<div class=plot><div class=levels aria-hidden=true>{levels}</div>"
        f'<svg viewBox="0 0 {axis.columns} {_HEIGHT}" preserveAspectRatio="none" role=img '
        f'aria-label="{escape(summary, quote=True)}">{_rules(axis.columns)}{paths}</svg>{time_marks(axis)}</div>'
        f"<p class=words>{escape(summary)}</p></figure>"
    )


def _path(line: Line, columns: int, top: float) -> str:
    if not top:
        return ""
    points: list[str] = []
    before = ""
    for column, value in enumerate([*line.values]):
        height = f"{_HEIGHT - _HEIGHT * value / top:.1f}"
        if height != before:
            points.append(f"H{column}V{height}" if points else f"V{height}")
            before = height
    steps = "".join(points) + f"H{columns}"
    shape = f"M0 {_HEIGHT}{steps}V{_HEIGHT}Z" if line.filled else f"M0 {_HEIGHT}{steps}"
    return f'<path class="{line.kind}{"" if line.filled else " open"}" d="{shape}"/>'


def _rules(width: float) -> str:
    return "".join(f'<path class=rule d="M0 {y}H{width:g}"/>' for y in (0, _HEIGHT // 2, _HEIGHT))


def time_marks(axis: Axis, most: int = 6) -> str:
    """Times since the begin of the axis, below a plot."""
    length = axis.to_s - axis.from_s
    marks = ticks(length, most)
    step = marks[1] if len(marks) > 1 else length
    spans = "".join(f'<span style="{_at(seconds / length)}">{tick_text(seconds, step)}</span>' for seconds in marks)
    return f"<div class=marks aria-hidden=true>{spans}</div>"


def _at(part: float) -> str:
    """Where a mark begins, or where it ends when it would not fit otherwise."""
    return f"left:{100 * part:.2f}%" if part < _LATE else f"right:{100 * (1 - part):.2f}%"


def bars(name: str, found: Histogram | None, text: str) -> str:
    """A histogram of seconds. `text`: what is said instead when there is none."""
    if found is None:
        return f"<figure class=chart><figcaption><h3>{escape(name)}</h3></figcaption><p>{escape(text)}</p></figure>"
    top = max(found.counts)
    width = 100 / len(found.counts)
    shapes = "".join(
        f'<rect class=bar x="{width * place:.2f}" y="{_HEIGHT - _HEIGHT * count / top:.2f}" width="{width * 0.88:.2f}" '
        f'height="{_HEIGHT * count / top:.2f}"><title>{seconds(found.edges[place])} to '
        f"{seconds(found.edges[place + 1])}: {number(count)} tasks</title></rect>"
        for place, count in enumerate(found.counts)
        if count
    )
    every = max(1, len(found.edges) // 4)
    marks = "".join(
        f'<span style="left:{width * place:.2f}%">{seconds(found.edges[place])}</span>'
        for place in range(0, round(len(found.edges) * 0.86), every)
    )
    said = f"median {seconds(found.median)}, 95 % within {seconds(found.p95)}, at most {seconds(found.max)}"
    return (
        f"<figure class=chart><figcaption><h3>{escape(name)}</h3></figcaption>"
        f'<div class="plot low"><div class=levels aria-hidden=true><span style="bottom:100%">{number(top)}</span></div>'
        f'<svg viewBox="0 0 100 {_HEIGHT}" preserveAspectRatio="none" role=img aria-label="{said}">{_rules(100)}{shapes}</svg>'
        f"<div class=marks aria-hidden=true>{marks}</div></div><p class=words>{said}</p></figure>"
    )


def share_bar(parts: Sequence[tuple[str, str, int]]) -> str:
    """(class, label, count) side by side, with their legend."""
    total = sum(count for _, _, count in parts) or 1
    shown = [part for part in parts if part[2]]
    pieces = "".join(f'<span class="{kind}" style="flex-grow:{count}"></span>' for kind, _, count in shown)
    legend = "".join(
        f'<li class="{kind}"><b>{number(count)}</b> {escape(label)} <i>{percent(count / total)}</i></li>'
        for kind, label, count in shown
    )
    return f"<div class=share aria-hidden=true>{pieces}</div><ul class=legend>{legend}</ul>"


def meter(part: float, kind: str = "good") -> str:
    """A part of a whole in a cell of a table: a bar behind its number."""
    width = f"{100 * min(1.0, part):.0f}%"
    return f'<span class=meter><span class="{kind}" style="width:{width}"></span></span><span>{percent(part)}</span>'


def _round_up(most: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten; 0 for 0."""
    if most <= 0:
        return 0.0
    power = 1.0
    while power * 10 <= most:
        power *= 10
    while power > most:
        power /= 10
    return next(
        power * digit
        for digit in (1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.8, 3, 3.2, 3.6, 4, 5, 6, 7, 8, 9, 10)
        if power * digit >= most * 0.9999
    )


# --- numbers as people read them ----------------------------------------------------------------------------------------


def number(value: float) -> str:
    """`1,000,000`; three digits of what is small."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(part: float) -> str:
    """`0 %` and `100 %` are exact: `under 0.1 %` is not nothing, `over 99.9 %` is not all."""
    if 0 < part < 0.001:
        return "under 0.1 %"
    if 0.999 < part < 1:
        return "over 99.9 %"
    return f"{100 * part:.0f} %" if part in (0, 1) or 0.1 <= part <= 0.99 else f"{100 * part:.1f} %"


def seconds(value: float) -> str:
    """`3.2 ms`, `0.41 s`, `12 s`, `2 min 5 s`, `1 h 12 min`, `3 d 4 h`."""
    if value < 0.1:
        return f"{1000 * value:.3g} ms" if value else "0 s"
    if value < 59.5:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    size, unit, small, below = _UNITS[-1]
    for limit, (larger, name, smaller, rest_name) in zip((3600, 86400), _UNITS, strict=False):
        if round(value / smaller) * smaller < limit:
            size, unit, small, below = larger, name, smaller, rest_name
            break
    whole = round(value / small) * small
    rest = whole % size // small
    return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")


_UNITS = ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h"))


def kib(value: float) -> str:
    """`850 KiB`, `1.5 GiB`."""
    for unit in ("KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"
