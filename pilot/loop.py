"""The event loop page that manager and agent share: zmq.Poller, a timer heap, a wakeup descriptor for signals.

One turn, always in this order:

1. wait, at most until the earliest timer;
2. read every ready source (a reader takes all that a turn has time for: 1,000 results are one turn, not 1,000);
3. run the timers that are due: after the reading, so that a result that has already arrived beats its time limit;
4. run the end-of-turn hook once: it decides and sends what the turn has made necessary.

Handlers only note what happened; the hook acts. There are no threads and no callbacks into a running handler. A handler
that raises ends the process: to continue with a half-applied event would break what the journal promises.
"""

from __future__ import annotations

import heapq
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import zmq

Handler = Callable[[], None]
_SIGSET_BYTES = 128
"""Size of the C library's sigset_t."""


class Timer:
    """Handle of one scheduled call; `cancel()` makes it void."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler: Handler | None = handler

    def cancel(self) -> None:
        self.handler = None


class Loop:
    """`clock` gives seconds, never going back; tests pass their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._poller = zmq.Poller()
        self._readers: dict[Any, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._signals: dict[int, Handler] = {}
        self._wakeup: tuple[int, int] | None = None
        self._children = -1
        self._running = False

    def on_readable(self, source: zmq.Socket[bytes] | int, handler: Handler) -> None:
        """Call `handler` in every turn in which the socket or file descriptor has something to read."""
        self._poller.register(source, zmq.POLLIN)
        self._readers[source] = handler

    def forget(self, source: zmq.Socket[bytes] | int) -> None:
        self._poller.unregister(source)
        del self._readers[source]

    def on_signal(self, numbers: Iterable[int], handler: Handler) -> None:
        """Call `handler` in the turn after one of the signals; several may come as one call. Main thread only.

        Of signals that come together, those registered first are handled first.
        """
        if self._wakeup is None:
            read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._wakeup = (read_end, write_end)
            signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
            self.on_readable(read_end, self._read_signals)
        for number in numbers:
            self._signals[number] = handler
            signal.signal(number, _noted_by_wakeup_descriptor)
            signal.siginterrupt(number, False)

    def on_children(self, handler: Handler) -> None:
        """Call `handler` in the turn after a child has ended; several may come as one call. Main thread only.

        SIGCHLD is blocked and read from a descriptor (signalfd(2), for which Python has no function): a signal that interrupts
        the waiting costs a handler, a write to the wakeup descriptor and a second wait, in all a twentieth of a no-op task.
        Who starts a process from now on sets its signal mask.
        """
        import ctypes

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        mask = struct.pack("@L", 1 << (signal.SIGCHLD - 1)).ljust(_SIGSET_BYTES, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self._children = libc.signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._children < 0:
            raise OSError(ctypes.get_errno(), "signalfd")
        self.on_readable(self._children, lambda: self._read_children(handler))

    def call_at(self, when: float, handler: Handler) -> Timer:
        """Call `handler` once, at or after `when` by the loop's clock."""
        timer = Timer(handler)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_after(self, delay_s: float, handler: Handler) -> Timer:
        return self.call_at(self.clock() + delay_s, handler)

    def call_every(self, interval_s: float, handler: Handler) -> None:
        """Call `handler` every `interval_s` seconds from now on, for the life of the loop."""

        def again() -> None:
            self.call_after(interval_s, again)
            handler()

        self.call_after(interval_s, again)

    def run(self, end_of_turn: Handler) -> None:
        """Turn until `stop` was called; the turn in which that happens is finished."""
        self._running = True
        while self._running:
            self.turn(end_of_turn)

    def stop(self) -> None:
        self._running = False

    def turn(self, end_of_turn: Handler) -> None:
        for source, _ in self._poller.poll(self._patience_ms()):
            reader = self._readers.get(source)
            if reader is not None:  # an earlier reader of this turn may have forgotten it
                reader()
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.handler is not None:
                timer.handler()
        end_of_turn()

    def close(self) -> None:
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            for number in self._signals:
                signal.signal(number, signal.SIG_DFL)
            for descriptor in self._wakeup:
                os.close(descriptor)
            self._wakeup = None
        if self._children >= 0:
            os.close(self._children)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._children = -1

    def _read_children(self, handler: Handler) -> None:
        os.read(self._children, 65536)
        handler()

    def _patience_ms(self) -> int | None:
        while self._timers and self._timers[0][2].handler is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        left_s = self._timers[0][0] - self.clock()
        # Rounded up: waking just before a timer is due would spin. What is due already is work that waits for its next slice.
        return int(left_s * 1000) + 1 if left_s > 0 else 0

    def _read_signals(self) -> None:
        assert self._wakeup is not None
        seen = set(os.read(self._wakeup[0], 65536))
        for handler in {handler: None for number, handler in self._signals.items() if number in seen}:
            handler()


def _noted_by_wakeup_descriptor(number: int, frame: object) -> None:
    """Installed so that Python writes the signal number to the wakeup descriptor instead of dying."""
