"""Amounts of memory, in powers of 1024 as batch systems count them."""

from __future__ import annotations

import re

from .errors import UsageError

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(text: str) -> int:
    """`2G`, `500M`, `1.5GiB`, `4096` (bytes) -> bytes. Raises UsageError."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f'"{text}" is not an amount of memory', remedy="write 500M or 2G")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def form_bytes(count: int) -> str:
    """The largest unit in which the amount is a whole number: `2G`."""
    for unit in ("T", "G", "M", "K"):
        size = int(1024 ** _POWERS[unit.lower()])
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)
