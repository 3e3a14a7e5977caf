"""The end of the allocation: nothing new in its last minutes, then tasks are stopped politely, and the exit code tells
whether work is left for the next one.

The end is known from the batch system or from `--walltime`; a warning signal (`sbatch --signal=B:USR1@120` and its kin)
brings it forward to `--end-margin` seconds from then: it may announce a preemption, long before the known end. Tasks that
are stopped stay queued, and that is nobody's failure.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from ..exit_codes import ExitCode
from .end_margin import margin_for

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger(__name__)

LAST_WRITES_S = 5.0
"""What is kept besides the kill grace time for the agents' last reports and the journal."""
_LOOK_S = 0.5


class Ending:
    """Watches the clock of one service. `ends_s`: seconds since the epoch; None when no end is known."""

    def __init__(self, service: Service, ends_s: float | None) -> None:
        self._service = service
        self._ends_s = ends_s
        self._margin_s = margin_for(service.settings.end_margin_s, None if ends_s is None else ends_s - service.now())
        self._draining = False
        service.scheduler.ends_at(ends_s, self._margin_s)
        if ends_s is not None:
            left_s = ends_s - self._margin_s - service.now()
            log.info("end.known", extra={"ends_s": ends_s, "starts_for_s": left_s})
            service.loop.call_after(max(0.0, left_s), self.begin)

    def begin(self) -> None:
        """Start nothing more; stop what runs when the time for that has come, or when nothing runs any more."""
        if self._draining:
            return
        self._draining = True
        now = self._service.now()
        ends_s = min(now + self._service.settings.end_margin_s, self._ends_s or math.inf)
        self._service.scheduler.ends_at(now, self._margin_s)
        wait_s = ends_s - self._service.settings.kill_grace_s - LAST_WRITES_S - now
        log.warning("end.near", extra={"unfinished": self._service.scheduler.jobs.unfinished, "stops_in_s": wait_s})
        self._service.loop.call_after(max(0.0, wait_s), self.stop)
        self._stop_when_quiet()

    def stop(self) -> None:
        """Stop now; tasks that run go back to the queue."""
        self._service.stop(ExitCode.WORK_LEFT if self._service.scheduler.jobs.unfinished else ExitCode.DONE)

    def _stop_when_quiet(self) -> None:
        if self._service.scheduler.stalled(self._service.now()):
            self.stop()
        else:
            self._service.loop.call_after(_LOOK_S, self._stop_when_quiet)
