"""The sections of docs/developing/states.md that are made from the tables in pilot/model/states.py: meaning, table, picture."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from math import hypot

from pilotfish.pilot.model import states
from pilotfish.pilot.model.states import (
    ALLOWED,
    ATTEMPT_TABLE,
    NODE_TABLE,
    AttemptEvent,
    AttemptState,
    Fate,
    NodeEvent,
    NodeState,
    State,
)

_Arrows = Mapping[tuple[str, str], Sequence[str]]
"""(from, to) -> the events that lead there."""

_WIDTH, _HEIGHT, _COLUMN, _ROW = 112, 30, 190, 112
_INKS = ('stroke="white" stroke-width="3"', 'fill="#824"')
"""Words that stand on lines are drawn twice: first their margin, then themselves."""
_MANY = 4
"""An event that leads to one state from more states than this is written beside that state, not drawn as so many arrows."""

# Where the boxes are, as (column, row). What leads where follows from the tables; a state that has no place here is an error.
_TASK_PLACES = {
    "QUEUED": (0.0, 1.0),
    "SCHEDULED": (1.3, 0.0),
    "EXECUTING": (2.6, 1.0),
    "SUCCEED": (3.9, 2.0),
    "FAILED": (2.6, 3.0),
    "CANCELED": (1.3, 3.0),
    "OMITTED": (0.0, 3.0),
}
_ATTEMPT_PLACES = {
    "SENT": (0.0, 0.0),
    "IN_DOUBT": (0.5, 1.6),
    "RUNNING": (1.8, 0.8),
    "CANCELING": (3.0, 0.0),
    "BROKEN": (3.0, 1.6),
    "LOST": (1.8, 3.0),
    "EXCUSED": (0.0, 3.0),
    "ENDED": (4.2, 3.0),
}
_NODE_PLACES = {
    "EXPECTED": (0.0, 0.0),
    "STARTING": (1.4, 0.0),
    "READY": (2.8, 1.0),
    "DRAINING": (4.2, 0.0),
    "SILENT": (4.2, 2.0),
    "LOST": (1.7, 2.0),
    "RESTARTING": (0.0, 1.9),
    "GIVEN_UP": (0.8, 3.2),
    "DISMISSED": (2.8, 3.2),
    "LEFT": (4.2, 3.2),
}


def tasks() -> str:
    rows = [
        (
            f"**{before.name}**",
            ", ".join(after.name for after in State if ALLOWED[before][after]) or "nothing: it is final",
        )
        for before in State
    ]
    arrows = {(a.name, b.name): () for a in State for b in State if a is not b and ALLOWED[a][b]}
    return "\n".join([_meanings(State), _table(("state", "may become"), rows), _picture(_TASK_PLACES, arrows)])


def attempts() -> str:
    def cell(event: IntEnum, state: IntEnum) -> str:
        found = ATTEMPT_TABLE[event][state]
        if found is None:
            return ""
        after, fate = found
        return after.name + ("" if fate is Fate.NOTHING else f"<br>*{_words(fate)}*")

    table = _event_table(AttemptState, AttemptEvent, cell)
    arrows = _arrows(AttemptState, AttemptEvent, lambda event, state: (ATTEMPT_TABLE[event][state] or (None,))[0])
    parts = [_meanings(AttemptState), _meanings(AttemptEvent), table, "In italics what follows for the task:\n"]
    return "\n".join([*parts, _meanings(Fate, _words), _picture(_ATTEMPT_PLACES, arrows)])


def nodes() -> str:
    def cell(event: IntEnum, state: IntEnum) -> str:
        after = NODE_TABLE[event][state]
        return "" if after is None else after.name

    table = _event_table(NodeState, NodeEvent, cell)
    arrows = _arrows(NodeState, NodeEvent, lambda event, state: NODE_TABLE[event][state])
    return "\n".join([_meanings(NodeState), _meanings(NodeEvent), table, _picture(_NODE_PLACES, arrows)])


# --- words --------------------------------------------------------------------------------------------------------------


def _words(member: IntEnum) -> str:
    return member.name.lower().replace("_", " ")


def _meanings(kind: type[IntEnum], name: Callable[[IntEnum], str] = lambda member: f"**{member.name}**") -> str:
    """Each member with the text below it in the source."""
    texts = _texts(kind)
    rows = [(name(member), texts[member.name]) for member in kind if member.name in texts]
    heading = {"State": "state", "Event": "event", "Fate": "for the task"}
    return _table((next(word for end, word in heading.items() if kind.__name__.endswith(end)), "meaning"), rows)


def _texts(kind: type[IntEnum]) -> dict[str, str]:
    """The string below each member, which Python itself does not keep."""
    body = ast.parse(inspect.getsource(states)).body
    (found,) = [each for each in body if isinstance(each, ast.ClassDef) and each.name == kind.__name__]
    texts = {}
    for member, below in zip(found.body, found.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name) and is_text:
            texts[member.targets[0].id] = re.sub(r"\s+", " ", str(below.value.value)).replace("|", "\\|")
    return texts


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _event_table(kind: type[IntEnum], events: type[IntEnum], cell: Callable[[IntEnum, IntEnum], str]) -> str:
    """Events as rows, states as columns; states in which nothing can happen have none."""
    columns = [state for state in kind if any(cell(event, state) for event in events)]
    rows = [[f"**{event.name}**", *(cell(event, state) or "-" for state in columns)] for event in events]
    return _table(["event", *(state.name for state in columns)], rows)


# --- pictures -----------------------------------------------------------------------------------------------------------


def _arrows(
    kind: type[IntEnum], events: type[IntEnum], follows: Callable[[IntEnum, IntEnum], IntEnum | None]
) -> dict[tuple[str, str], list[str]]:
    """What leads from one state to another. An event that changes nothing is no arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for event in events:
        ends = {state: after for state in kind if (after := follows(event, state)) is not None and after is not state}
        for state, after in ends.items():
            is_common = sum(each is after for each in ends.values()) > _MANY
            arrows.setdefault(("" if is_common else state.name, after.name), []).append(event.name)
    return arrows


