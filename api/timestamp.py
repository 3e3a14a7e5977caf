"""`TimeStamp`: how much of a time limit is left; kept for programs that wrote their own waiting with the old API."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol

from .errors import TimeoutElapsed


class _Delays(Protocol):
    default_poll_delay: float
    default_pub_timeout: float


class TimeStamp:
    """Counts from its creation.

    Args:
        manager: whose `default_poll_delay` and `default_pub_timeout` (seconds) bound single waits.
        timeout_secs: the whole limit; None for no limit.
    """

    def __init__(self, manager: _Delays, timeout_secs: float | None = None) -> None:
        self.manager = manager
        self.timeout_secs = timeout_secs
        self.started = datetime.now()
        self._begin_s = time.monotonic()

    @property
    def secs_from_start(self) -> float:
        return time.monotonic() - self._begin_s

    def check_timeout(self) -> None:
        """Raises TimeoutElapsed when the limit is reached."""
        if self.timeout_secs is not None and self.secs_from_start >= self.timeout_secs:
            raise TimeoutElapsed(f"more than {self.timeout_secs:g} s have passed")

    def get_poll_time(self) -> float:
        """Seconds to pause before looking again. Raises TimeoutElapsed."""
        return self._bounded(self.manager.default_poll_delay)

    def get_events_timeout(self) -> float:
        """Seconds to wait for an event. Raises TimeoutElapsed."""
        return self._bounded(self.manager.default_pub_timeout)

    def _bounded(self, longest_s: float) -> float:
        self.check_timeout()
        return longest_s if self.timeout_secs is None else min(longest_s, self.timeout_secs - self.secs_from_start)
