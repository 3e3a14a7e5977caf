"""The processors that this process may use, and the ways to divide them into slots for tasks.

Slots are in the order in which they are given out: socket by socket, and in a socket the first hardware thread of every core
before the second one, so that what is given together lies close together without sharing a core when it need not.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

_SYSTEM = "/sys/devices/system/cpu"

Core = tuple[int, ...]
"""The hardware threads of one core, lowest first."""


class Cpus(NamedTuple):
    """`sockets`: the cores of each, as far as they may be used."""

    sockets: tuple[tuple[Core, ...], ...]

    @property
    def threads(self) -> tuple[int, ...]:
        """One slot for each hardware thread."""
        return tuple(
            core[rank]
            for cores in self.sockets
            for rank in range(max(map(len, cores)))
            for core in cores
            if rank < len(core)
        )

    @property
    def cores(self) -> tuple[Core, ...]:
        """One slot for each core, with all of its threads."""
        return tuple(core for cores in self.sockets for core in cores)

    def slots(self, count: int) -> tuple[str, ...] | None:
        """Ids (`"3"`, or `"3&43"` for a core of two threads) when it is `count` threads, or `count` cores, that there are."""
        if count == len(self.threads):
            return tuple(map(str, self.threads))
        return tuple("&".join(map(str, core)) for core in self.cores) if count == len(self.cores) else None


def usable() -> Cpus:
    """What the affinity of this process allows; where the kernel does not tell, each processor is a core."""
    allowed = os.sched_getaffinity(0)
    sockets: dict[int, set[Core]] = {}
    for number in sorted(allowed):
        package = _read(f"{_SYSTEM}/cpu{number}/topology/physical_package_id")
        siblings = ranges(_read(f"{_SYSTEM}/cpu{number}/topology/thread_siblings_list")) | {number}
        core = tuple(sorted(siblings & allowed))
        sockets.setdefault(int(package) if package.lstrip("-").isdigit() else 0, set()).add(core)
    return Cpus(tuple(tuple(sorted(cores)) for _, cores in sorted(sockets.items())))


def memory_domains(threads: Collection[int], folder: str = "/sys/devices/system/node") -> list[list[int]]:
    """Of these processors those of each NUMA domain, where the kernel tells; none if it knows of one only."""
    with suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if name.startswith("node") and name[4:].isdecimal())
        found = [sorted(ranges(_read(f"{folder}/{name}/cpulist")).intersection(threads)) for name in names]
        domains = [processors for processors in found if processors]
        return domains if len(domains) > 1 else []
    return []


def _read(path: str) -> str:
    with suppress(OSError), open(path, encoding="ascii") as file:
        return file.read().strip()
    return ""


def ranges(text: str) -> set[int]:
    """`0,40` or `0-1`, as the kernel writes lists."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
