"""Amounts as people read them: times, memory, rates, counts."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`8 s`, `3:05`, `2:03:05`, `4 d 02:03:05`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if not hours:
        return f"{minute}:{second:02}"
    clock = f"{hour}:{minute:02}:{second:02}"
    return f"{days} d {hour:02}:{minute:02}:{second:02}" if days else clock


def memory(mib: int) -> str:
    """`512 MiB`, `1.5 GiB`."""
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def rate(per_s: float | None) -> str:
    """`12/s`, `3.4/min`; `-` when it is not known."""
    if per_s is None:
        return "-"
    for amount, unit in ((per_s, "s"), (per_s * 60, "min"), (per_s * 3600, "h")):
        if amount >= 1 or unit == "h":
            return f"{amount:.0f}/{unit}" if amount >= 10 else f"{amount:.1f}/{unit}"
    raise AssertionError


def counted(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
