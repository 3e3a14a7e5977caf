"""One entry of `jobs.report`, as the old system writes it, in json and in text.

Put together by hand, because there is one per task: a general encoder takes three times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from operator import sub
from typing import Any, Literal, NamedTuple

import msgspec

from ..model.results import Successes
from ..model.states import State
from ..model.tasks import EndedRow
from .codec import ascii_for_others, to_os
from .replies import Runtime
from .reply_texts import rtime, rtimes
from .runtime import Ran, encode_ended, texts

Format = Literal["json", "text", "columns"]
"""`columns`: see report_columns.py."""


class ReportEntry(msgspec.Struct, frozen=True):
    """A job or task that has reached its final state.

    `name` is `JOB` or `JOB:INDEX`; `history` has (state, seconds since the epoch), oldest first; `ran` is None for what was
    never placed; `execution`, `resources` and `dependencies` only for whole jobs; `iterations` (ours): how many they have.
    """

    name: str
    state: State
    history: list[tuple[State, float]]
    ran: Ran | None
    execution: Mapping[str, Any] | None = None
    resources: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    dependencies: Mapping[str, Any] | None = None
    messages: str = ""
    iterations: int | None = None


class ReadEntry(msgspec.Struct):
    """One line of a json report as its readers see it: `state` and `history` in words, times in ISO format."""

    name: str
    state: str
    runtime: Runtime
    history: list[dict[str, str]] = []
    execution: dict[str, Any] | None = None
    iterations: int | None = None
    messages: str = ""


def decode_json(line: bytes) -> ReadEntry:
    """Raises ValueError for a torn line. Not by msgspec alone: a name may have bytes that are not UTF-8."""
    return msgspec.convert(json.loads(line), ReadEntry)


def encode_json(entry: ReportEntry) -> bytes:
    """One line; separators `,` and `: ` and the order of members are what post-processing has always seen."""
    history = ",".join([f'{_AT[state]}{_iso(time_s)}"}}' for state, time_s in entry.history])
    runtime = encode_ended(entry.ran) if entry.ran else "{}"
    parts = [
        f'{{"name": {_quoted(entry.name)},"state": "{_NAMES[entry.state]}","history": [{history}],"runtime": {runtime}'
    ]
    for member in ("execution", "resources", "dependencies"):
        value = getattr(entry, member)
        if value is not None:
            parts.append(f'"{member}": {_dump(value)}')
    if entry.iterations is not None:
        parts.append(f'"iterations": {entry.iterations}')
    if entry.messages:
        parts.append(f'"messages": {_quoted(entry.messages)}')
    return ascii_for_others(",".join(parts) + "}\n").encode()


class PlaceTexts(NamedTuple):
    """Where a task ran, in JSON."""

    allocation: str
    node: str
    """With what follows it, if the task had GPUs or named resources."""


def place_texts(allocation: str, node: str, resources: str = "") -> PlaceTexts:
    named = f',"resources": {ascii_for_others(_quoted(resources))}' if resources else ""
    return PlaceTexts(ascii_for_others(_quoted(allocation)), ascii_for_others(_quoted(node)) + named)


class TaskLines:
    """JSON entries of the tasks of one job; what is the same for all of them is put together once.

    The same bytes as `encode_json` has for an entry each, at a third of the cost. Only for tasks that started, ended with an
    exit code, at the first attempt, and have no message, and for jobs whose tasks all have the same folder and program.
    """

    __slots__ = ("_begin", "_from_s", "_minute", "_program", "_to_s", "_wd")

    def __init__(self, job_name: str, wd: str, program: str) -> None:
        self._begin = f'{{"name": {_quoted(job_name)[:-1]}:'
        self._wd = ascii_for_others(f',"wd": {_quoted(wd)},"rtime": "')
        self._program = ascii_for_others(f'","pname": {_quoted(program)},"node": ')
        self._from_s = self._to_s = 0.0
        """The minute in which the last task ended; most that follow have run in it too."""
        self._minute = ""

    def encode(self, index: int, state: State, row: EndedRow, place: PlaceTexts) -> str:
        allocation, node = place
        exit_code, pid, _, max_rss_kib, cpu_s, scheduled_s, started_s, ended_s, _ = row
        if not self._from_s <= started_s <= ended_s < self._to_s:
            self._from_s = ended_s // 60.0 * 60.0
            self._to_s = self._from_s + 59.999999
            self._minute = _iso_minute(ended_s // 60.0)
        if self._from_s <= started_s <= ended_s < self._to_s:
            began = f"{self._minute}{started_s - self._from_s:09.6f}"
            ended = f"{self._minute}{ended_s - self._from_s:09.6f}"
            if began.endswith(".000000") or ended.endswith(".000000"):
                began, ended = _iso(started_s), _iso(ended_s)
        else:
            began, ended = _iso(started_s), _iso(ended_s)
        return (
            f'{self._begin}{index}","state": "{_NAMES[state]}","history": [{_AT_SCHEDULED}{_iso_remembered(scheduled_s)}"}},'
            f'{_AT_EXECUTING}{began}"}},{_AT[state]}{ended}"}}],"runtime": {{"allocation": {allocation}{self._wd}'
            f'{rtime(ended_s - started_s)}","exit_code": "{exit_code}","pid": "{pid}{self._program}{node},'
            f'"cpu_s": "{cpu_s:.6f}","max_rss_kib": "{max_rss_kib}","attempts": "1"}}}}\n'
        )

    def encode_all(self, first_index: int, ends: Successes, places: Sequence[PlaceTexts]) -> str:
        """`encode` for tasks that have succeeded together."""
        indices = [first_index + pos for pos in ends.pos]
        where = [places[place] for place in ends.place]
        times = _dates(ends.started_s), _dates(ends.ended_s), rtimes(list(map(sub, ends.ended_s, ends.started_s)))
        begin, wd, program = self._begin, self._wd, self._program
        scheduled = f'","state": "SUCCEED","history": [{_AT_SCHEDULED}{_iso(ends.scheduled_s)}"}},{_AT_EXECUTING}'
        succeed = f'"}},{_AT[State.SUCCEED]}'
        return "".join(
            [
                f'{begin}{index}{scheduled}{began}{succeed}{ended}"}}],"runtime": {{"allocation": {allocation}{wd}'
                f'{took}","exit_code": "0","pid": "{pid}{program}{node},'
                f'"cpu_s": "{cpu_s:.6f}","max_rss_kib": "{max_rss_kib}","attempts": "1"}}}}\n'
                for index, began, ended, took, (allocation, node), pid, cpu_s, max_rss_kib in zip(
                    indices, *times, where, ends.pid, ends.cpu_s, ends.max_rss_kib, strict=True
                )
            ]
        )


def encode_text(entry: ReportEntry) -> bytes:
    lines = [f"{entry.name} ({entry.state.name}) {entry.messages}"]
    lines += [f"\t{_iso(time_s).replace('T', ' ')}: {state.name}" for state, time_s in entry.history]
    lines += [f"\t{name}: {value}" for name, value in texts(entry.ran).items()] if entry.ran else []
    return to_os("\n".join(lines) + "\n").encode(errors="surrogateescape")


ENCODERS: dict[Format, Callable[[ReportEntry], bytes]] = {
    "json": encode_json,
    "text": encode_text,
    "columns": encode_json,
}

_NAMES = tuple(state.name for state in State)
_AT = tuple(f'{{"state": "{name}","date": "' for name in _NAMES)
_AT_SCHEDULED, _AT_EXECUTING = _AT[State.SCHEDULED], _AT[State.EXECUTING]

_encoder = json.JSONEncoder(separators=(",", ": "))


def _dump(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    return _encoder.encode(dict(value) if isinstance(value, Mapping) else value)


def _iso(time_s: float) -> str:
    """Local time; without a fraction when it is 0, as `datetime.isoformat`."""
    minute, second = divmod(time_s, 60.0)
    text = f"{second:09.6f}"
    if text == "60.000000":
        minute, text = minute + 1, "00.000000"
    return f"{_iso_minute(minute)}{text.removesuffix('.000000')}"


def _dates(times_s: Sequence[float]) -> list[str]:
    """`_iso` of each. Nearly always all are in one minute."""
    minute = times_s[0] // 60.0
    seconds = [time_s - minute * 60.0 for time_s in times_s]
    if min(seconds) < 0 or max(seconds) >= 59.999999:
        return list(map(_iso, times_s))
    begin = _iso_minute(minute)
    return [f"{begin}{second:09.6f}".removesuffix(".000000") for second in seconds]


# Of times that many tasks have in common, as those that were scheduled together.
_iso_remembered = lru_cache(maxsize=256)(_iso)


@lru_cache(maxsize=256)
def _iso_minute(minute: float) -> str:
    """Up to and including the last colon."""
    return datetime.fromtimestamp(minute * 60.0).isoformat()[:-2]
