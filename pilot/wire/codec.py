"""The JSON dialect of requests (spec 3): what the strict decoder refuses and the old one took is tried with the old one."""

from __future__ import annotations

import json

import msgspec

from .legacy import FormError

_HEADROOM = 100
"""Levels of nesting left for those who hold a value inside their own, deeper in the stack."""


def decode(body: bytes) -> object:
    """Any bytes to a JSON value. Raises FormError, never anything else."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> object:
    """With NaN and Infinity, and with the place of an error."""
    try:
        return json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise FormError(f"byte {error.start} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"this JSON cannot be read: {error}") from None


def check_storable(value: object) -> None:
    """Refuse what JSON can say but neither journal nor reply can hold. Raises FormError."""
    for _ in range(_HEADROOM):
        value = [value]
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise FormError("it contains a number of more than 64 bits") from None
    except UnicodeEncodeError:
        raise FormError("it contains a lone surrogate") from None
    except RecursionError:
        raise FormError("it is nested too deeply") from None
