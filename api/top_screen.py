"""The screen of `pilotfish top`, as lines of text with styles: what is seen, for a size, without a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple, Protocol

from msgspec import UNSET
from rich.text import Text

from ..pilot.wire.overview import Amount, Failure, Overview
from .amounts import counted, duration, memory, rate
from .top_view import HELP, PANES, View


class Outputs(Protocol):
    """What tasks have written, as far as it can be seen from here: at most so many last lines, else empty."""

    def tail(self, task: str, path: str, of_stderr: bool, lines: int) -> str: ...


_SHARES = (2, 4)
"""How many lines each part has first, and how many more while there is room; then one after the other has the rest."""
_BAR, _WIDE = 20, 100
_STATE_STYLES = {"READY": "green", "DRAINING": "yellow", "STARTING": "yellow", "EXPECTED": "yellow", "SILENT": "yellow"}


class Pane(NamedTuple):
    """One part of the screen. `entries`: the lines of each thing that can be chosen; `header`: the names of the columns."""

    title: str
    header: Text | None
    entries: list[list[Text]]
    note: str = ""
    """What is to be said when there is nothing."""


def screen(
    seen: Overview, view: View, size: tuple[int, int] | None, outputs: Outputs, stale: str = "", width: int = 100
) -> list[Text]:
    """The lines. `size`: columns and rows, all of which are used; None: all there is to say, in `width` columns.

    `stale`: why the picture is an old one.
    """
    width, height = size or (width, 0)
    top = [*_head(seen, width, view), *([Text(f" {stale}", "bold yellow")] if stale else [])]
    if height and view.shows_help:
        body = [Text("keys", "bold"), *(Text(f"  {line}") for line in HELP)]
    elif height and view.output is not None:
        body = _output(view, height - len(top) - 1, outputs)
    else:
        panes = _panes(seen, view, width)
        body = _arranged(panes, view, height - len(top) - 1) if height else list(_everything(panes))
    if not height:
        return [*top, *body]
    room = height - 1
    lines = [*top, *body][:room]
    lines += [Text("")] * (room - len(lines))
    return [_cut(line, width) for line in (*lines, _foot(seen, view))]


def clean(text: str) -> str:
    """Without what would do something to a terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


# --- head and foot ------------------------------------------------------------------------------------------------------


