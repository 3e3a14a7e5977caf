"""Whether the pilot ends: `closing` when its end was asked for, `stopping` from when tasks are stopped for it.

Both only ever become true. Whoever has something to do at the stop registers it with `on_stop`; whoever wants the pilot to end
calls `stop`. So neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable

from ..model.errors import EndingError


class Shutdown:
    def __init__(self) -> None:
        self.closing = False
        """The end was asked for: it comes when the work is done."""
        self.stopping = False
        """Agents are being stopped; nothing is started or accepted any more."""
        self.exit_code = 0
        self._at_stop: list[Callable[[], None]] = []

    def on_stop(self, act: Callable[[], None]) -> None:
        """Call `act` once, when the pilot stops."""
        self._at_stop.append(act)

    def begin_closing(self) -> None:
        """Raises EndingError when the end was asked for before."""
        if self.closing:
            raise EndingError("Finish request already requested")
        self.closing = True

    def stop(self, exit_code: int) -> None:
        """Stop tasks (they stay queued for a resume), agents, then the loop; only the first call counts."""
        if self.stopping:
            return
        self.closing = self.stopping = True
        self.exit_code = exit_code
        for act in self._at_stop:
            act()
