"""Amounts of memory, in powers of 1024 as batch systems count them."""

from __future__ import annotations

import re

from .errors import UsageError

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MOST_BYTES = 1 << 60


def parse_bytes(text: str) -> int:
    """`2G`, `500M`, `1.5GiB`, `4096` or `4096B` (bytes) -> bytes. Raises UsageError."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f'"{text[:40]}" is not an amount of memory', remedy="write 500M or 2G")
    amount = float(match[1]) * 1024 ** _POWERS[match[2].lower()]
    if amount > _MOST_BYTES:
        raise UsageError(f'"{text[:40]}" is more than any machine has')
    return int(amount)


def form_bytes(count: int) -> str:
    """The largest unit in which the amount is a whole number: `2G`; `parse_bytes` gives the same number back."""
    for unit in ("T", "G", "M", "K"):
        size = int(1024 ** _POWERS[unit.lower()])
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B"
