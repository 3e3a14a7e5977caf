"""Calls that are sent together: a job of the pilot, what stands for it here, and its bytes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import msgpack

from ...pilot.functions import values
from ...pilot.wire import replies
from .functions import Code
from .future import Future, settle, settle_with_error
from .inputs import Slot
from .options import Options

KEY_BYTES = 12
_KEPT_CALLS = 20_000
"""Ended calls that the pilot still knows, so that one can ask what became of them."""
_MOST_REMOVED = 100


class Call(NamedTuple):
    """One call that waits to be sent.

    `how`: with its arguments, or with each of them (functions/worker.py); `slots`: the futures among them.
    """

    future: Future[Any]
    code: Code
    how: int
    arguments: bytes
    options: Options
    slots: Sequence[Slot] = ()
    key: bytes = b""
    """What it is, for an executor that is to find its calls again."""


class SentJob:
    """Calls that were sent together."""

    __slots__ = ("files", "found", "futures", "left", "needs")

    def __init__(self, calls: Sequence[Call], needs: Sequence[Future[Any]]) -> None:
        self.found: dict[int, tuple[bytes, str]] | None = None
        self.futures: list[Future[Any] | None] = [call.future for call in calls]
        self.left = len(calls)
        self.files = [path for call in calls if (path := values.file_of(call.arguments)) is not None]
        """Of large arguments: they are needed until all calls are over, which may be tried again."""
        self.needs = needs
        """Futures whose results it takes from the pilot."""

    @classmethod
    def of_earlier_life(cls, count: int) -> SentJob:
        """One whose calls nobody waits for yet; `found`: the results and states of those that have ended."""
        job = cls([], ())
        job.futures, job.left, job.found = [None] * count, count, {}
        return job

    def now_runs(self, positions: Sequence[int]) -> None:
        """The pilot tells that these execute."""
        for pos in positions:
            future = self.futures[pos]
            if future is not None:
                future.now_runs()

    def settle(self, ends: replies.CallEnds, lock: AbstractContextManager[Any], *, keep: bool) -> int:
        """Give the futures their ends, each taken out under the `lock`; returns how many had one.

        Of an earlier life also those that nobody waits for are kept, in `found`. `keep`: files that have values.
        """
        count = 0
        for place, pos in enumerate(ends.pos or range(len(self.futures))):
            with lock:
                future, self.futures[pos] = self.futures[pos], None
                if future is None:
                    if self.found is not None and (ends.pos or pos not in self.found):
                        self.found[pos] = (ends.values[place] if ends.values else b"", ends.state)
                    continue
            count += 1
            value = ends.values[place] if ends.values else b""
            if ends.state == "SUCCEED":
                settle(future, value, keep=keep)
            else:
                settle_with_error(future, value, ends.message, ends.state, self.needs)
        self.left -= count
        return count

    def end(self) -> None:
        """All its calls are over, or it was refused."""
        for future in self.needs:
            future.drop_dependent()
        for path in self.files:
            with suppress(OSError):
                os.unlink(path)


class EndedJobs:
    """Jobs whose calls are all over, and which the pilot still knows."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[str, int]] = deque()
        self._count = 0
        """Of their calls."""

    def add(self, name: str, count: int) -> None:
        self._jobs.append((name, count))
        self._count += count

    def oldest(self) -> list[str]:
        """Those that the pilot need not know any more, because there are too many; they are no longer in here."""
        names: list[str] = []
        while self._count > _KEPT_CALLS and len(names) < _MOST_REMOVED:
            name, count = self._jobs.popleft()
            self._count -= count
            names.append(name)
        return names


def data_of(calls: Sequence[Call], given: Sequence[bytes | int]) -> bytes:
    """Functions and arguments as function workers read them. `given`: values, or places among what other calls return."""
    places: dict[bytes, int] = {}
    functions: list[tuple[bytes, bytes]] = []
    entries = []
    for call in calls:
        place = places.get(call.code.digest)
        if place is None:
            place = places[call.code.digest] = len(functions)
            functions.append((call.code.digest, call.code.data))
        slots = [(number, slot.path) for number, slot in enumerate(call.slots)]
        entries.append((place, call.how, call.arguments, slots))
    packed: bytes = msgpack.packb((functions, entries, given))
    return packed
