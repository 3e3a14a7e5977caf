"""Time as the processes of a pilot know it: it only goes forward, whatever is done to the machine's clock.

`now` gives seconds since the epoch, for all that is written down and told. The calendar is read once, when the process
begins, and the monotonic clock counts from there: a clock that is set while a task runs neither adds an hour to its run time
nor makes it negative. Processes that are forked later go on with the same calendar.

`Patience` is for waiting until others speak. A process that was stopped, or was busy with one turn of its loop, has not
listened meanwhile, and their silence is its own: of such a gap only one step counts. So whoever lives gets several turns in
which to be heard before anybody is judged, and timers cannot get ahead of what waits in the sockets.
"""

from __future__ import annotations

import heapq
import time
from itertools import count

from .loop import Handler, Loop

_BEGAN_S = time.time() - time.monotonic()


def now() -> float:
    """Seconds since the epoch, counted on from when this process began."""
    return _BEGAN_S + time.monotonic()


class Patience:
    """Counts the seconds in which `loop` has listened, in steps of `step_s`."""

    def __init__(self, loop: Loop, step_s: float) -> None:
        self.seconds = 0.0
        self._loop = loop
        self._step_s = step_s
        self._looked_s = loop.clock()
        self._waiting: list[tuple[float, int, Handler]] = []
        self._order = count()
        loop.call_every(step_s, self._step)

    def call_after(self, delay_s: float, handler: Handler) -> None:
        """Call `handler` once, when the loop has listened for `delay_s` seconds from now on."""
        heapq.heappush(self._waiting, (self.seconds + delay_s, next(self._order), handler))

    def _step(self) -> None:
        before, self._looked_s = self._looked_s, self._loop.clock()
        self.seconds += min(self._looked_s - before, self._step_s)
        while self._waiting and self._waiting[0][0] <= self.seconds:
            heapq.heappop(self._waiting)[2]()