def _picture(places: Mapping[str, tuple[float, float]], arrows: _Arrows) -> str:
    """An SVG that stands in the page itself, so that it needs no script and no network."""
    columns, rows = (max(each[axis] for each in places.values()) for axis in (0, 1))
    width, height = int(columns * _COLUMN) + _WIDTH + 100, int(rows * _ROW) + _HEIGHT + 60
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="10">',
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto">'
        '<path d="M0,0 L7,3 L0,6 z"/></marker></defs>',
    ]
    for (before, after), events in arrows.items():
        if before:
            lines += _arrow(_centre(places[before]), _centre(places[after]), events)
    for name, place in places.items():
        x, y = _centre(place)
        common = dict.fromkeys(arrows.get(("", name), ()))
        lines.append(
            f'<rect x="{x - _WIDTH / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
            'fill="#eef3fa" stroke="#456"/>'
        )
        lines.append(f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="12">{name}</text>')
        if common:
            said = f"from many states: {', '.join(common)}"
            lines.append(f'<text x="{x:.0f}" y="{y + 28:.0f}" text-anchor="middle" font-style="italic">{said}</text>')
    return "\n".join(["<div>", *lines, "</svg>", "</div>", ""])


def _centre(place: tuple[float, float]) -> tuple[float, float]:
    return 20 + _WIDTH / 2 + place[0] * _COLUMN, 20 + _HEIGHT / 2 + place[1] * _ROW


def _arrow(start: tuple[float, float], end: tuple[float, float], events: Sequence[str]) -> Iterator[str]:
    """Bent to the right of its direction, so that the way there and the way back are two."""
    (x0, y0), (x1, y1) = start, end
    length = hypot(x1 - x0, y1 - y0)
    bend = max(0.12 * length, 24)
    mx, my = (x0 + x1) / 2 - (y1 - y0) / length * bend, (y0 + y1) / 2 + (x1 - x0) / length * bend
    (ax, ay), (bx, by) = _border(start, (mx, my)), _border(end, (mx, my))
    yield (
        f'<path d="M{ax:.0f},{ay:.0f} Q{mx:.0f},{my:.0f} {bx:.0f},{by:.0f}" fill="none" stroke="#456" '
        'marker-end="url(#head)"/>'
    )
    anchor = "middle" if abs(x1 - x0) > abs(y1 - y0) else "start" if mx > (x0 + x1) / 2 else "end"
    for number, event in enumerate(events):
        x, y = (x0 + 2 * mx + x1) / 4, (y0 + 2 * my + y1) / 4 + 11 * (number - (len(events) - 1) / 2)
        yield from (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {ink}>{event}</text>' for ink in _INKS)


def _border(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the centre of a box leaves it."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    part = min(_WIDTH / 2 / abs(dx) if dx else 9.0, _HEIGHT / 2 / abs(dy) if dy else 9.0)
    return centre[0] + dx * part, centre[1] + dy * part
