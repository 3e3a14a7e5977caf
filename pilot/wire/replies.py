"""Replies as bytes: `code`, `message`, `data` in this order, absent ones left out (spec 3), and the texts inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..model.errors import PilotfishError
from ..model.states import State
from .legacy import wire_message

_encode = msgspec.json.Encoder().encode


class _Numbered(msgspec.Struct):
    """What a request may say about itself; any JSON value, kept as it is written."""

    id: msgspec.Raw = msgspec.Raw()


_decode_id = msgspec.json.Decoder(_Numbered).decode


def ok(message: str | None = None, data: Mapping[str, Any] | None = None) -> bytes:
    reply: dict[str, Any] = {"code": 0}
    if message is not None:
        reply["message"] = message
    if data is not None:
        reply["data"] = data
    return _encode(reply)


def error_reply(error: PilotfishError) -> bytes:
    """Code 1 with the message; beside it, for programs, `error {code, where, remedy}`."""
    detail = {"code": error.code, "where": error.where, "remedy": error.remedy}
    return _encode({"code": 1, "message": wire_message(error), "error": detail})


def with_id(reply: bytes, request: bytes) -> bytes:
    """The reply with the `id` of its request, if that has one (ours): for clients that send several and wait later."""
    if b'"id"' not in request:
        return reply
    try:
        number = bytes(_decode_id(request).id)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return reply
    return reply[:-1] + b',"id":' + number + b"}" if number else reply


def moment(time_s: float) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff`, local time; without the fraction when it is 0."""
    return str(datetime.fromtimestamp(time_s))


def rtime(seconds: float) -> str:
    """`H:MM:SS.ffffff`, always with the fraction: the published client parses nothing else (spec 9.4)."""
    if 0.0 <= seconds < 59.9999995:  # as most are; more would be rounded to a minute
        return f"0:00:{seconds:09.6f}"
    micros = round(max(0.0, seconds) * 1_000_000)
    whole, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour}:{minute:02d}:{second:02d}.{fraction:06d}"
    return f"{days} day{'s' if days > 1 else ''}, {text}" if days else text


def history(entries: Sequence[tuple[State, float]]) -> str:
    """Each entry on a line of its own, with the line break in front (spec 4.5)."""
    return "".join([f"\n{moment(time_s)}: {state.name}" for state, time_s in entries])


def allocation(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """`NODE[c0:c1],NODE2[c0]` (spec 9.4)."""
    return ",".join([f"{node}[{':'.join(cores)}]" for node, cores in parts])
