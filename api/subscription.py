"""Events from a pilot, so that waiting costs nothing and ends at once.

Nothing is missed between looking and waiting: the subscription is made first and proven to work (an event can only be
missed before it), then the state is asked for. Should events be lost all the same (a full queue, a restarted manager), the
waiter looks again at the state every `poll_delay` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

import zmq

from ..pilot.wire.events import OldEvent, decode_old_event
from .channel import Channel

_LONGEST_SLICE_S = 0.5
"""Poll at most this long at a time, so that Ctrl-C is noticed on every platform."""


class Subscription:
    """A context manager around one SUB socket; `topics` such as `JFI`, `IFI`, `NOJ`."""

    def __init__(self, channel: Channel, address: str, topics: tuple[str, ...]) -> None:
        self._channel = channel
        self._address = address
        self._topics = topics
        self._socket: zmq.Socket[bytes] | None = None

    def __enter__(self) -> Subscription:
        self._socket = self._channel.subscriber(self._address)
        for topic in self._topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def events(self, wait_s: float) -> Iterator[OldEvent]:
        """The events that have come, waiting up to `wait_s` seconds for the first."""
        assert self._socket is not None
        deadline = time.monotonic() + wait_s
        while not self._socket.poll(_slice_ms(deadline)):
            if time.monotonic() >= deadline:
                return
        while self._socket.poll(0):
            yield decode_old_event(self._socket.recv())


def _slice_ms(deadline: float) -> int:
    """How long to poll now; rounded up, because polling for 0 ms until the deadline would spin."""
    return int(max(0.0, min(_LONGEST_SLICE_S, deadline - time.monotonic())) * 1000) + 1
