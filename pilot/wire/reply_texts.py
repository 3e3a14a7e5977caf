"""Times, histories and allocations as the texts that they are in replies and reports, and read from there again.

An original service writes the same texts, so a client also reads those forms that we do not write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from ..model.resources import fraction
from ..model.states import State

_RTIME = re.compile(r"(?:(\d+) days?, )?(\d+):(\d+):(\d+(?:\.\d+)?)")
_ALLOCATION = re.compile(r"([^,\[]+)\[([^\]]*)\]")


def moment(time_s: float) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff`, local time; without the fraction when it is 0."""
    return str(datetime.fromtimestamp(time_s))


def rtime(seconds: float) -> str:
    """`H:MM:SS.ffffff`, always with the fraction: the published client parses nothing else."""
    if 0.0 <= seconds < 59.9999995:  # as most are; more would be rounded to a minute
        return f"0:00:{seconds:09.6f}"
    micros = round(max(0.0, seconds) * 1_000_000)
    whole, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour}:{minute:02d}:{second:02d}.{fraction:06d}"
    return f"{days} day{'s' if days > 1 else ''}, {text}" if days else text


def rtimes(durations_s: Sequence[float]) -> list[str]:
    """`rtime` of each."""
    if min(durations_s) >= 0.0 and max(durations_s) < 59.9999995:
        return [f"0:00:{seconds:09.6f}" for seconds in durations_s]
    return list(map(rtime, durations_s))


def parse_rtime(text: str) -> timedelta | None:
    """Also without the fraction, and `0`, as an original service writes it; None for anything else."""
    match = _RTIME.fullmatch(text.strip())
    if match is None:
        return timedelta() if text.strip() == "0" else None
    days, hours, minutes, seconds = match.groups()
    return timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def resources(taken: Iterable[tuple[str, Sequence[str], int, int]]) -> str:
    """What a task had beside cores on a node, each (name, ids, amount, parts): `gpu=0*1/4 nvme=1,2 licence=1`."""
    return " ".join(
        f"{name}={','.join(ids) if ids else amount}{f'*{fraction(parts)}' if parts else ''}"
        for name, ids, amount, parts in taken
    )


def history(entries: Sequence[tuple[State, float]]) -> str:
    """Each entry on a line of its own, with the line break in front."""
    return "".join([f"\n{moment(time_s)}: {state.name}" for state, time_s in entries])


def parse_history(text: str) -> list[tuple[datetime, str]]:
    """(local time, state), oldest first."""
    entries = (line.rpartition(": ") for line in text.splitlines() if line)
    return [(datetime.fromisoformat(time), state) for time, _, state in entries]


def allocation(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """`NODE[c0:c1],NODE2[c0]`."""
    return ",".join([f"{node}[{':'.join(cores)}]" for node, cores in parts])


def parse_allocation(text: str) -> list[tuple[str, list[str]]]:
    return [(node, cores.split(":")) for node, cores in _ALLOCATION.findall(text)]
