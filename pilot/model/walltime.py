"""Wall times: every way in which batch systems and the old protocol write them, to seconds."""

from __future__ import annotations

import re

from .errors import UsageError

_UNITS = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}(?:\.\d+)?))?")


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
        raise UsageError(f'"{text}" is not a wall time', remedy="write 1h30m, 90s or HH:MM:SS")
    parts = [float(part) for part in clock.groups()[1:] if part is not None]
    if clock[1] is not None:
        parts += [0.0] * (3 - len(parts))
        return _positive(float(clock[1]) * 86_400 + parts[0] * 3600 + parts[1] * 60 + parts[2], text)
    total = 0.0
    for part in parts:
        total = total * 60 + part
    return _positive(total, text)


def _positive(seconds: float, text: str) -> float:
    if seconds <= 0:
        raise UsageError(f'"{text}": Wall time must be greater than 0')
    return seconds


def form(seconds: float) -> str:
    """The shortest `1h30m5s` form."""
    whole, fraction = divmod(seconds, 1)
    minutes, last = divmod(int(whole), 60)
    hours, minutes = divmod(minutes, 60)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    if last or fraction or not text:
        text += f"{last + fraction:g}s"
    return text
