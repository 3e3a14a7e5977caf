"""The end: when the work is done and the end was asked for, or when the allocation is over.

The end of the allocation is known from the batch system or from `--walltime`; a warning signal (`sbatch --signal=B:USR1@120`
and its kin) brings it forward to `--end-margin` seconds from then: it may announce a preemption, long before the known end.
Nothing new is started in the last minutes, then tasks are stopped politely, and the exit code tells whether work is left for
the next allocation. Tasks that are stopped stay queued, and do not count as failed.

With `--idle-timeout` it also ends when nobody needs it any more: without work, and without a request of a client, which may be
one that waits for results, for so long.

While the whole job is suspended no time passes: `--walltime` limits the time in which we run, and so do the limits of some
batch systems. Those ends move by the length of each pause (clock.Patience).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

from ..exit_codes import ExitCode
from ..loop import Timer
from ..systems.registry import system_of
from .end_margin import margin_for
from .parts import Parts
from .shutdown import Shutdown

log = logging.getLogger(__name__)

LAST_WRITES_S = 5.0
"""What is kept, besides the kill grace time, for the last reports of the agents and the journal."""
_LOOK_S = 0.5
_IDLE_CHECK_S = 0.2
_NEED_CHECK_S = 5.0


class Ending:
    """Ends the pilot when its time is over or its work is done."""

    def __init__(self, parts: Parts, shutdown: Shutdown) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._scheduler = parts.scheduler
        self._fixed_s, self._moving_s = _ends_s(parts)
        left_s = None if self._ends_s == math.inf else self._ends_s - parts.now()
        self._margin_s, warning = margin_for(parts.settings.end_margin_s, left_s)
        if warning:
            parts.status.warn(warning)
        self._draining = False
        self._timer: Timer | None = None
        self._stops_s = math.inf
        """When tasks are stopped, once that is settled."""
        self._wait_to_begin()
        parts.patience.on_pause = self.paused
        self._needed_s = 0.0
        """When somebody needed the pilot last (monotonic clock)."""
        if parts.settings.idle_timeout is not None:
            self.needed()
            self._stop_when_not_needed(parts.settings.idle_timeout)

    @property
    def _ends_s(self) -> float:
        """Infinite when no end is known."""
        return min(self._fixed_s, self._moving_s)

    def _wait_to_begin(self) -> None:
        ends_s = self._ends_s
        self._scheduler.ends_at(None if ends_s == math.inf else ends_s, self._margin_s)
        if ends_s < math.inf:
            starts_for_s = ends_s - self._margin_s - self._parts.now()
            log.info("end.known", extra={"ends_s": ends_s, "starts_for_s": starts_for_s})
            self._call_after(starts_for_s, self.begin)

    def _call_after(self, wait_s: float, handler: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._parts.loop.call_after(max(0.0, wait_s), handler)

    def paused(self, seconds: float) -> None:
        """The whole job stood still for that long."""
        log.warning("end.paused", extra={"seconds": seconds})
        self._scheduler.on_pause(seconds)
        self._moving_s += seconds
        self._needed_s += seconds
        if not self._draining:
            self._wait_to_begin()
        elif self._stops_s < math.inf:
            self._stops_s = min(self._stops_s + seconds, self._latest_stop_s)
            self._call_after(self._stops_s - self._parts.now(), self.stop)

    @property
    def _latest_stop_s(self) -> float:
        return self._ends_s - self._parts.settings.kill_grace_s - LAST_WRITES_S

    # --- the allocation is over -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start nothing more; stop what runs when the time for that has come, or when nothing runs any more."""
        if self._draining:
            return
        self._draining = True
        now = self._parts.now()
        self._scheduler.ends_at(now, self._margin_s)
        of_warning_s = now + self._parts.settings.end_margin_s - self._parts.settings.kill_grace_s - LAST_WRITES_S
        self._stops_s = min(of_warning_s, self._latest_stop_s)
        wait_s = self._stops_s - now
        log.warning("end.near", extra={"unfinished": self._scheduler.jobs.unfinished, "stops_in_s": wait_s})
        self._call_after(wait_s, self.stop)
        self._stop_when_quiet()

    def stop(self) -> None:
        """Stop now; tasks that run go back to the queue."""
        self._shutdown.stop(ExitCode.WORK_LEFT if self._scheduler.unfinished else ExitCode.DONE)

    def _stop_when_quiet(self) -> None:
        if self._scheduler.stalled(self._parts.now()):
            self.stop()
        else:
            self._parts.loop.call_after(_LOOK_S, self._stop_when_quiet)

    # --- the work is done -------------------------------------------------------------------------------------------------

    def finish_when_idle(self) -> None:
        """End when nothing is queued or running any more. Raises EndingError when the end was asked for before."""
        self._shutdown.begin_closing()
        self._stop_when_idle()

    def finish_after(self, delay_s: float) -> None:
        """The same, not before `delay_s` are over. The caller has begun the closing."""
        self._parts.loop.call_after(delay_s, self._stop_when_idle)

    def _stop_when_idle(self) -> None:
        done = not self._scheduler.unfinished or self._scheduler.stalled(self._parts.now())
        if done and not self._parts.store.is_stuck:
            self.stop()
        else:
            self._parts.loop.call_after(_IDLE_CHECK_S, self._stop_when_idle)

    # --- nobody needs it ----------------------------------------------------------------------------------------------------

    def needed(self) -> None:
        """A client has asked for something."""
        self._needed_s = self._parts.loop.clock()

    def _stop_when_not_needed(self, limit_s: float) -> None:
        if self._scheduler.unfinished:
            self.needed()
        left_s = self._needed_s + limit_s - self._parts.loop.clock()
        if left_s <= 0.0 and not self._parts.store.is_stuck:
            log.info("end.idle", extra={"seconds": limit_s})
            self.stop()
        else:
            again = partial(self._stop_when_not_needed, limit_s)
            self._parts.loop.call_after(max(_IDLE_CHECK_S, min(left_s, _NEED_CHECK_S)), again)


def _ends_s(parts: Parts) -> tuple[float, float]:
    """When we have to be gone: an end that is fixed, and one that moves when the whole job is suspended."""
    allocation = parts.allocation
    of_allocation = math.inf if allocation.ends_s is None else allocation.ends_s
    moves = system_of(allocation.kind).end_moves
    fixed_s, moving_s = (math.inf, of_allocation) if moves else (of_allocation, math.inf)
    if parts.settings.walltime is not None:
        moving_s = min(moving_s, parts.now() + parts.settings.walltime)
    return fixed_s, moving_s
