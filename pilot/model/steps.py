"""Work that is done a slice at a time, so that nobody waits long for it: a generator that pauses, and at last returns.

Whoever owns the loop decides how many slices there are in a turn; what is done here only promises that no slice is long: at
most `SLICE` items, each of some microseconds. Between two slices anything may happen, so what such work has looked at may have
changed when it goes on: it says itself what stays true meanwhile.

Rejected: threads (they share the interpreter's lock and would need locks of ours), coroutines (an event loop of their own, and
every caller coloured), measuring time here (the core has no clock).
"""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

SLICE = 200
"""Items in one slice."""


class Pause(Enum):
    MORE = 0
    """There is more to do."""
    WAITING = 1
    """There is nothing to do before somebody else's work has got on."""


Steps = Generator[Pause, None, T]


def finish(steps: Steps[T]) -> T:
    """Do all of it at once, for those who have nobody waiting. What waits for others must not come here."""
    try:
        while True:
            if next(steps) is Pause.WAITING:
                raise RuntimeError("this waits for work that is done in slices elsewhere")
    except StopIteration as end:
        result: T = end.value
        return result
