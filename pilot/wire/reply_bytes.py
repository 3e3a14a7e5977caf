"""Replies as bytes: written by the manager, also large ones in slices, with the `id` of their request; read by clients.

What is in them: replies.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..model.errors import PilotfishError
from ..model.steps import Pause, Steps
from . import codec
from .legacy import wire_message
from .replies import Envelope, ErrorDetail

T = TypeVar("T")

Body = bytes | bytearray
"""A reply as it is sent; a large one is not copied once more to become bytes."""
_JOINED_BYTES = 4 << 20
"""Of a large reply, in one slice."""


class _Numbered(Struct):
    """What a request may say about itself; any JSON value, kept as it is written."""

    id: msgspec.Raw = msgspec.Raw()


_decode_id = msgspec.json.Decoder(_Numbered).decode


def ok(message: str | None = None, data: Struct | None = None) -> bytes:
    return codec.encode(Envelope(0, message, data))


def stretch(values: Sequence[object] | Mapping[str, object]) -> bytes:
    """A part of an array or object, without its brackets: large ones are made in slices, see `filled`."""
    return codec.encode(values)[1:-1]


def filled(text: bytes, member: str, stretches: Sequence[bytes]) -> list[bytes]:
    """The JSON `text`, in which `member` is empty, with these stretches in it: again as stretches, to be joined by commas.

    So a large array in a large array is put together once, at the very end.
    """
    empty = re.search(
        rb'"%b":[\[{](?=[\]}])' % member.encode(), text
    )  # quotes in texts are escaped: no text can be that
    if not stretches or empty is None:
        return [text]
    at = empty.end()
    parts = list(stretches)
    parts[0] = text[:at] + parts[0]
    parts[-1] += text[at:]
    return parts


def large(message: str | None, data: Struct, member: str, stretches: Sequence[bytes]) -> Steps[Body]:
    """As `ok`, where `member` of the data is empty and is to have all the stretches; put together in slices."""
    first, *rest = filled(ok(message, data), member, stretches)
    if not rest:
        return first
    body, joined = bytearray(first), 0
    for part in rest:
        body += b","
        body += part
        joined += len(part)
        if joined > _JOINED_BYTES:
            joined = 0
            yield Pause.MORE
    return body


def error_reply(error: PilotfishError) -> bytes:
    """Code 1 with the message; beside it, for programs, `error {code, where, remedy}`."""
    return codec.encode(Envelope[Any](1, wire_message(error), None, ErrorDetail(error.code, error.where, error.remedy)))


class Received(Struct):
    """A reply as a client gets it. The data is left as it is until it is known that there is some."""

    code: int
    message: Any = None
    error: ErrorDetail | None = None
    data: msgspec.Raw = msgspec.Raw()


_receive = msgspec.json.Decoder(Received).decode


def receive(reply: bytes) -> Received:
    """The reply in these bytes. Raises msgspec.DecodeError."""
    try:
        return _receive(reply)
    except msgspec.DecodeError:  # with odd bytes: then the data is written anew, as those have it that read it
        whole = codec.load(reply, dict[str, Any])
        data = msgspec.Raw(json.dumps(whole.pop("data")).encode()) if "data" in whole else msgspec.Raw()
        received = msgspec.convert(whole, Received)
        return msgspec.structs.replace(received, data=data)


def data_of(reply: Received, kind: type[T]) -> T:
    """The data as this type. Raises msgspec.DecodeError when there are no data, or others."""
    return codec.load(reply.data, kind)


def with_id(reply: Body, request: bytes) -> Body:
    """The reply with the `id` of its request, if that has one (ours): for clients that send several and wait later."""
    if b'"id"' not in request:
        return reply
    try:
        number = bytes(_decode_id(request).id)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        number = _id_beside_odd_bytes(request)
    return _with(reply, number) if number else reply


def _id_beside_odd_bytes(request: bytes) -> bytes:
    """What the strict decoder refuses, the other one may have taken. Empty when there is no `id`."""
    try:
        value = json.loads(request)
        return json.dumps(value["id"]).encode() if isinstance(value, dict) and "id" in value else b""
    except (ValueError, RecursionError):
        return b""


def with_id_value(reply: Body, number: object) -> Body:
    """The same with an `id` that has been read already."""
    return _with(reply, codec.encode(number))


def _with(reply: Body, number: bytes) -> Body:
    end = b',"id":' + number + b"}"
    if isinstance(reply, bytearray):  # in place: it may be large
        reply[-1:] = end
        return reply
    return reply[:-1] + end
