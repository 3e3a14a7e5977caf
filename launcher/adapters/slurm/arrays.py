"""`--array`: `0-9:2,15%3` as indices and how many may run at once."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import failed_submit

LARGEST = 1_000_000
"""MaxArraySize - 1: the largest index, and how many elements there may be."""
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


class Array(NamedTuple):
    """`at_once`: 0 for no limit."""

    indices: list[int]
    at_once: int = 0

    @property
    def step(self) -> int:
        return self.indices[1] - self.indices[0] if len(self.indices) > 1 else 1


def parse(text: str) -> Array:
    """Raises Refusal as sbatch does."""
    wrong = failed_submit("Invalid job array specification")
    body, mark, limit = text.strip().removeprefix("[").removesuffix("]").partition("%")
    if mark and not (limit.isdigit() and int(limit)):
        raise wrong
    found: set[int] = set()
    for part in body.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise wrong
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1 or last > LARGEST:
            raise wrong
        found.update(range(first, last + 1, step))
    return Array(sorted(found), int(limit or 0))
