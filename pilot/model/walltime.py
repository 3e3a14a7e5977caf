"""Wall times: every way in which batch systems and the old protocol write them, to seconds."""

from __future__ import annotations

import re

from .errors import UsageError

_UNITS = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?", re.IGNORECASE | re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::([0-5]?\d))?(?::([0-5]?\d(?:\.\d+)?))?", re.ASCII)

_LONGEST_S = 1000 * 365 * 86_400.0
"""Whoever writes more means no limit, and timers cannot count in infinities."""


def parse(text: str) -> float:
    """Seconds of `1h30m5s` (days `d` too), `HH:MM:SS`, `MM:SS` or `D-HH[:MM[:SS]]`.

    Raises UsageError for anything else (a bare number says no unit) and for zero.
    """
    stripped = text.strip()
    units = _UNITS.fullmatch(stripped)
    if stripped and units is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in units.groups())
        return _positive(((days * 24 + hours) * 60 + minutes) * 60 + seconds, text)
    clock = _CLOCK.fullmatch(stripped)
    if clock is None or (clock[1] is None and clock[3] is None):
        raise UsageError(f'"{text[:40]}" is not a wall time', remedy="write 1h30m, 90s or HH:MM:SS")
    parts = [float(part) for part in clock.groups()[1:] if part is not None]
    if clock[1] is not None:
        parts += [0.0] * (3 - len(parts))
        return _positive(float(clock[1]) * 86_400 + parts[0] * 3600 + parts[1] * 60 + parts[2], text)
    total = 0.0
    for part in parts:
        total = total * 60 + part
    return _positive(total, text)


def _positive(seconds: float, text: str) -> float:
    """To the microsecond, so that equal times written differently are equal."""
    if seconds <= 0:
        raise UsageError(f'"{text[:40]}": Wall time must be greater than 0')
    if seconds > _LONGEST_S:
        raise UsageError(f'"{text[:40]}" is longer than 1000 years', remedy="leave it out for no limit")
    return round(seconds, 6)


def form(seconds: float) -> str:
    """The shortest `1h30m5s` form, to the microsecond; `parse` gives the same number back."""
    minutes, micros = divmod(round(seconds * 1_000_000), 60_000_000)
    hours, minutes = divmod(minutes, 60)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    if micros or not text:
        whole, fraction = divmod(micros, 1_000_000)
        text += (f"{whole}.{fraction:06d}".rstrip("0") if fraction else f"{whole}") + "s"
    return text
