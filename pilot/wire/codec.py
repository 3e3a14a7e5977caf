"""The JSON dialect of requests (spec 3): what the strict decoder refuses and the old one took is tried with the old one."""

from __future__ import annotations

import json

import msgspec

from .legacy import INVALID, FormError


def decode(body: bytes) -> object:
    """Any bytes to a JSON value. Raises FormError, never anything else."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    try:
        return json.loads(body)  # NaN and Infinity, and it names the place of an error
    except UnicodeDecodeError as error:
        raise FormError(f"{INVALID}: this is not UTF-8 text", where=f"byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise FormError(f"{INVALID}: this is not JSON: {error.msg}", where=where) from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"{INVALID}: this JSON cannot be read: {error}") from None