def _head(seen: Overview, width: int, view: View) -> list[Text]:
    pilot, tasks = seen.pilot, seen.tasks
    first = Text.assemble((f" pilotfish {clean(pilot.id)}", "bold"), f" on {clean(pilot.host)}")
    first.append(f"  up {duration(pilot.now_s - pilot.started_s)}")
    if pilot.ends_s is not None:
        left_s = pilot.ends_s - pilot.now_s
        first.append(f"  {duration(left_s)} until the allocation ends", "yellow" if left_s < 600 else "")
    if view.stands_still:
        first.append("  stands still", "bold yellow")
    counts = Text.assemble(
        f" {counted(tasks.total, 'task')}: {tasks.succeeded} done, ",
        (f"{tasks.failed} failed", "red" if tasks.failed else ""),
        f", {tasks.running} running, {tasks.queued + tasks.sent} waiting",
    )
    others = tasks.canceled + tasks.omitted
    if others:
        counts.append(f", {others} cancelled or omitted", "yellow")
    pace = Text(f" {rate(tasks.rate)}  ")
    if tasks.left_s is not None:
        pace.append(f"{duration(tasks.left_s)} left  ", "bold")
    pace.append_text(_bar(Amount(tasks.ended, tasks.total), max(_BAR, width - len(pace) - 12), "green"))
    pace.append(f" {_percent(tasks.ended, tasks.total)}")
    used = Text(" cores ")
    used.append_text(_bar(seen.cores, _BAR if width >= _WIDE else _BAR // 2, "cyan"))
    used.append(f" {seen.cores.used}/{seen.cores.total}")
    if seen.gpus.total:
        used.append(f"  GPUs {seen.gpus.used}/{seen.gpus.total}")
    if seen.mem_mib.total:
        used.append(f"  memory {memory(seen.mem_mib.used)}/{memory(seen.mem_mib.total)}")
    used.append(
        f"  nodes {seen.ready_count}/{seen.node_count} ready", "" if seen.ready_count == seen.node_count else "red"
    )
    named = [Text(f" {_all_used(seen.named)}")] if seen.named else []
    warnings = [Text(f" {clean(text)}", "bold red") for text in (pilot.problem, *pilot.warnings[-1:]) if text]
    return [first, counts, pace, used, *named, *warnings]


def _foot(seen: Overview, view: View) -> Text:
    if view.typing is not None:
        return Text(f" show only: {view.typing}_", "reverse")
    if view.question is not None:
        return Text(f" cancel {clean(view.question)}? y/n", "reverse bold")
    if view.message:
        return Text(f" {clean(view.message)}", "bold yellow")
    shown = f"only {view.filter!r} (Esc: all)  " if view.filter else ""
    return Text(f" {shown}Tab part  / filter  c cancel  t output  h help  q quit", "dim")


def _bar(amount: Amount, width: int, style: str) -> Text:
    full = round(width * amount.used / amount.total) if amount.total else 0
    return Text.assemble("[", ("#" * full, style), "." * (width - full), "]")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // whole}%" if whole else ""


# --- the parts of the screen --------------------------------------------------------------------------------------------


def _panes(seen: Overview, view: View, width: int) -> dict[str, Pane]:
    panes = (_nodes(seen), _running(seen, bool(view.filter)), _queue(seen, width), _failures(seen), _log(seen))
    return dict(zip(PANES, panes, strict=True))


_MIB = 1 << 20


def _all_used(named: Mapping[str, Amount]) -> str:
    return "  ".join(f"{clean(name)} {_used(amount)}" for name, amount in named.items())


def _used(amount: Amount) -> str:
    if amount.in_bytes:
        return f"{memory(amount.used // _MIB)}/{memory(amount.total // _MIB)}"
    return f"{amount.used}/{amount.total}"


def _nodes(seen: Overview) -> Pane:
    rows: list[list[str | Text]] = []
    for node in seen.nodes:
        state = Text(node.state, _STATE_STYLES.get(node.state, "red"))
        mem = f"{memory(node.mem_mib.used)}/{memory(node.mem_mib.total)}" if node.mem_mib.total else "-"
        gpus = f"{node.gpus.used}/{node.gpus.total}" if node.gpus.total else "-"
        bar = _bar(node.cores, _BAR // 2, "cyan")
        bar.append(f" {node.cores.used}/{node.cores.total}")
        last = clean(node.reason) or _all_used(node.named)
        rows.append([clean(node.name), state, bar, gpus, mem, str(node.running), last])
    header, lines = _table(("NODE", "STATE", "CORES", "GPUS", "MEMORY", "TASKS", ""), rows)
    return Pane(_title("nodes", len(seen.nodes), seen.node_count), header, [[line] for line in lines])


def _running(seen: Overview, is_filtered: bool) -> Pane:
    now_s = seen.pilot.now_s
    rows = [
        [
            clean(task.task),
            clean(task.node),
            str(task.cores),
            duration(now_s - task.started_s),
            "" if task.attempt == 1 else f"attempt {task.attempt}",
        ]
        for task in seen.running
    ]
    header, lines = _table(("TASK", "NODE", "CORES", "AGE", ""), rows)
    entries = [[line] for line in lines]
    unlisted = 0 if is_filtered else seen.tasks.running - seen.matching
    if unlisted > 0:
        entries.append([Text(f"  {counted(unlisted, 'task')} too new or too short to be listed", "dim")])
    title = _title("running", len(seen.running), seen.matching)
    return Pane(title, header if rows else None, entries, "nothing")


def _queue(seen: Overview, width: int) -> Pane:
    rows = [
        [clean(shape.needs), f"{shape.tasks}{'+' * shape.more}", f"{shape.jobs}{'+' * shape.more}", clean(shape.first)]
        for shape in seen.queue
    ]
    header, lines = _table(("NEEDS", "TASKS", "JOBS", "NEXT"), rows)
    entries = [
        [line, *(Text(part, "dim") for reason in shape.reasons for part in _wrapped(clean(reason), width))]
        for line, shape in zip(lines, seen.queue, strict=True)
    ]
    if seen.tasks.sent:
        entries.append([Text(f"  {counted(seen.tasks.sent, 'task')} sent ahead to nodes, for cores that get free")])
    if seen.depending:
        entries.append([Text(f"  {counted(seen.depending, 'task')} wait{'s' * (seen.depending == 1)} for other jobs")])
    return Pane(_title("queue", len(seen.queue), seen.shape_count), header if rows else None, entries, "nothing waits")


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, max(20, width - 1), initial_indent="   ", subsequent_indent="     ")


def _failures(seen: Overview) -> Pane:
    entries = []
    for failure in seen.failures:
        ago = duration(seen.pilot.now_s - failure.ended_s)
        line = Text.assemble("  ", (clean(failure.task), "red"), f"  {_why(failure)}  {clean(failure.node)}  {ago} ago")
        said = [] if failure.last_lines is UNSET else failure.last_lines
        entries.append([line, *(Text(f"   | {clean(text)}", "dim") for text in said)])
    return Pane(_title("failures", len(seen.failures), seen.tasks.failed, "latest"), None, entries, "none")


def _why(failure: Failure) -> str:
    code = "" if failure.exit_code is None else f"exit code {failure.exit_code}"
    return "; ".join(filter(None, (clean(failure.message), code)))


def _log(seen: Overview) -> Pane:
    return Pane("log", None, [[Text(f"  {clean(line)}")] for line in reversed(seen.log)])


def _title(name: str, shown: int, count: int, which: str = "first") -> str:
    return f"{name} ({count})" if shown >= count else f"{name} (the {which} {shown} of {count})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> tuple[Text, list[Text]]:
    """The columns as wide as their content."""
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*[[Text(name) for name in header], *cells], strict=True)]

    def line(row: Sequence[Text]) -> Text:
        text = Text("  ")
        for cell, width in zip(row, widths, strict=True):
            text.append_text(cell)
            text.append(" " * (width - len(cell) + 2))
        text.rstrip()
        return text

    return line([Text(name, "dim") for name in header]), [line(row) for row in cells]


