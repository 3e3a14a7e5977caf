"""The JSON dialect of requests (spec 3): what the strict decoder refuses and the old one took is tried with the old one."""

from __future__ import annotations

import json

import msgspec

from .legacy import INVALID, FormError


def decode(body: bytes) -> object:
    """Any bytes to a JSON value that journal and replies can hold. Raises FormError, never anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        value = _decode_leniently(body)
    return value


def check_storable(value: object) -> None:
    """Refuse what JSON can say but nobody can keep: numbers beyond 64 bits, half of a surrogate pair. Raises FormError."""
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise FormError(f"{INVALID}: a number in it has more than 64 bits") from None
    except UnicodeEncodeError:
        raise FormError(f"{INVALID}: half of a surrogate pair is in it") from None


def _decode_leniently(body: bytes) -> object:
    """With NaN and Infinity, and with the place of an error."""
    try:
        return json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise FormError(f"{INVALID}: byte {error.start} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"{INVALID}: this JSON cannot be read: {error}") from None
