"""`TimeStamp` bounds single waits by what is left of a limit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pilotfish.api.errors import TimeoutElapsed
from pilotfish.api.timestamp import TimeStamp

DELAYS = SimpleNamespace(default_poll_delay=2.0, default_pub_timeout=300.0)


def test_without_a_limit_the_managers_delays_count() -> None:
    stamp = TimeStamp(DELAYS)
    stamp.check_timeout()
    assert (stamp.get_poll_time(), stamp.get_events_timeout()) == (2.0, 300.0)


def test_no_wait_is_longer_than_what_is_left() -> None:
    stamp = TimeStamp(DELAYS, 60)
    assert stamp.get_poll_time() == 2.0
    assert 59 < stamp.get_events_timeout() <= 60


def test_a_limit_that_is_reached_raises() -> None:
    stamp = TimeStamp(DELAYS, 0)
    for ask in (stamp.check_timeout, stamp.get_poll_time, stamp.get_events_timeout):
        with pytest.raises(TimeoutElapsed):
            ask()
