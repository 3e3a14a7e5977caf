"""How fast work gets done, and how long the rest will take: for those who look at a pilot, and for the pilot itself."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
_STEP_S = 1.0


class Rate:
    """Fed now and then with how much has ended so far; `now` by a clock that never goes back.

    The rate is that of the last minute. When nothing has ended in it, as with tasks that take longer, it is that of all the
    time since the first look.
    """

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._looks: deque[tuple[float, int]] = deque()

    def note(self, now: float, ended: int) -> None:
        """Take down how much has ended; never less than before, unless it was forgotten, which begins anew."""
        if self._first is None or ended < self._looks[-1][1]:
            self._first = now, ended
            self._looks.clear()
        elif len(self._looks) > 1 and now - self._looks[-2][0] < _STEP_S:
            self._looks.pop()
        self._looks.append((now, ended))
        while len(self._looks) > 2 and now - self._looks[1][0] >= WINDOW_S:
            self._looks.popleft()

    @property
    def per_s(self) -> float | None:
        """What ends in a second; None while nothing has."""
        if self._first is None:
            return None
        last = self._looks[-1]
        for since in (self._looks[0], self._first):
            if last[0] > since[0] and last[1] > since[1]:
                return (last[1] - since[1]) / (last[0] - since[0])
        return None

    def left_s(self, count: int) -> float | None:
        """In how many seconds `count` more will have ended at this rate; None when that cannot be said."""
        per_s = self.per_s
        return None if per_s is None else count / per_s
