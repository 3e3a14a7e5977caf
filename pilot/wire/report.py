"""One entry of `jobs.report`, as the old system writes it (spec 16.1), in json and in text.

Put together by hand, because there is one per task: a general encoder takes three times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Literal

import msgspec

from ..model.states import State
from .replies import Runtime
from .runtime import Ran, encode_ended, texts

Format = Literal["json", "text"]


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
    resources: Mapping[str, Any] | None = None
    dependencies: Mapping[str, Any] | None = None
    messages: str = ""
    iterations: int | None = None


class ReadEntry(msgspec.Struct):
    """One line of a json report as its readers see it: `state` and `history` in words, times in ISO format."""

    name: str
    state: str
    runtime: Runtime
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
    return (",".join(parts) + "}\n").encode()


def encode_text(entry: ReportEntry) -> bytes:
    lines = [f"{entry.name} ({entry.state.name}) {entry.messages}"]
    lines += [f"\t{_iso(time_s).replace('T', ' ')}: {state.name}" for state, time_s in entry.history]
    lines += [f"\t{name}: {value}" for name, value in texts(entry.ran).items()] if entry.ran else []
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


ENCODERS: dict[Format, Callable[[ReportEntry], bytes]] = {"json": encode_json, "text": encode_text}

_NAMES = tuple(state.name for state in State)
_AT = tuple(f'{{"state": "{name}","date": "' for name in _NAMES)

_encoder = json.JSONEncoder(separators=(",", ": "))


def _dump(value: Mapping[str, Any]) -> str:
    return _encoder.encode(dict(value))


def _iso(time_s: float) -> str:
    """Local time; without a fraction when it is 0, as `datetime.isoformat`."""
    second, micro = divmod(round(time_s * 1_000_000), 1_000_000)
    return f"{_iso_second(second)}.{micro:06d}" if micro else _iso_second(second)


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second).isoformat()
