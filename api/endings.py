"""Endings of jobs and iterations, each told once, from the ring of past events that a pilot keeps for its clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

_FINAL = frozenset({"SUCCEED", "FAILED", "CANCELED", "OMITTED"})


class Endings:
    """Nothing is subscribed to between calls, so a program that never asks costs the pilot nothing.

    Args:
        seq: number of the last event that is not of interest.
    """

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._known: deque[tuple[str, str]] = deque()

    def next(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, str] | None:
        """(name, state) of the oldest ending not told yet, None when there is none now; what the ring lost is skipped.

        `ask` sends a request and returns its data.
        """
        while not self._known:
            data = ask({"request": "events", "after": self._seq})
            events = data["events"]
            if not events:
                self._seq = data["last"]
                return None
            self._seq = events[-1]["seq"]
            self._known.extend((_name(event), event["state"]) for event in events if event["state"] in _FINAL)
        return self._known.popleft()


def _name(event: dict[str, Any]) -> str:
    job, it = event["job"], event.get("it")
    return job if it is None else f"{job}:{it}"
