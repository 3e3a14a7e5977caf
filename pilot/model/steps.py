"""Work that is done in slices, so that nothing else waits long for it: a generator that pauses, and at last returns.

The owner of the loop decides how many slices fit into a turn; the work only promises that each slice is short: at most
`SLICE` items, each of some microseconds. Between two slices anything may happen, so whatever such work has looked at may have
changed when it continues; each function says what stays true meanwhile.

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
    """Nothing can be done before some other work has advanced."""
    IDLE = 2
    """The same, and that may take long: it is continued when it is called, and now and then."""


Steps = Generator[Pause, None, T]


def finish(steps: Steps[T]) -> T:
    """Do all of it at once, where nobody is kept waiting. Work that waits for other work must not be passed."""
    try:
        while True:
            if next(steps) is not Pause.MORE:
                raise RuntimeError("this waits for work that is done in slices elsewhere")
    except StopIteration as end:
        result: T = end.value
        return result
