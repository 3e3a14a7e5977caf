"""`--begin`, and the times of sacct's `-S` and `-E`: what a user may write for a moment, as seconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ....pilot.model.errors import UsageError

_LATER = re.compile(r"now(?:([+-])(\d+)(\w*))?", re.ASCII | re.IGNORECASE)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_WORDS = {"midnight": "00:00", "noon": "12:00", "elevenses": "11:00", "fika": "15:00", "teatime": "16:00"}
_FORMS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%m/%d/%y",
    "%m%d%y",
    "%m/%d/%y-%H:%M:%S",
    "%m/%d/%y-%H:%M",
)
_SHORT = ("%m/%d-%H:%M:%S", "%m/%d-%H:%M", "%m/%d", "%m%d")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?", re.ASCII | re.IGNORECASE)


def parse(text: str, now: float) -> float:
    """Raises UsageError. A time of day that is past means tomorrow's."""
    word = text.strip()
    if match := _LATER.fullmatch(word):
        unit = (match[3] or "second").lower().rstrip("s")
        sizes = [size for name, size in _UNITS.items() if name.startswith(unit)] if unit else [1]
        if len(sizes) != 1:
            raise UsageError(f"{text!r} is not a time", remedy="write now+1hour or 2026-01-31T12:00")
        return now + (-1 if match[1] == "-" else 1) * int(match[2] or 0) * sizes[0]
    here = datetime.fromtimestamp(now)
    day = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if word.lower() in ("today", "tomorrow"):
        return (day + timedelta(days=word.lower() == "tomorrow")).timestamp()
    if clock := _CLOCK.fullmatch(_WORDS.get(word.lower(), word)):
        hours = int(clock[1]) % 12 + 12 * (clock[4].lower() == "pm") if clock[4] else int(clock[1])
        at = day + timedelta(hours=hours, minutes=int(clock[2]), seconds=int(clock[3] or 0))
        return (at if at.timestamp() >= now else at + timedelta(days=1)).timestamp()
    for form in _FORMS:
        try:
            return datetime.strptime(word, form).timestamp()
        except ValueError:
            continue
    for form in _SHORT:
        try:
            return datetime.strptime(f"{here.year} {word}", f"%Y {form}").timestamp()
        except ValueError:
            continue
    raise UsageError(f"{text!r} is not a time", remedy="write now+1hour, 16:00 or 2026-01-31T12:00:00")


def parse_past(text: str, now: float) -> float:
    """As `parse`, but a time of day means today's."""
    at = parse(text, now)
    return at - 86400 if _CLOCK.fullmatch(_WORDS.get(text.strip().lower(), text.strip())) and at - now > 0 else at