# --- room ---------------------------------------------------------------------------------------------------------------


def _everything(panes: dict[str, Pane]) -> Iterator[Text]:
    for pane in panes.values():
        yield Text("")
        yield Text(pane.title, "bold")
        yield from _all_lines(pane)


def _all_lines(pane: Pane) -> list[Text]:
    lines = [line for entry in pane.entries for line in entry]
    if not lines:
        return [Text(f"  {pane.note}", "dim")] if pane.note else []
    return [*([pane.header] if pane.header else []), *lines]


def _arranged(panes: dict[str, Pane], view: View, room: int) -> list[Text]:
    """All parts with a few lines each, and the one that is looked at with the rest of the room."""
    needs = {name: len(_all_lines(pane)) for name, pane in panes.items()}
    given = dict.fromkeys(panes, 0)
    left = room - len(panes)
    order = [view.pane, *(name for name in ("running", "nodes", "failures", "queue", "log") if name != view.pane)]
    for most in (*_SHARES, room):
        for name in order:
            more = max(0, min(left, needs[name] - given[name], most))
            given[name] += more
            left -= more
    lines = []
    for number, (name, pane) in enumerate(panes.items(), 1):
        is_chosen = name == view.pane
        lines.append(Text(f"{number} {pane.title}", "bold reverse" if is_chosen else "bold"))
        lines += _part(pane, given[name], view.line) if is_chosen else _all_lines(pane)[: given[name]]
    return lines


def _part(pane: Pane, room: int, chosen: int) -> list[Text]:
    """As many entries as there is room for, with the chosen one among them and marked."""
    if not pane.entries:
        return _all_lines(pane)[:room]
    header = [pane.header] if pane.header else []
    room -= len(header)
    chosen = min(chosen, len(pane.entries) - 1)
    first = chosen
    while first > 0 and sum(map(len, pane.entries[first - 1 : chosen + 1])) <= room:
        first -= 1
    lines = []
    for number, entry in enumerate(pane.entries[first:], first):
        if number == chosen:
            marked = entry[0].copy()
            marked.plain = f">{marked.plain[1:]}"
            marked.stylize("bold")
            lines += [marked, *entry[1:]]
        else:
            lines += entry
    return [*header, *lines[: max(0, room)]]


def _output(view: View, room: int, outputs: Outputs) -> list[Text]:
    """The page that shows what a task has written."""
    chosen = view.output
    assert chosen is not None
    which, path = ("stderr", chosen.stderr) if view.of_stderr else ("stdout", chosen.stdout)
    title = Text(f"{which} of {clean(chosen.task)}{': ' * bool(path)}{clean(path)}", "bold")
    said = outputs.tail(chosen.task, path, view.of_stderr, max(0, room - 2)).splitlines()
    said = said or ["nothing yet, or it cannot be seen from here"]
    return [title, *(Text(f"  {clean(line)}") for line in said), Text("e: the other stream; Esc: back", "dim")]
