"""The end: when the work is done and the end was asked for, or when the allocation is over.

The end of the allocation is known from the batch system or from `--walltime`; a warning signal (`sbatch --signal=B:USR1@120`
and its kin) brings it forward to `--end-margin` seconds from then: it may announce a preemption, long before the known end.
Nothing new is started in the last minutes, then tasks are stopped politely, and the exit code tells whether work is left for
the next allocation. Tasks that are stopped stay queued, and that is nobody's failure.
"""

from __future__ import annotations

import logging
import math

from ..exit_codes import ExitCode
from .end_margin import margin_for
from .parts import Parts
from .shutdown import Shutdown

log = logging.getLogger(__name__)

LAST_WRITES_S = 5.0
"""What is kept besides the kill grace time for the agents' last reports and the journal."""
_LOOK_S = 0.5
_IDLE_CHECK_S = 0.2


class Ending:
    """Ends the pilot when its time is over or its work is done."""

    def __init__(self, parts: Parts, shutdown: Shutdown) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._scheduler = parts.scheduler
        self._ends_s = _ends_s(parts)
        left_s = None if self._ends_s is None else self._ends_s - parts.now()
        self._margin_s = margin_for(parts.settings.end_margin_s, left_s)
        self._draining = False
        self._scheduler.ends_at(self._ends_s, self._margin_s)
        if self._ends_s is not None:
            starts_for_s = self._ends_s - self._margin_s - parts.now()
            log.info("end.known", extra={"ends_s": self._ends_s, "starts_for_s": starts_for_s})
            parts.loop.call_after(max(0.0, starts_for_s), self.begin)

    # --- the allocation is over -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start nothing more; stop what runs when the time for that has come, or when nothing runs any more."""
        if self._draining:
            return
        self._draining = True
        now = self._parts.now()
        ends_s = min(now + self._parts.settings.end_margin_s, self._ends_s or math.inf)
        self._scheduler.ends_at(now, self._margin_s)
        wait_s = ends_s - self._parts.settings.kill_grace_s - LAST_WRITES_S - now
        log.warning("end.near", extra={"unfinished": self._scheduler.jobs.unfinished, "stops_in_s": wait_s})
        self._parts.loop.call_after(max(0.0, wait_s), self.stop)
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


def _ends_s(parts: Parts) -> float | None:
    """When we have to be gone: the allocation's end, or earlier by `--walltime`."""
    known = [] if parts.allocation.ends_s is None else [parts.allocation.ends_s]
    if parts.settings.walltime is not None:
        known.append(parts.now() + parts.settings.walltime)
    return min(known, default=None)
