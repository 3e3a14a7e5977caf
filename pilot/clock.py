"""Time in the processes of a pilot: it only goes forward, whatever is done to the machine's clock.

`now` gives seconds since the epoch, for all that is written down and told. The calendar is read once, when the process
begins, and the monotonic clock counts from there: a clock that is set while a task runs neither adds an hour to its run time
nor makes it negative. Processes that are forked later go on with the same calendar.

`Patience` is for waiting until others are heard. A process that was stopped, or was busy with one turn of its loop, has not
listened meanwhile, and is itself the cause of their silence: of such a gap only one step counts. So every living process gets
several turns in which to be heard before it is judged, and timers cannot get ahead of what waits in the sockets.

`Uptime` is for limits of what runs beside us. Batch systems suspend a whole job (preemption, gang scheduling, `scontrol
suspend`), people close their laptops: then tasks and we stand still together, and no time counts. The monotonic clock runs
on during SIGSTOP, and nothing tells afterwards how long that was; so while a timer is pending, the loop looks at the clock
every STEP_S, and of a longer gap two steps count. A single task that is stopped while we run is another matter: it occupies
its cores, and may have stopped itself, so its time runs on.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from itertools import count

from .loop import Handler, Loop, Timer

STEP_S = 0.25
LEAST_PAUSE_S = 2.0
"""Shorter gaps are put down to a busy machine or disk."""
TINY_S = 1e-6
"""Sums of times are off by less than this."""
_BEGAN_S = time.time() - time.monotonic()


def now() -> float:
    """Seconds since the epoch, counted on from when this process began."""
    return _BEGAN_S + time.monotonic()


class Patience:
    """Counts the seconds in which `loop` has listened, in steps of `step_s`."""

    def __init__(self, loop: Loop, step_s: float) -> None:
        self.seconds = 0.0
        self.on_pause: Callable[[float], None] = lambda seconds: None
        """Called with the length of a gap that no work of ours explains."""
        self.is_behind: Callable[[], bool] = lambda: False
        """Whether frames of others wait unread: meanwhile nobody has been listened to, and no time is counted."""
        self._loop = loop
        self._step_s = step_s
        self._looked_s = loop.clock()
        self._used_s = time.process_time()
        self._waiting: list[tuple[float, int, Handler]] = []
        self._order = count()
        loop.call_every(step_s, self.look)

    def call_after(self, delay_s: float, handler: Handler) -> None:
        """Call `handler` once, when the loop has listened for `delay_s` seconds from now on."""
        heapq.heappush(self._waiting, (self.seconds + delay_s, next(self._order), handler))

    def look(self) -> None:
        """Take note of the time that has passed. Who judges by another timer asks for it first, so as to know of a pause."""
        before, self._looked_s = self._looked_s, self._loop.clock()
        gap_s = self._looked_s - before
        is_behind = self.is_behind()
        if not is_behind:
            self.seconds += min(gap_s, self._step_s)
        used_before, self._used_s = self._used_s, time.process_time()
        pause_s = gap_s - self._step_s - (self._used_s - used_before)
        if pause_s > LEAST_PAUSE_S:
            self.on_pause(pause_s)
        while not is_behind and self._waiting and self._waiting[0][0] <= self.seconds:
            heapq.heappop(self._waiting)[2]()


class Uptime:
    """Timers in seconds in which this process could run. Exact as the loop's are; costs nothing while none is pending."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._counted_s = 0.0
        self._looked_s = loop.clock()
        self._waiting: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._next: Timer | None = None
        self._next_s = math.inf
        """When `_next` is due, by the loop's clock."""

    def now(self) -> float:
        """Seconds counted so far. Only differences mean something, and only while a timer is pending in between."""
        looked_s = self._loop.clock()
        self._counted_s += min(looked_s - self._looked_s, 2 * STEP_S)
        self._looked_s = looked_s
        return self._counted_s

    def call_after(self, delay_s: float, handler: Handler) -> Timer:
        """Call `handler` once, when this process has run for `delay_s` seconds from now on."""
        timer = Timer(handler)
        heapq.heappush(self._waiting, (self.now() + delay_s, next(self._order), timer))
        self._look_in(delay_s)
        return timer

    def _look_in(self, delay_s: float) -> None:
        due_s = self._loop.clock() + min(delay_s, STEP_S)
        if due_s < self._next_s:
            if self._next is not None:
                self._next.cancel()
            self._next, self._next_s = self._loop.call_at(due_s, self._look), due_s

    def _look(self) -> None:
        self._next, self._next_s = None, math.inf
        now = self.now()
        while self._waiting and (self._waiting[0][0] <= now + TINY_S or self._waiting[0][2].handler is None):
            handler = heapq.heappop(self._waiting)[2].handler
            if handler is not None:
                handler()
        if self._waiting:
            self._look_in(self._waiting[0][0] - now)
