"""fdatasync beside the loop: one thread that does nothing else.

A busy parallel file system can take seconds for it, and there is no call that syncs without waiting: io_uring is not
everywhere, and a helper process would have to be given each new descriptor. So this is the one thread of the manager (while the
journal is compacted, compacting.py has another one). It shares nothing with the loop: it gets a function to call, and says
through a pipe that it has returned. Whatever follows from that happens in the loop. It never holds up the end of the process
either (a daemon): what was written survives that, and only a crash of the machine at that moment could lose what nobody was
promised.

Each submit waits for a sync, so the two threads must not wait for each other's interpreter lock: it costs more than the sync.
The thread takes the lock twice for each call, while the loop waits in its poll: when an order has come, and when the call has
returned. The second time it keeps the lock until it waits for the next order (`_say`), as by then the loop has woken up.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import signal
import time
from collections.abc import Callable
from threading import Thread

_say = ctypes.PyDLL(None).write
"""As os.write, which would let go of the interpreter's lock and then have to take it from the loop."""
_ORDER = b"."
_MOMENT_S = 0.002
"""Less than what another turn of the loop costs everybody."""


class DiskSync:
    """Calls one function at a time. `readable` is a descriptor that can be read when a call has returned."""

    def __init__(self) -> None:
        self.readable, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.runs = False
        """A call was begun, and its end has not been taken yet."""
        self._orders, self._order = os.pipe2(os.O_CLOEXEC)
        self._act: Callable[[], None] = lambda: None
        self._error: OSError | None = None
        self._began_s = 0.0
        self._took_s = math.inf
        """How long it took until the end of the last call was taken."""
        self._thread: Thread | None = None

    def begin(self, act: Callable[[], None]) -> None:
        """Call `act`, which may raise OSError; only when nothing runs."""
        assert not self.runs
        if self._thread is None:
            self._thread = Thread(target=self._work, name="disk-sync", daemon=True)
            self._thread.start()
        self.runs = True
        self._began_s = time.monotonic()
        self._act = act
        os.write(self._order, _ORDER)

    def end(self) -> OSError | None:
        """The call has returned, as `readable` or `wait` has told: its error, if it had one."""
        os.read(self.readable, 1)
        self.runs = False
        self._took_s = time.monotonic() - self._began_s
        error, self._error = self._error, None
        return error

    def wait(self, patience_s: float) -> bool:
        """Whether the call has returned, at the latest after this time."""
        return bool(select.select([self.readable], [], [], max(0.0, patience_s))[0])

    def ends_at_once(self) -> bool:
        """Wait for a moment, if the last call took no longer; whether this one has returned.

        It spares the loop a turn. A slow disk is not waited for, nor any while the loop has much to do and so comes late.
        """
        return self._took_s < _MOMENT_S and self.wait(_MOMENT_S)

    def close(self) -> None:
        """Let the thread end, when it has done what it does now."""
        os.close(self._order)
        if not self.runs:
            if self._thread is not None:
                self._thread.join()
            for descriptor in (self._orders, self.readable, self._tell):
                os.close(descriptor)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the loop's
        while os.read(self._orders, 1):
            try:
                self._act()
            except OSError as error:
                self._error = error
            _say(self._tell, _ORDER, 1)
